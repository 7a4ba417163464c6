"""Samples of a few seconds added up to minutes, and minutes to hours: pure.

A row holds what one replica counted within the step, so that adding rows up counts nothing twice and no
restart of a counter shows; and the gauges, the last and the highest of the step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from services.breakers.overview import severity
from services.metrics.math import ODD, Interval, SampleRow, gauges_of, increments_by_replica

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Rollup:
    """What is known of one step."""

    counted: Interval = field(default_factory=Interval)
    last: dict[str, float] = field(default_factory=dict)
    """The last gauges of the step."""
    highest: dict[str, float] = field(default_factory=dict)
    breakers: dict[str, str] = field(default_factory=dict)
    """The worst state of each breaker within the step."""

    def add(self, other: Rollup) -> None:
        """Add what came later, or what another replica counted at the same time."""
        self.counted.add(other.counted)
        self.note(other.highest, other.breakers)
        self.last.update(other.last)

    def note(self, gauges: Mapping[str, float], breakers: Mapping[str, str]) -> None:
        """Take in gauges and states seen within the step."""
        self.last.update(gauges)
        for name, value in gauges.items():
            self.highest[name] = max(value, self.highest.get(name, value))
        for name, state in breakers.items():
            worst = self.breakers.get(name)
            if worst is None or severity(state) > severity(worst):
                self.breakers[name] = state


def floor(at: datetime, step: timedelta) -> datetime:
    """The start of the step that ``at`` lies in."""
    return EPOCH + (at - EPOCH) // step * step


def rolled_up(
    rows: Sequence[SampleRow], start: datetime, end: datetime, step: timedelta, known_from: datetime
) -> dict[tuple[datetime, str], Rollup]:
    """The steps of ``[start, end)`` by their start and replica.

    ``rows`` are oldest first and begin with the last sample of each replica before ``start``, searched for
    back to ``known_from``.
    """
    found: dict[tuple[datetime, str], Rollup] = {}
    for at, replica, sample in rows:
        if start <= at < end:
            rollup = found.setdefault((floor(at, step), replica), Rollup())
            breakers = sample.get("breakers")
            rollup.note(gauges_of(sample), breakers if isinstance(breakers, dict) else {})
    for at, replica, counted in increments_by_replica(rows, known_from):
        if start <= at < end:
            found[floor(at, step), replica].counted.add(counted)
    return found


def summed(
    rows: Iterable[tuple[datetime, str, Mapping[str, Any]]], step: timedelta
) -> dict[tuple[datetime, str], Rollup]:
    """Rows of a shorter step (oldest first) added up to a longer one, per replica."""
    found: dict[tuple[datetime, str], Rollup] = {}
    for at, replica, counts in rows:
        found.setdefault((floor(at, step), replica), Rollup()).add(decoded(counts))
    return found


def encoded(rollup: Rollup) -> dict[str, Any]:
    """As it is stored, without what is nothing."""
    counted = rollup.counted
    requests: dict[str, dict[str, int]] = {}
    for (operation, outcome), count in counted.requests.items():
        if count:
            requests.setdefault(operation, {})[outcome] = count
    return {
        "requests": requests,
        "latency": {name: counts for name, counts in counted.buckets.items() if any(counts)},
        "orders": _some(counted.orders),
        "failures": _some(counted.failures),
        "releases": _some(counted.releases),
        "gauges": {name: [rollup.last[name], rollup.highest[name]] for name in rollup.last},
        "breakers": rollup.breakers,
    }


def decoded(stored: Mapping[str, Any]) -> Rollup:
    """What encoded() made a row of; a row of another shape counts as one that says nothing."""
    try:
        return _decoded(stored)
    except ODD:
        return Rollup()


def _decoded(stored: Mapping[str, Any]) -> Rollup:
    counted = Interval(
        requests=Counter(
            {
                (operation, outcome): count
                for operation, outcomes in stored["requests"].items()
                for outcome, count in outcomes.items()
            }
        ),
        buckets=dict(stored["latency"]),
        orders=Counter(stored["orders"]),
        failures=Counter(stored["failures"]),
        releases=Counter(stored["releases"]),
    )
    gauges = stored["gauges"]
    return Rollup(
        counted,
        {name: last for name, (last, _) in gauges.items()},
        {name: highest for name, (_, highest) in gauges.items()},
        dict(stored["breakers"]),
    )


def _some(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}
