"""Rolling the metric history up in the background: minutes out of samples, hours out of minutes.

Every replica does it, and more than once: a step is computed from what is stored and replaces its row, so
that nothing counts twice, whoever writes last. Source: contract section 2 (local history); seed 9.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection

from services.metrics.rollup import EPOCH, Rollup, encoded, floor, rolled_up, summed
from state import rollups, samples
from state.engine.database import Database
from state.rollups import HOUR, MINUTE, Row

SETTLED = timedelta(seconds=10)
"""So long after the end of a minute its last sample is surely stored."""

AGAIN = timedelta(minutes=2)
"""So many finished minutes are rolled up once more, for samples that came late."""

AT_ONCE = timedelta(minutes=10)
HOURS_AT_ONCE = 6
"""What one round does at most, so that catching up after a pause slows no order down."""

KNOWN_FOR = timedelta(hours=1)
"""How far back the last sample of a replica is searched for."""


class MetricRollups:
    """One round rolls up what has become complete."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def run(self) -> bool:
        """One round of a Loop; returns whether more is waiting."""
        now = self._clock()
        minutes, more_minutes = await self._database.read(lambda c: _minutes(c, now))
        if minutes:
            await self._database.write(partial(rollups.put, step=MINUTE, rows=minutes))
        hours, more_hours = await self._database.read(lambda c: _hours(c, now))
        if hours:
            await self._database.write(partial(rollups.put, step=HOUR, rows=hours))
        return more_minutes or more_hours


def _minutes(connection: Connection, now: datetime) -> tuple[list[Row], bool]:
    finished = floor(now - SETTLED, MINUTE)
    start = _start(connection, now)
    if start is None or start >= finished:
        return [], False
    end = min(finished, start + AGAIN + AT_ONCE)
    rows = samples.between(connection, start, end)
    if len(rows) == samples.MAX_SAMPLES:
        # Many replicas: only minutes that were read to their end.
        end = max(floor(rows[-1][0], MINUTE), start + MINUTE)
    known_from = start - KNOWN_FOR
    bases = (samples.last_before(connection, name, start, known_from) for name in {replica for _, replica, _ in rows})
    known = sorted((base for base in bases if base), key=lambda row: row[0])
    return _rows(rolled_up([*known, *rows], start, end, MINUTE, known_from)), end < finished


def _start(connection: Connection, now: datetime) -> datetime | None:
    """The first minute to roll up: some before the newest, or the first one with a sample after a pause."""
    newest = rollups.newest(connection, MINUTE)
    if newest is None:
        first = samples.first_at(connection, EPOCH)
        return floor(first, MINUTE) if first else None
    following = samples.first_at(connection, newest + MINUTE)
    if following is None and newest < now - KNOWN_FOR:
        # Its samples may be pruned in part by now; its row is not.
        return None
    if following is not None and following > newest + AT_ONCE:
        return floor(following, MINUTE)
    return newest - AGAIN + MINUTE


def _hours(connection: Connection, now: datetime) -> tuple[list[Row], bool]:
    newest_minute = rollups.newest(connection, MINUTE)
    if newest_minute is None:
        return [], False
    # An hour is complete when a later one has begun and its own minutes are not rolled up any more.
    finished = min(floor(newest_minute, HOUR), floor(now - AGAIN - 2 * MINUTE, HOUR))
    newest = rollups.newest(connection, HOUR)
    first = rollups.first_at(connection, MINUTE, newest + HOUR if newest else EPOCH)
    if first is None or floor(first, HOUR) >= finished:
        return [], False
    start = floor(first, HOUR)
    end = min(finished, start + HOURS_AT_ONCE * HOUR)
    return _rows(summed(rollups.between(connection, MINUTE, start, end), HOUR)), end < finished


def _rows(found: Mapping[tuple[datetime, str], Rollup]) -> list[Row]:
    return [(at, replica, encoded(rollup)) for (at, replica), rollup in found.items()]
