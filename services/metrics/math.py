"""What happened between samples: increments of counters, success rates, quantiles, series.

Pure. A sample is what one replica stores every few seconds: counters that only grow until its
process restarts, and gauges. Counters are compared per replica and added over replicas.
Source: seed 10; contract section 6.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from services.domain.external import time_or_none
from services.metrics.sample import LATENCY_BUCKETS

ANSWERED = ("success", "rejected")
"""Outcomes in which the Inventory Service did its work; a refusal is an answer, not a fault."""

SampleRow = tuple[datetime, str, Mapping[str, Any]]
"""``(at, replica, sample)``."""


@dataclass(slots=True)
class Interval:
    """What was counted between two instants, over all replicas."""

    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Per (operation, outcome)."""
    buckets: dict[str, list[int]] = field(default_factory=dict)
    """Cumulative latency buckets per operation."""
    orders: Counter[str] = field(default_factory=Counter)
    """Per status reached."""
    failures: Counter[str] = field(default_factory=Counter)
    """Per reason."""
    releases: Counter[str] = field(default_factory=Counter)
    """Attempts to release, per outcome."""

    def add(self, other: Interval) -> None:
        _add(self.requests, other.requests)
        _add(self.orders, other.orders)
        _add(self.failures, other.failures)
        _add(self.releases, other.releases)
        for operation, counts in other.buckets.items():
            mine = self.buckets.setdefault(operation, [0] * len(counts))
            # Histograms from before the buckets were changed cannot be added to those of today.
            if len(mine) == len(counts):
                self.buckets[operation] = [a + b for a, b in zip(mine, counts, strict=True)]

    def calls(self, operation: str) -> int:
        return sum(count for (name, _), count in self.requests.items() if name == operation)

    def technical_rate(self, operation: str) -> float | None:
        """Answered calls over all calls, those refused by an open breaker included; None without calls."""
        return _ratio(sum(self.requests[operation, outcome] for outcome in ANSWERED), self.calls(operation))

    def business_rate(self, operation: str) -> float | None:
        """Calls that got what they asked for, over the answered ones; None when none was answered."""
        answered = sum(self.requests[operation, outcome] for outcome in ANSWERED)
        return _ratio(self.requests[operation, "success"], answered)

    def latency_seconds(self, operation: str, quantile: float) -> float | None:
        return quantile_of(self.buckets.get(operation, ()), quantile)


def _add(mine: MutableMapping[Any, int], more: Mapping[Any, int]) -> None:
    # A third of the time of Counter.update: half an hour of samples is added up every few seconds.
    for key, count in more.items():
        mine[key] = mine.get(key, 0) + count


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def quantile_of(counts: Sequence[int], quantile: float) -> float | None:
    """The quantile in seconds, interpolated within its bucket; None of an empty histogram.

    What lies beyond the last bound is reported as the last bound.
    """
    if not counts or not counts[-1]:
        return None
    rank = quantile * counts[-1]
    lower, below = 0.0, 0
    for bound, count in zip(LATENCY_BUCKETS, counts, strict=False):
        if count >= rank and count > below:
            return lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound, count
    return LATENCY_BUCKETS[-1]


@dataclass(slots=True)
class Known:
    """What was read and worked out the last time; samples never change. Its values are not to be changed."""

    samples: dict[tuple[datetime, str], Mapping[str, Any]] = field(default_factory=dict)
    """By time and replica."""
    increments: dict[tuple[str, datetime | None, datetime], Interval] = field(default_factory=dict)
    """By replica and the times of both samples."""
    bins: dict[datetime, tuple[tuple[Interval, ...], Interval]] = field(default_factory=dict)
    """Per start of a bin what was added up, and its sum."""


def increments(
    rows: Iterable[SampleRow], since: datetime | None = None, known: Known | None = None
) -> list[tuple[datetime, Interval]]:
    """What each sample adds to the one before it of the same replica, oldest first.

    A counter that fell, or another ``startedAt``, shows that the replica restarted: then everything it shows is
    new. So is the first sample of a replica that started after ``since``, the time from which on ``rows`` is
    complete; the first sample of any other replica may hold years of calls and adds nothing.
    ``known`` is used, and afterwards holds the increments of these rows and no others.
    """
    return [(at, interval) for at, _, interval in increments_by_replica(rows, since, known)]


def increments_by_replica(
    rows: Iterable[SampleRow], since: datetime | None = None, known: Known | None = None
) -> list[tuple[datetime, str, Interval]]:
    """The same, with the replica that counted."""
    before: dict[str, tuple[datetime | None, Mapping[str, Any]]] = {}
    found = []
    used: dict[tuple[str, datetime | None, datetime], Interval] = {}
    for at, replica, sample in rows:
        earlier, old = before.get(replica, (None, None))
        if old is None and since is not None and _started_after(sample, since):
            old = {}
        if old is not None:
            key = (replica, earlier, at)
            interval = known.increments.get(key) if known else None
            used[key] = interval if interval is not None else _increment(old, sample)
            found.append((at, replica, used[key]))
        before[replica] = at, sample
    if known is not None:
        known.increments = used
    return found


