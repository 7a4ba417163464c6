"""The recent past as the console draws it: numbers with their history, orders per minute, breaker bands.

Pure. Source: console page Overview; seed 10.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from services.breakers.overview import Band
from services.metrics.math import Interval, Known, SampleRow, binned, increments, last_gauges, total

BIN = timedelta(seconds=30)
BINS = 60
SPAN = BIN * BINS
"""Half an hour."""
CHECK, RESERVE, RELEASE = "check_availability", "reserve", "release"
QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Trend:
    """A number, what it was one window earlier, and its course."""

    now: float | None = None
    before: float | None = None
    series: tuple[float, ...] = ()

    @property
    def change(self) -> float | None:
        return None if self.now is None or self.before is None else self.now - self.before


@dataclass(frozen=True, slots=True)
class OperationTrend:
    """How one operation of the Inventory Service goes."""

    calls: int = 0
    """Calls within the window."""
    technical: Trend = field(default_factory=Trend)
    business: Trend = field(default_factory=Trend)
    p95: Trend = field(default_factory=Trend)
    latency_seconds: Mapping[float, float | None] = field(default_factory=dict)
    """Per quantile, within the window."""


@dataclass(frozen=True, slots=True)
class Trends:
    """The last half hour."""

    sampled_at: datetime | None
    """Time of the newest sample; None when there is none."""
    window: timedelta
    operations: Mapping[str, OperationTrend]
    queues: Mapping[str, tuple[float, ...]]
    """Course per queue: reservation, release, outbox, reviews, deadLetters, outboxAge."""
    orders_per_minute: tuple[tuple[datetime, Mapping[str, float]], ...]
    """Per bin: orders that reached each status, scaled to one minute."""
    bands: tuple[Band, ...]
    failures: Mapping[str, int] = field(default_factory=dict)
    """Orders that failed because of inventory within the window, by reason."""


def trends(
    rows: Sequence[SampleRow], bands: Iterable[Band], now: datetime, window: timedelta, known: Known | None = None
) -> Trends:
    """Everything the pages draw of the past, from samples (oldest first) and breaker bands.

    ``known`` keeps what was worked out for the next time; see increments().
    """
    steps = increments(rows, known=known)
    start = _floor(now, BIN) - SPAN
    bins = binned(steps, start, BINS, BIN, known)
    recent = total(steps, now - window)
    earlier = total([step for step in steps if step[0] <= now - window], now - 2 * window)
    return Trends(
        sampled_at=rows[-1][0] if rows else None,
        window=window,
        operations={name: _operation(name, recent, earlier, bins) for name in (CHECK, RESERVE, RELEASE)},
        queues=_queues(last_gauges(rows, start, BINS, BIN)),
        orders_per_minute=tuple(_per_minute(bins, steps)),
        bands=tuple(bands),
        failures=dict(recent.failures),
    )


def _floor(at: datetime, width: timedelta) -> datetime:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return epoch + (at - epoch) // width * width


def _operation(
    name: str, recent: Interval, earlier: Interval, bins: Sequence[tuple[datetime, Interval]]
) -> OperationTrend:
    def trend(measure: Callable[[Interval], float | None]) -> Trend:
        course = (measure(interval) for _, interval in bins)
        return Trend(measure(recent), measure(earlier), tuple(value for value in course if value is not None))

    return OperationTrend(
        calls=recent.calls(name),
        technical=trend(lambda interval: interval.technical_rate(name)),
        business=trend(lambda interval: interval.business_rate(name)),
        p95=trend(lambda interval: interval.latency_seconds(name, 0.95)),
        latency_seconds={quantile: recent.latency_seconds(name, quantile) for quantile in QUANTILES},
    )


def _queues(gauges: Sequence[dict[str, float] | None]) -> dict[str, tuple[float, ...]]:
    seen = [values for values in gauges if values]
    names = {name for values in seen for name in values}
    return {name: tuple(values.get(name, 0.0) for values in seen) for name in names}


def _per_minute(
    bins: Sequence[tuple[datetime, Interval]], steps: Sequence[tuple[datetime, Interval]]
) -> Iterable[tuple[datetime, Mapping[str, float]]]:
    """Bins before the first sample are left out: nothing is known of them, which is not zero."""
    if not steps:
        return
    first, last = steps[0][0], steps[-1][0]
    for start, interval in bins:
        if start + BIN > first and start <= last:
            yield start, {status: count * (60 / BIN.total_seconds()) for status, count in interval.orders.items()}
