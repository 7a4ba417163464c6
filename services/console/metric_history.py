"""The metric history of the Metrics page: from Prometheus where configured, else from our own database.

It is read in the background, and pages that show the same interval share one reading.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection

from services.base.settings import Settings
from services.breakers.overview import Band, interruptions
from services.console.cache import BackgroundReadingCache, Reading
from services.console.metric_span import Measured, MetricSource, Point, SourceFailed, Span, Wanted, frame, span_of
from services.console.prometheus_history import PromSource
from services.console.status import bands_since
from services.metrics import objective
from services.metrics.catalogue import ANSWERED_RESERVATIONS, COUNTED, DRAWN_METRICS, RESERVATIONS
from services.metrics.objective import Budget, Calls
from services.metrics.rollup import KNOWN_FOR, Rollup, decoded, rolled_up
from state import samples
from state.engine.source import Source, SourceUnavailable
from state.samples import HOUR, MINUTE

if TYPE_CHECKING:
    from pandas import DataFrame


T = TypeVar("T")
TTL_SECONDS = ((timedelta(hours=1), 5.0), (timedelta(days=1), 20.0))
LONGEST_TTL_SECONDS = 60.0
BUDGET_TTL_SECONDS = 30.0
SAMPLE_STEP = timedelta(seconds=5)
LONGEST_TAIL = timedelta(hours=2)
"""Maximum time that is read from samples where minute rollups are missing."""
MAX_TAIL = 20_000

Piece = tuple[datetime, Rollup]
"""The start of an interval, and its counts."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The thresholds of alerts that charts draw. Source: requirements 9.2; contract 2."""

    success_rate: float
    queue_depth: int
    latency_seconds: float


@dataclass(frozen=True, slots=True)
class MetricHistory:
    """The metrics of one interval."""

    span: Span
    source: str
    measured: Measured
    why_not_prometheus: str | None
    """Why the local history replaces Prometheus; None when it does not."""
    bands: tuple[Band, ...]
    """States of the breakers within the span."""

    @property
    def is_empty(self) -> bool:
        return bool(self.measured.time_series.empty)

    @property
    def interruptions(self) -> list[tuple[datetime, datetime]]:
        """The intervals in which a breaker was not closed."""
        return interruptions(self.bands)

    def lines(self, metric: str) -> list[tuple[datetime, str, float]]:
        """``(at, series, value)`` of one metric, oldest first."""
        rows = self.measured.time_series
        rows = rows[rows["metric"] == metric].sort_values(["at", "series"])
        return list(zip(rows["at"].dt.to_pydatetime(), rows["series"], rows["value"], strict=True))

    def total(self, metric: str) -> dict[str, float]:
        """The value of a metric over the whole interval, by series."""
        rows = self.measured.totals
        rows = rows[rows["metric"] == metric]
        return dict(zip(rows["series"], rows["value"], strict=True))

    def csv(self) -> bytes:
        """A CSV file with a row per step and a column per series.

        Times are in UTC. The name of a column with values per minute contains ``_per_minute``.
        """
        text: str = _wide(self.measured.time_series).to_csv(date_format="%Y-%m-%dT%H:%M:%SZ")
        return text.encode()


def _wide(time_series: DataFrame) -> DataFrame:
    named = time_series.assign(
        column=time_series["metric"]
        + time_series["metric"].isin(COUNTED).map({True: "_per_minute", False: ""})
        + "."
        + time_series["series"]
    )
    return named.pivot_table(index="at", columns="column", values="value").rename_axis(columns=None)


class Metrics:
    """Reads of the Metrics page."""

    def __init__(
        self,
        settings: Settings,
        database: Source,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
        *,
        patience_seconds: float,
        away: Callable[[], str | None],
    ) -> None:
        """``patience_seconds`` is how long a page waits for a running read.

        ``away`` returns why the database is away, or None.
        """
        self._settings = settings
        self._database = database
        self._clock = clock
        self._away = away
        self._local = LocalSource(database)
        url = settings.prometheus_url
        self._prometheus = PromSource(url, monotonic, proxy=settings.proxy) if url else None
        self._readings = BackgroundReadingCache(clock, monotonic, patience_seconds=patience_seconds)

    def close(self) -> None:
        self._readings.close()

    @property
    def limits(self) -> Limits:
        settings = self._settings
        return Limits(
            settings.alert_reservation_success_rate,
            settings.alert_queue_depth,
            settings.alert_availability_latency / 1000,
        )

    def history(self, wanted: Wanted) -> Reading[MetricHistory]:
        """The metrics of an interval; neither value nor problem while they are being read."""
        length = span_of(wanted, self._clock()).length
        ttl = next((seconds for limit, seconds in TTL_SECONDS if length <= limit), LONGEST_TTL_SECONDS)
        return self._aged(
            self._readings.get(("history", wanted), ttl, lambda: self._history(span_of(wanted, self._clock())))
        )

    def budget(self) -> Reading[Budget]:
        """The objective for reservations and its error budget."""
        return self._aged(self._readings.get("budget", BUDGET_TTL_SECONDS, self._budget))

    def _aged(self, reading: Reading[T]) -> Reading[T]:
        """Without Prometheus, mark a reading as old while the database is away.

        A reading that is loaded only once a minute would report the problem too late.
        """
        if self._prometheus is not None or reading.value is None or reading.problem:
            return reading
        return replace(reading, problem=self._away())

    def _history(self, span: Span) -> MetricHistory:
        measured, source, problem = self._measured(lambda source: source.read(span))
        return MetricHistory(span, source, measured, problem, self._bands(span))

    def _budget(self) -> Budget:
        now = self._clock()
        calls: Mapping[timedelta, objective.Calls]
        calls, _, _ = self._measured(lambda source: source.reservations(objective.WINDOWS, now))
        return objective.evaluate(self._settings.alert_reservation_success_rate, calls)

    def _measured(self, look: Callable[[MetricSource], Any]) -> tuple[Any, str, str | None]:
        """The result of the first source that answers, its name, and why it is not Prometheus."""
        problem = None
        if self._prometheus is not None:
            try:
                return look(self._prometheus), self._prometheus.name, None
            except SourceFailed as error:
                problem = str(error)
        return look(self._local), self._local.name, problem

    def _bands(self, span: Span) -> tuple[Band, ...]:
        def read(connection: Connection) -> tuple[Band, ...]:
            found = bands_since(connection, self._clock(), span.start)
            return tuple(band for band in found if band.end > span.start and band.start < span.end)

        try:
            return self._database.read(read)
        except SourceUnavailable:
            # Prometheus may answer while the database is away. The charts then have no bands.
            if self._prometheus is None:
                raise
            return ()


# -- our own database ------------------------------------------------------------------------------


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
