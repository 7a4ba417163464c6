"""The metric history of our own database: samples every few seconds, and rollups by minute and hour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection

from services.console.metric_history.model import Measured, Point, Span, frame
from services.metrics.catalogue import ANSWERED_RESERVATIONS, COUNTED, DRAWN_METRICS, RESERVATIONS
from services.metrics.objective import Calls
from services.metrics.rollup import KNOWN_FOR, Rollup, decoded, rolled_up
from state import samples
from state.engine.source import Source
from state.samples import HOUR, MINUTE

SAMPLE_STEP = timedelta(seconds=5)
LONGEST_TAIL = timedelta(hours=2)
"""Maximum time that is read from samples where minute rollups are missing."""
MAX_TAIL = 20_000

Piece = tuple[datetime, Rollup]
"""The start of an interval, and its counts."""


class LocalSource:
    """MetricSource over our own database."""

    name = "local history"

    def __init__(self, database: Source) -> None:
        self._database = database

    def read(self, span: Span) -> Measured:
        return self._database.read(lambda connection: _measured(connection, span))

    def reservations(self, windows: Sequence[timedelta], now: datetime) -> Mapping[timedelta, Calls]:
        return self._database.read(lambda connection: _calls(connection, windows, now))


def _measured(connection: Connection, span: Span) -> Measured:
    found = pieces(connection, span.start, span.end, span.step)
    steps: dict[int, Rollup] = {}
    whole = Rollup()
    for at, rollup in found:
        whole.add(rollup)
        if (number := span.number(at)) is not None:
            steps.setdefault(number, Rollup()).add(rollup)
    per_minute = span.step / MINUTE
    time_series: list[Point] = []
    for number, rollup in sorted(steps.items()):
        scale = min(per_minute, max((span.end - span.begins(number)) / MINUTE, SAMPLE_STEP / MINUTE))
        time_series += _points(span.begins(number), rollup, scale)
    newest = samples.newest(connection, span.end)
    return Measured(frame(time_series), frame(_points(span.end, whole, 1.0) if found else ()), newest)


def _points(at: datetime, rollup: Rollup, minutes: float) -> list[Point]:
    """All series of one step; counts are divided by ``minutes``."""
    return [
        (at, metric.name, series, value / minutes if metric.name in COUNTED else value)
        for metric in DRAWN_METRICS
        for series, value in metric.evaluate(rollup).items()
    ]


def pieces(connection: Connection, start: datetime, end: datetime, step: timedelta) -> list[Piece]:
    """Counts from ``start`` to ``end``, oldest first, in intervals no longer than ``step``.

    The source is hour rollups if ``step`` allows, then minute rollups after the newest hour, then samples after the
    newest minute.
    """
    found: list[Piece] = []
    since = start
    for length in (HOUR, MINUTE):
        if step >= length:
            rows = samples.rollups_between(connection, length, since, end)
            found += [(at, decoded(counts)) for at, _, counts in rows]
            since = rows[-1][0] + length if rows else since
    return found + _sampled(connection, max(since, end - LONGEST_TAIL), end, min(step, MINUTE))


def _sampled(connection: Connection, start: datetime, end: datetime, step: timedelta) -> list[Piece]:
    rows = samples.between(connection, start, end, MAX_TAIL)
    known_from = start - KNOWN_FOR
    bases = (samples.last_before(connection, name, start, known_from) for name in {replica for _, replica, _ in rows})
    known = sorted((base for base in bases if base), key=lambda row: row[0])
    steps = rolled_up([*known, *rows], start, end, step, known_from)
    # A step that began before ``start`` counts from ``start`` on.
    return sorted(((max(at, start), rollup) for (at, _), rollup in steps.items()), key=lambda piece: piece[0])


def _calls(connection: Connection, windows: Sequence[timedelta], now: datetime) -> Mapping[timedelta, Calls]:
    """Calls by window. Windows of up to a day are sums of minutes, with one read; longer windows are sums of hours."""
    short = [window for window in windows if window <= timedelta(days=1)]
    minutes = _reservations(connection, now - max(short), now, MINUTE) if short else []
    return {
        window: _since(now - window, minutes if window in short else _reservations(connection, now - window, now, HOUR))
        for window in windows
    }


def _reservations(
    connection: Connection, start: datetime, end: datetime, step: timedelta
) -> list[tuple[datetime, Calls]]:
    return [
        (at, Calls(ANSWERED_RESERVATIONS.evaluate(rollup).get((), 0.0), RESERVATIONS.evaluate(rollup).get((), 0.0)))
        for at, rollup in pieces(connection, start, end, step)
    ]


def _since(start: datetime, counted: Sequence[tuple[datetime, Calls]]) -> Calls:
    recent = [calls for at, calls in counted if at >= start]
    return Calls(sum(calls.good for calls in recent), sum(calls.total for calls in recent))
