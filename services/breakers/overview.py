"""Circuit breakers for the console and the API: one per name over all replicas, and their states over time.

Pure. Source: contract 3 (a breaker's state is the worst over its replicas).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from services.domain.external import time_or_none
from state.breakers import BreakerTransition

CLOSED, HALF_OPEN, OPEN, FORCED_OPEN, FORCED_CLOSED = "closed", "half_open", "open", "forced_open", "forced_closed"
SEVERITY = (CLOSED, FORCED_CLOSED, HALF_OPEN, OPEN, FORCED_OPEN)
"""Breaker states, from harmless to worst."""

OPERATIONS = {
    "inventoryServiceChecker": "check_availability",
    "inventoryServiceReserver": "reserve",
    "inventoryServiceReleaser": "release",
}
"""The inventory call that each breaker guards."""


@dataclass(frozen=True, slots=True)
class ReplicaBreaker:
    """One breaker of one replica, as last reported."""

    replica: str
    name: str
    state: str
    since: datetime | None
    retry_at: datetime | None
    """When an open breaker allows a trial call."""
    calls: int
    failures: int
    threshold_percentage: float
    volume_threshold: int
    denied: int
    buckets: tuple[tuple[int, int], ...]
    """``(calls, failures)`` per bucket of the rolling window, oldest first."""

    @property
    def failure_rate(self) -> float | None:
        return self.failures / self.calls if self.calls else None


@dataclass(frozen=True, slots=True)
class Breaker:
    """One breaker over all live replicas."""

    name: str
    replicas: tuple[ReplicaBreaker, ...]

    @property
    def worst(self) -> ReplicaBreaker:
        """The breaker of the replica in the worst state; the earliest one when several are in that state."""
        severest = max(self.replicas, key=lambda replica: severity(replica.state)).state
        same = [replica for replica in self.replicas if replica.state == severest]
        return min(
            same, key=lambda replica: (replica.since is None, replica.since or replica.retry_at, replica.replica)
        )

    @property
    def state(self) -> str:
        return self.worst.state

    @property
    def retry_at(self) -> datetime | None:
        """When the first replica with an open breaker allows a trial call."""
        times = [replica.retry_at for replica in self.replicas if replica.retry_at and replica.state == self.state]
        return min(times, default=None)

    @property
    def calls(self) -> int:
        return sum(replica.calls for replica in self.replicas)

    @property
    def failures(self) -> int:
        return sum(replica.failures for replica in self.replicas)

    @property
    def denied(self) -> int:
        return sum(replica.denied for replica in self.replicas)

    @property
    def failure_rate(self) -> float | None:
        return self.failures / self.calls if self.calls else None


@dataclass(frozen=True, slots=True)
class Band:
    """An interval in which a breaker of a replica was in one state."""

    replica: str
    breaker: str
    state: str
    start: datetime
    end: datetime


def severity(state: str) -> int:
    """Rank of a state; an unknown state counts as open."""
    return SEVERITY.index(state) if state in SEVERITY else SEVERITY.index(OPEN)


def replica_breaker(replica: str, reported: Mapping[str, Any], heartbeat_at: datetime) -> ReplicaBreaker:
    """One breaker from the heartbeat of a replica; ``retry_at`` is computed from the time of the heartbeat.

    Values in an unknown format, written by another version, are left out.
    """
    return ReplicaBreaker(
        replica=replica,
        name=str(reported.get("name", "")),
        state=str(reported.get("state", "")),
        since=time_or_none(reported.get("since")),
        retry_at=_after(heartbeat_at, reported.get("retryInMs")),
        calls=_count(reported.get("calls")),
        failures=_count(reported.get("failures")),
        threshold_percentage=_count(reported.get("thresholdPercentage")),
        volume_threshold=_count(reported.get("volumeThreshold")),
        denied=_count(reported.get("denied")),
        buckets=_buckets(reported.get("buckets")),
    )


def _after(at: datetime, milliseconds: object) -> datetime | None:
    if not isinstance(milliseconds, int | float):
        return None
    try:
        return at + timedelta(milliseconds=milliseconds)
    except (OverflowError, ValueError):
        return None


def _count(said: Any) -> Any:
    return said if isinstance(said, int | float) else 0


def _buckets(said: object) -> tuple[tuple[int, int], ...]:
    pairs = said if isinstance(said, list) else []
    return tuple((_count(pair[0]), _count(pair[1])) for pair in pairs if isinstance(pair, list) and len(pair) == 2)


def by_name(reported: Iterable[ReplicaBreaker]) -> tuple[Breaker, ...]:
    """One Breaker per name, in the order of OPERATIONS."""
    groups: dict[str, list[ReplicaBreaker]] = {}
    for replica in reported:
        groups.setdefault(replica.name, []).append(replica)
    known = list(OPERATIONS)
    names = sorted(groups, key=lambda name: (known.index(name) if name in known else len(known), name))
    return tuple(Breaker(name, tuple(groups[name])) for name in names)


def bands(
    transitions: Iterable[BreakerTransition],
    present: Iterable[tuple[ReplicaBreaker, datetime, datetime]],
    start: datetime,
) -> list[Band]:
    """The states of every breaker from ``start`` on, oldest first.

    ``present`` holds each reported breaker with the start and the end of the time in which its replica is known. The
    bands of a breaker that is no longer reported end at its last transition.
    """
    marks: dict[tuple[str, str], list[BreakerTransition]] = {}
    for transition in sorted(transitions, key=lambda t: t.at):
        marks.setdefault((transition.replica, transition.breaker), []).append(transition)
    known = {(breaker.replica, breaker.name): (breaker.state, since, until) for breaker, since, until in present}
    found: list[Band] = []
    for key in {**known, **marks}:
        found += _bands_of_one(key, marks.get(key, []), known.get(key), start)
    return sorted(found, key=lambda band: band.start)


def _bands_of_one(
    key: tuple[str, str],
    marks: Sequence[BreakerTransition],
    present: tuple[str, datetime, datetime] | None,
    start: datetime,
) -> list[Band]:
    state = marks[0].from_state if marks else present[0] if present else CLOSED
    ends = [(mark.at, mark.to_state) for mark in marks]
    if present:
        ends.append((present[2], present[0]))
    found, begin = [], max(start, present[1]) if present else start
    for end, after in ends:
        if end > begin:
            found.append(Band(*key, state, begin, end))
            begin = end
        state = after
    return found


def interruptions(history: Iterable[Band], breaker: str | None = None) -> list[tuple[datetime, datetime]]:
    """The merged intervals in which the breaker of at least one replica denied or limited calls."""
    shut = sorted(
        (band.start, band.end)
        for band in history
        if band.state in (OPEN, HALF_OPEN, FORCED_OPEN) and breaker in (None, band.breaker)
    )
    merged: list[tuple[datetime, datetime]] = []
    for begin, end in shut:
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged
