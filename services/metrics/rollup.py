"""Rollups of the metric history: a background loop sums samples to minutes, and minutes to hours.

A row holds the growth of the counters of one replica within the step, and the last and the highest value of each gauge.
A sum of rows counts nothing twice and does not depend on restarts of a counter. Every replica rolls up each step,
possibly several times: each run computes a step from stored rows and replaces its row, so the last write is correct.
Source: contract 2 (local history); requirements 9.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection

from services.breakers.overview import SEVERITY, severity
from services.metrics.expressions import EPOCH, SeriesValue, floor
from services.metrics.gauges import BREAKER_STATE, STORED_GAUGES
from services.metrics.sample import ODD, Counts, SampleRow, counters_of, increments, parse, stored_counters
from state import samples
from state.engine.database import Database
from state.samples import HOUR, MINUTE, Row

SETTLED = timedelta(seconds=10)
"""Time after the end of a minute until its last sample is stored."""

AGAIN = timedelta(minutes=2)
"""Age up to which minutes are rolled up again, to include late samples."""

MAX_MINUTES = timedelta(minutes=10)
MAX_HOURS = 6
"""Minutes and hours rolled up in one round, so that catching up after a pause does not slow orders down."""

KNOWN_FOR = timedelta(hours=1)
"""How far back to search for the last sample of a replica."""


@dataclass(slots=True)
class Rollup:
    """The metrics of one step; MetricData for expressions."""

    counted: Counts = field(default_factory=Counts)
    last: dict[str, float] = field(default_factory=dict)
    """The last gauges of the step."""
    highest: dict[str, float] = field(default_factory=dict)
    breakers: dict[str, str] = field(default_factory=dict)
    """The worst state of each breaker within the step."""

    def add(self, other: Rollup) -> None:
        """Add the metrics of a later step, or of the same step on another replica."""
        self.counted.add(other.counted)
        self.note(other.highest, other.breakers)
        self.last.update(other.last)

    def note(self, gauges: Mapping[str, float], breakers: Mapping[str, str]) -> None:
        """Add gauges and breaker states of one sample within the step."""
        self.last.update(gauges)
        for name, value in gauges.items():
            self.highest[name] = max(value, self.highest.get(name, value))
        for name, state in breakers.items():
            worst = self.breakers.get(name)
            if worst is None or severity(state) > severity(worst):
                self.breakers[name] = state

    def increases(self, metric: str) -> Iterator[SeriesValue]:
        return self.counted.increases(metric)

    def gauges(self, metric: str) -> Iterator[SeriesValue]:
        """The highest value of a queue gauge, and the worst state of each breaker."""
        if metric == BREAKER_STATE:
            for breaker, worst in self.breakers.items():
                for state in SEVERITY:
                    yield {"breaker": breaker, "state": state}, float(worst == state)
        elif (stored := STORED_GAUGES.get(metric, "")) in self.highest:
            yield {}, self.highest[stored]


def rolled_up(
    rows: Sequence[SampleRow], start: datetime, end: datetime, step: timedelta, known_from: datetime
) -> dict[tuple[datetime, str], Rollup]:
    """Rollups of ``[start, end)`` by start of the step and replica.

    ``rows`` are oldest first. They begin with the last sample of each replica before ``start`` that is not older
    than ``known_from``.
    """
    found: dict[tuple[datetime, str], Rollup] = {}
    parsed = [parse(row) for row in rows]
    for sample in parsed:
        if start <= sample.at < end:
            rollup = found.setdefault((floor(sample.at, step), sample.replica), Rollup())
            rollup.note(sample.gauges, sample.breakers)
    for sample, counted in increments(parsed, known_from):
        if start <= sample.at < end:
            found[floor(sample.at, step), sample.replica].counted.add(counted)
    return found


def summed(
    rows: Iterable[tuple[datetime, str, Mapping[str, Any]]], step: timedelta
) -> dict[tuple[datetime, str], Rollup]:
    """Sum rows of a shorter step (oldest first) to a longer step, per replica."""
    found: dict[tuple[datetime, str], Rollup] = {}
    for at, replica, counts in rows:
        found.setdefault((floor(at, step), replica), Rollup()).add(decoded(counts))
    return found


def encoded(rollup: Rollup) -> dict[str, Any]:
    """The stored form; zeros are left out."""
    return stored_counters(rollup.counted.counters) | {
        "latency": {name: counts for name, counts in rollup.counted.buckets.items() if any(counts)},
        "gauges": {name: [rollup.last[name], rollup.highest[name]] for name in rollup.last},
        "breakers": rollup.breakers,
    }


def decoded(stored: Mapping[str, Any]) -> Rollup:
    """Decode a rollup that encoded() stored; a row with another structure is read as empty."""
    try:
        gauges = stored["gauges"]
        return Rollup(
            Counts(counters_of(stored), dict(stored["latency"])),
            {name: last for name, (last, _) in gauges.items()},
            {name: highest for name, (_, highest) in gauges.items()},
            dict(stored["breakers"]),
        )
    except ODD:
        return Rollup()


class MetricRollups:
    """Rolls up every minute and hour that is complete."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def run(self) -> bool:
        """Run one round of a Loop; returns whether more steps can be rolled up."""
        now = self._clock()
        minutes, more_minutes = await self._database.read(lambda c: _minutes(c, now))
        if minutes:
            await self._database.write(partial(samples.put_rollups, step=MINUTE, found=minutes))
        hours, more_hours = await self._database.read(lambda c: _hours(c, now))
        if hours:
            await self._database.write(partial(samples.put_rollups, step=HOUR, found=hours))
        return more_minutes or more_hours


def _minutes(connection: Connection, now: datetime) -> tuple[list[Row], bool]:
    finished = floor(now - SETTLED, MINUTE)
    start = _start(connection, now)
    if start is None or start >= finished:
        return [], False
    end = min(finished, start + AGAIN + MAX_MINUTES)
    rows = samples.between(connection, start, end)
    if len(rows) == samples.MAX_SAMPLES:
        # With many replicas the rows are limited: roll up only minutes whose samples were all read.
        end = max(floor(rows[-1][0], MINUTE), start + MINUTE)
    known_from = start - KNOWN_FOR
    bases = (samples.last_before(connection, name, start, known_from) for name in {replica for _, replica, _ in rows})
    known = sorted((base for base in bases if base), key=lambda row: row[0])
    return _rows(rolled_up([*known, *rows], start, end, MINUTE, known_from)), end < finished


def _start(connection: Connection, now: datetime) -> datetime | None:
    """The first minute to roll up: shortly before the newest rollup, or after a pause the first one with a sample."""
    newest = samples.newest_rollup(connection, MINUTE)
    if newest is None:
        first = samples.first_at(connection, EPOCH)
        return floor(first, MINUTE) if first else None
    following = samples.first_at(connection, newest + MINUTE)
    if following is None and newest < now - KNOWN_FOR:
        # Its samples may be partly pruned already; its row is complete.
        return None
    if following is not None and following > newest + MAX_MINUTES:
        return floor(following, MINUTE)
    return newest - AGAIN + MINUTE


def _hours(connection: Connection, now: datetime) -> tuple[list[Row], bool]:
    newest_minute = samples.newest_rollup(connection, MINUTE)
    if newest_minute is None:
        return [], False
    # An hour is complete when a later hour has begun and its own minutes are no longer rolled up again.
    finished = min(floor(newest_minute, HOUR), floor(now - AGAIN - 2 * MINUTE, HOUR))
    newest = samples.newest_rollup(connection, HOUR)
    first = samples.first_rollup_at(connection, MINUTE, newest + HOUR if newest else EPOCH)
    if first is None or floor(first, HOUR) >= finished:
        return [], False
    start = floor(first, HOUR)
    end = min(finished, start + MAX_HOURS * HOUR)
    return _rows(summed(samples.rollups_between(connection, MINUTE, start, end), HOUR)), end < finished


def _rows(found: Mapping[tuple[datetime, str], Rollup]) -> list[Row]:
    return [(at, replica, encoded(rollup)) for (at, replica), rollup in found.items()]
