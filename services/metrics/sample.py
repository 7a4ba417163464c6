"""Metric samples: what a replica stores every few seconds, their growth, and the window that alerts evaluate. Pure.

A sample holds counters, which only grow until the process restarts, and gauges. Counters are compared per replica and
added over replicas. Source: requirements 10; contract 6.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import inf
from typing import Any

from services.domain.external import time_or_none
from services.metrics.catalogue import COUNTERS, DURATION, LATENCY_BUCKETS
from services.metrics.expressions import Point, SeriesValue, increase
from services.metrics.gauges import GaugeValues

SampleRow = tuple[datetime, str, Mapping[str, Any]]
"""``(at, replica, sample)`` as stored."""

CounterKey = tuple[str, ...]
"""Name of a counter, then its label values."""

BOUNDS = (*LATENCY_BUCKETS, inf)

ODD = (TypeError, ValueError, AttributeError, KeyError, ArithmeticError)
"""Errors that reading a stored sample with another structure raises."""

_SERIES = {
    family.name: [((family.name, *values), dict(zip(family.labels, values, strict=True))) for values in family.values]
    for family in COUNTERS
}
"""Key and labels of every series, by counter."""


@dataclass(slots=True)
class Counts:
    """Counters and latencies, since the start of a process or within an interval; MetricData for expressions."""

    counters: Counter[CounterKey] = field(default_factory=Counter)
    buckets: dict[str, list[int]] = field(default_factory=dict)
    """Cumulative latency buckets per inventory call, one count per element of BOUNDS; the last one counts all calls."""

    def add(self, other: Counts) -> None:
        _add(self.counters, other.counters)
        for operation, counts in other.buckets.items():
            mine = self.buckets.setdefault(operation, [0] * len(counts))
            # A histogram with an earlier set of bounds cannot be added.
            if len(mine) == len(counts):
                self.buckets[operation] = [a + b for a, b in zip(mine, counts, strict=True)]

    def increases(self, metric: str) -> Iterator[SeriesValue]:
        """The count of every series of a counter, 0 for a series that was never counted, as in a scrape.

        If a series appeared only with its first failure, that failure would not count as growth.
        """
        for key, labels in _SERIES.get(metric, ()):
            yield labels, float(self.counters.get(key, 0))
        if metric.startswith(DURATION):
            yield from self._latency(metric)

    def gauges(self, _metric: str) -> tuple[SeriesValue, ...]:
        """Return nothing: Counts has no gauges."""
        return ()

    def _latency(self, metric: str) -> Iterator[SeriesValue]:
        for operation, counts in self.buckets.items():
            if metric == f"{DURATION}_count":
                yield {"operation": operation}, float(counts[-1])
            elif len(counts) == len(BOUNDS):
                for bound, count in zip(BOUNDS, counts, strict=True):
                    yield {"operation": operation, "le": "+Inf" if bound == inf else str(bound)}, float(count)


def _add(mine: MutableMapping[CounterKey, int], more: Mapping[CounterKey, int]) -> None:
    # Takes a third of the time of Counter.update; half an hour of samples is summed every few seconds.
    for key, count in more.items():
        mine[key] = mine.get(key, 0) + count


def stored_counters(counters: Mapping[CounterKey, int]) -> dict[str, Any]:
    """Counters as samples and rollups store them, by family; zeros are left out."""
    found: dict[str, Any] = {family.stored: {} for family in COUNTERS}
    families = {family.name: family.stored for family in COUNTERS}
    for (name, *values), count in counters.items():
        if count:
            place = found[families[name]]
            for value in values[:-1]:
                place = place.setdefault(value, {})
            place[values[-1]] = count
    return found


def counters_of(stored: Mapping[str, Any]) -> Counter[CounterKey]:
    """The counters that stored_counters() wrote; raises ODD."""
    found: Counter[CounterKey] = Counter()
    for family in COUNTERS:
        for values, count in _leaves(stored.get(family.stored, {}), len(family.labels)):
            found[(family.name, *values)] = int(count)
    return found


def _leaves(nested: Mapping[str, Any], depth: int) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in nested.items():
        if depth == 1:
            yield (name,), value
        else:
            for values, leaf in _leaves(value, depth - 1):
                yield (name, *values), leaf


@dataclass(frozen=True, slots=True)
class MetricSample:
    """One stored sample of one replica."""

    at: datetime
    replica: str
    started_at: datetime | None
    """Start of the process that stored the sample."""
    counts: Counts | None
    """Counts since the start of the process; None when another version stored them in an unknown structure."""
    gauges: Mapping[str, float]
    """Values by stored name; ages in seconds."""
    breakers: Mapping[str, str]
    """State by breaker."""


def parse(row: SampleRow) -> MetricSample:
    """Parse a stored row; a part with an unknown structure is left out."""
    at, replica, stored = row
    breakers = stored.get("breakers")
    return MetricSample(
        at,
        replica,
        time_or_none(stored.get("startedAt")),
        _counts(stored),
        _gauges(stored),
        breakers if isinstance(breakers, dict) else {},
    )


def _counts(stored: Mapping[str, Any]) -> Counts | None:
    try:
        latencies = stored.get("latency", {}).items()
        buckets = {operation: [int(count) for count in latency["buckets"]] for operation, latency in latencies}
        return Counts(counters_of(stored), buckets)
    except ODD:
        return None


def _gauges(stored: Mapping[str, Any]) -> dict[str, float]:
    try:
        age = float(stored.get("outboxOldestAgeSeconds") or 0)
        return {name: float(value or 0) for name, value in stored.get("queues", {}).items()} | {"outboxAge": age}
    except ODD:
        return {}


def increments(
    samples: Iterable[MetricSample], since: datetime | None = None, known: Known | None = None
) -> list[tuple[MetricSample, Counts]]:
    """Each sample with its growth over the previous sample of the same replica, oldest first.

    The process restarted when a counter fell or its start time changed: then all counts of the sample are growth.
    The first sample of a process is all growth too when the process started after ``since``; ``samples`` must be
    complete from ``since`` on. The first sample of any other process may hold years of calls and adds no growth.
    ``known`` supplies increments computed earlier; afterwards it holds those of these samples only.
    """
    before: dict[str, MetricSample | None] = {}
    found = []
    used: dict[tuple[str, datetime | None, datetime], Counts] = {}
    for sample in samples:
        earlier = before.get(sample.replica)
        is_new = since is not None and sample.started_at is not None and sample.started_at >= since
        if earlier is not None or is_new:
            key = (sample.replica, earlier.at if earlier else None, sample.at)
            counts = known.increments.get(key) if known else None
            used[key] = counts if counts is not None else _increment(earlier, sample)
            found.append((sample, used[key]))
        before[sample.replica] = sample
    if known is not None:
        known.increments = used
    return found


@dataclass(frozen=True, slots=True)
class Bin:
    """A step of a time series: its increments, their sum, and the values of the drawn metrics."""

    parts: tuple[Counts, ...]
    counts: Counts
    values: Mapping[str, Mapping[str, float]]
    """Values by metric and series."""


@dataclass(slots=True)
class Known:
    """Results of the last computation, for reuse: samples never change. Do not change its values."""

    rows: dict[tuple[datetime, str], Mapping[str, Any]] = field(default_factory=dict)
    """Stored samples, by time and replica."""
    samples: dict[tuple[datetime, str], MetricSample] = field(default_factory=dict)
    increments: dict[tuple[str, datetime | None, datetime], Counts] = field(default_factory=dict)
    """Increments by replica and the times of both samples."""
    bins: dict[datetime, Bin] = field(default_factory=dict)
    """Bins by start."""

    def parsed(self, rows: Iterable[SampleRow]) -> list[MetricSample]:
        """The samples of these rows; afterwards ``rows`` holds only these."""
        self.samples = {row[:2]: self.samples.get(row[:2]) or parse(row) for row in rows}
        return list(self.samples.values())


def _increment(before: MetricSample | None, after: MetricSample) -> Counts:
    """The growth between two samples; ``before`` is None when the process has just started."""
    old, new = before.counts if before else Counts(), after.counts
    if old is None or new is None:
        return Counts()
    base = Counts() if before and _has_restarted(before, old, after, new) else old
    counters = Counter({key: count - base.counters.get(key, 0) for key, count in new.counters.items()})
    buckets = {}
    for operation, counts in new.buckets.items():
        past = base.buckets.get(operation, ())
        if len(past) != len(counts):
            past = [0] * len(counts)
        buckets[operation] = [a - b for a, b in zip(counts, past, strict=True)]
    return Counts(counters, buckets)


def _has_restarted(before: MetricSample, old: Counts, after: MetricSample, new: Counts) -> bool:
    return before.started_at != after.started_at or any(
        new.counters.get(key, 0) < count for key, count in old.counters.items()
    )


MOST_POINTS = 720
"""Maximum of points of one series; a longer window keeps points with more time between them."""

SeriesKey = tuple[str, tuple[tuple[str, str], ...]]
"""Metric and labels."""

COUNTER_NAMES = (*(family.name for family in COUNTERS), f"{DURATION}_count", f"{DURATION}_bucket")


@dataclass(frozen=True, slots=True)
class Series:
    """One metric with one set of labels of one process, oldest point first."""

    labels: Mapping[str, str]
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class MetricWindow:
    """The metrics of the window that ends at one instant; MetricData for expressions."""

    at_ms: int
    window_ms: int
    counters: Mapping[str, Sequence[Series]] = field(default_factory=dict)
    """Series by metric; points outside of the window are ignored."""
    present: GaugeValues = field(default_factory=dict)
    """Current values of the gauges."""

    def increases(self, metric: str) -> Iterator[SeriesValue]:
        for series in self.counters.get(metric, ()):
            grown = increase(series.points, self.at_ms - self.window_ms, self.at_ms)
            if grown is not None:
                yield series.labels, grown

    def gauges(self, metric: str) -> Iterable[SeriesValue]:
        return self.present.get(metric, ())


class SampleWindow:
    """Stores the counters of all replicas within the window."""

    def __init__(self, window: timedelta) -> None:
        self._window_ms = window // timedelta(milliseconds=1)
        self._spacing_ms = max(self._window_ms // MOST_POINTS, 1)
        self._points: dict[SeriesKey, deque[Point]] = {}
        self._fed_ms: dict[str, int] = {}

    def feed(self, rows: Iterable[SampleRow]) -> None:
        """Add samples ``(at, replica, sample)``, oldest first; samples added before are skipped."""
        for row in rows:
            at_ms, replica = _milliseconds(row[0]), row[1]
            if replica in self._fed_ms and at_ms < self._fed_ms[replica] + self._spacing_ms:
                continue
            self._fed_ms[replica] = at_ms
            for name, labels, value in counters(parse(row)):
                key = (name, (*labels.items(), ("instance", replica)))
                self._points.setdefault(key, deque()).append((at_ms, value))

    def at(self, now: datetime, gauges: GaugeValues) -> MetricWindow:
        """The metrics of the window that ends now; points before the window are dropped."""
        at_ms = _milliseconds(now)
        self._drop(at_ms - self._window_ms)
        found: dict[str, list[Series]] = {}
        for (name, labels), points in self._points.items():
            found.setdefault(name, []).append(Series(dict(labels), points))
        return MetricWindow(at_ms, self._window_ms, found, gauges)

    def _drop(self, before_ms: int) -> None:
        for key, points in list(self._points.items()):
            while points and points[0][0] < before_ms:
                points.popleft()
            if not points:
                del self._points[key]
        self._fed_ms = {replica: at_ms for replica, at_ms in self._fed_ms.items() if at_ms >= before_ms}


def counters(sample: MetricSample) -> Iterator[tuple[str, Mapping[str, str], float]]:
    """``(metric, labels, value)`` of every counter of a sample; empty for a sample with an unknown structure."""
    if sample.counts is not None:
        for name in COUNTER_NAMES:
            for labels, value in sample.counts.increases(name):
                yield name, labels, value


def _milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)