def _started_after(sample: Mapping[str, Any], since: datetime) -> bool:
    started = time_or_none(sample.get("startedAt"))
    return started is not None and started >= since


ODD = (TypeError, ValueError, AttributeError, KeyError, ArithmeticError)
"""What reading a stored sample of another shape raises; it then counts as one that says nothing."""


def _increment(old: Mapping[str, Any], new: Mapping[str, Any]) -> Interval:
    try:
        return _counted(old, new)
    except ODD:
        return Interval()


def _counted(old: Mapping[str, Any], new: Mapping[str, Any]) -> Interval:
    base = {} if _restarted(old, new) else old
    interval = Interval()
    for operation, outcomes in new.get("requests", {}).items():
        past = base.get("requests", {}).get(operation, {})
        for outcome, count in outcomes.items():
            interval.requests[operation, outcome] = int(count - past.get(outcome, 0))
    counters = (("orders", interval.orders), ("failures", interval.failures), ("releases", interval.releases))
    for name, target in counters:
        for key, count in new.get(name, {}).items():
            target[key] = int(count - base.get(name, {}).get(key, 0))
    for operation, latency in new.get("latency", {}).items():
        counts = latency["buckets"]
        past_counts = base.get("latency", {}).get(operation, {}).get("buckets")
        if past_counts is None or len(past_counts) != len(counts):
            past_counts = [0] * len(counts)
        interval.buckets[operation] = [int(a - b) for a, b in zip(counts, past_counts, strict=False)]
    return interval


def _restarted(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    if old.get("startedAt") != new.get("startedAt"):
        return True
    pairs = [(old.get(name, {}), new.get(name, {})) for name in ("orders", "failures", "releases")]
    requests = new.get("requests", {})
    pairs += [(outcomes, requests.get(operation, {})) for operation, outcomes in old.get("requests", {}).items()]
    return any(after.get(key, 0) < count for before, after in pairs for key, count in before.items())


def total(steps: Iterable[tuple[datetime, Interval]], since: datetime) -> Interval:
    """Everything counted after ``since``."""
    interval = Interval()
    for at, step in steps:
        if at > since:
            interval.add(step)
    return interval


def binned(
    steps: Iterable[tuple[datetime, Interval]], start: datetime, bins: int, width: timedelta, known: Known | None = None
) -> list[tuple[datetime, Interval]]:
    """``(start of bin, interval)`` for ``bins`` equal bins from ``start`` on; empty ones included.

    ``known`` is used, and afterwards holds these bins and no others.
    """
    parts: list[list[Interval]] = [[] for _ in range(bins)]
    for at, step in steps:
        number = (at - start) // width
        if 0 <= number < bins:
            parts[number].append(step)
    before = known.bins if known else {}
    sums = {start + number * width: tuple(some) for number, some in enumerate(parts)}
    found = {at: (some, _sum(some, before.get(at))) for at, some in sums.items()}
    if known is not None:
        known.bins = found
    return [(at, interval) for at, (_, interval) in found.items()]


def _sum(parts: tuple[Interval, ...], known: tuple[tuple[Interval, ...], Interval] | None) -> Interval:
    if known is not None and known[0] == parts:
        return known[1]
    interval = Interval()
    for part in parts:
        interval.add(part)
    return interval


def last_gauges(
    rows: Iterable[SampleRow], start: datetime, bins: int, width: timedelta
) -> list[dict[str, float] | None]:
    """The last gauges seen in each bin; a bin without a sample keeps those of the bin before.

    Queues are shared by all replicas, so the newest sample speaks for all of them.
    """
    last: list[Mapping[str, Any] | None] = [None] * bins
    for at, _, sample in rows:
        number = (at - start) // width
        if 0 <= number < bins:
            last[number] = sample
    found: list[dict[str, float] | None] = []
    for seen in last:
        found.append(gauges_of(seen) if seen is not None else found[-1] if found else None)
    return found


def gauges_of(sample: Mapping[str, Any]) -> dict[str, float]:
    """What waited when the sample was taken, and the age of the oldest event in seconds."""
    try:
        return _gauges(sample)
    except ODD:
        return {}


def _gauges(sample: Mapping[str, Any]) -> dict[str, float]:
    age = sample.get("outboxOldestAgeSeconds") or 0
    return {name: float(value or 0) for name, value in sample.get("queues", {}).items()} | {"outboxAge": float(age)}
