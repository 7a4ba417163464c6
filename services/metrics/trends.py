"""The last half hour as Overview and Breakers draw it: numbers with their history, orders per minute, breaker bands.

Pure. Source: requirements 11, page Overview; requirements 10.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.breakers.overview import Band, interruptions
from services.domain.calls import InventoryCall
from services.metrics.catalogue import (
    BUSINESS_RATE,
    CALLS,
    FAILURES_BY_REASON,
    LATENCY,
    ORDERS_BY_STATUS,
    SUCCESS_RATE,
    DrawnMetric,
)
from services.metrics.expressions import floor
from services.metrics.sample import Bin, Counts, Known, MetricSample, SampleRow, increments

BIN = timedelta(seconds=30)
BINS = 60
SPAN = BIN * BINS
"""Duration of the trends: half an hour."""
CHECK, RESERVE, RELEASE = (call.value for call in InventoryCall)


@dataclass(frozen=True, slots=True)
class Trend:
    """A number, its value one window earlier, and its time series."""

    now: float | None = None
    before: float | None = None
    series: tuple[float, ...] = ()

    @property
    def change(self) -> float | None:
        return None if self.now is None or self.before is None else self.now - self.before


@dataclass(frozen=True, slots=True)
class OperationTrend:
    """Rates and latencies of one inventory call."""

    calls: int = 0
    """Calls within the window."""
    technical: Trend = field(default_factory=Trend)
    business: Trend = field(default_factory=Trend)
    p95: Trend = field(default_factory=Trend)
    latency_seconds: Mapping[float, float | None] = field(default_factory=dict)
    """Seconds by quantile, within the window."""


@dataclass(frozen=True, slots=True)
class Trends:
    """The last half hour."""

    sampled_at: datetime | None
    """Time of the newest sample; None when there is none."""
    window: timedelta
    operations: Mapping[str, OperationTrend]
    queues: Mapping[str, tuple[float, ...]]
    """Time series per queue: reservation, release, outbox, reviews, deadLetters, outboxAge."""
    orders_per_minute: tuple[tuple[datetime, Mapping[str, float]], ...]
    """Per bin: orders that reached each status, scaled to one minute."""
    bands: tuple[Band, ...]
    failures: Mapping[str, int] = field(default_factory=dict)
    """Orders that failed because of inventory within the window, by reason."""

    @property
    def interruptions(self) -> list[tuple[datetime, datetime]]:
        """The intervals in which a breaker was not closed."""
        return interruptions(self.bands)


BINNED_METRICS = (SUCCESS_RATE, BUSINESS_RATE, LATENCY[0.95], ORDERS_BY_STATUS)

Step = tuple[MetricSample, Counts]
"""A sample and its growth over the sample before it."""


def trends(
    rows: Sequence[SampleRow], bands: Iterable[Band], now: datetime, window: timedelta, known: Known | None = None
) -> Trends:
    """The trends of samples (oldest first) and breaker bands.

    ``known`` keeps results for the next call; see increments().
    """
    known = known or Known()
    samples = known.parsed(rows)
    steps = increments(samples, known=known)
    start = floor(now, BIN) - SPAN
    bins = binned(steps, start, known)
    recent = total(steps, now - window)
    earlier = total([step for step in steps if step[0].at <= now - window], now - 2 * window)
    failures = FAILURES_BY_REASON.evaluate(recent)
    return Trends(
        sampled_at=samples[-1].at if samples else None,
        window=window,
        operations=_operations(recent, earlier, list(bins.values())),
        queues=_queues(last_gauges(samples, start)),
        orders_per_minute=tuple(_per_minute(bins, steps)),
        bands=tuple(bands),
        failures={reason: round(count) for reason, count in failures.items() if count},
    )


def total(steps: Iterable[Step], since: datetime) -> Counts:
    """Everything counted after ``since``."""
    return _sum(counts for sample, counts in steps if sample.at > since)


def binned(steps: Iterable[Step], start: datetime, known: Known) -> Mapping[datetime, Bin]:
    """Return BINS bins from ``start`` on, by their start, oldest first, empty ones included.

    ``known`` supplies bins computed earlier; afterwards it holds these bins only.
    """
    parts: list[list[Counts]] = [[] for _ in range(BINS)]
    for sample, counts in steps:
        number = (sample.at - start) // BIN
        if 0 <= number < BINS:
            parts[number].append(counts)
    found = {}
    for number, part in enumerate(parts):
        at = start + number * BIN
        before = known.bins.get(at)
        found[at] = before if before and before.parts == tuple(part) else _bin(tuple(part))
    known.bins = found
    return found


def _bin(parts: tuple[Counts, ...]) -> Bin:
    counts = _sum(parts)
    return Bin(parts, counts, {metric.name: metric.evaluate(counts) for metric in BINNED_METRICS})


def _sum(parts: Iterable[Counts]) -> Counts:
    whole = Counts()
    for part in parts:
        whole.add(part)
    return whole


def last_gauges(samples: Iterable[MetricSample], start: datetime) -> list[Mapping[str, float] | None]:
    """The last gauges of each bin; a bin without a sample has the gauges of the bin before.

    All replicas share the queues, so the newest sample of any replica is valid for all.
    """
    last: list[MetricSample | None] = [None] * BINS
    for sample in samples:
        number = (sample.at - start) // BIN
        if 0 <= number < BINS:
            last[number] = sample
    found: list[Mapping[str, float] | None] = []
    for seen in last:
        found.append(seen.gauges if seen is not None else found[-1] if found else None)
    return found


def _operations(recent: Counts, earlier: Counts, bins: Sequence[Bin]) -> dict[str, OperationTrend]:
    technical, business, p95 = (
        _trends_of(metric, recent, earlier, bins) for metric in (SUCCESS_RATE, BUSINESS_RATE, LATENCY[0.95])
    )
    calls = CALLS.evaluate(recent)
    latency = {share: metric.evaluate(recent) for share, metric in LATENCY.items()}
    return {
        call: OperationTrend(
            calls=round(calls[call]),
            technical=technical[call],
            business=business[call],
            p95=p95[call],
            latency_seconds={share: values.get(call) for share, values in latency.items()},
        )
        for call in (CHECK, RESERVE, RELEASE)
    }


def _trends_of(metric: DrawnMetric, recent: Counts, earlier: Counts, bins: Sequence[Bin]) -> dict[str, Trend]:
    now, before = metric.evaluate(recent), metric.evaluate(earlier)
    history = [one.values[metric.name] for one in bins]
    return {
        call: Trend(now.get(call), before.get(call), tuple(values[call] for values in history if call in values))
        for call in (CHECK, RESERVE, RELEASE)
    }


def _queues(gauges: Sequence[Mapping[str, float] | None]) -> dict[str, tuple[float, ...]]:
    seen = [values for values in gauges if values]
    names = {name for values in seen for name in values}
    return {name: tuple(values.get(name, 0.0) for values in seen) for name in names}


def _per_minute(bins: Mapping[datetime, Bin], steps: Sequence[Step]) -> Iterable[tuple[datetime, Mapping[str, float]]]:
    """Orders per minute by bin. Bins before the first sample are left out: their counts are unknown, not zero."""
    if not steps:
        return
    first, last = steps[0][0].at, steps[-1][0].at
    for start, one in bins.items():
        if start + BIN > first and start <= last:
            orders = one.values[ORDERS_BY_STATUS.name]
            yield start, {status: count * (60 / BIN.total_seconds()) for status, count in orders.items()}
