"""The metric history of the Metrics page: from Prometheus where configured, else from our own database.

It is read in the background, and pages that show the same interval share one reading.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection

from services.base.settings import Settings
from services.breakers.overview import Band, interruptions
from services.console.cache import BackgroundReadingCache, Reading
from services.console.metric_history.local import LocalSource
from services.console.metric_history.model import Measured, MetricSource, SourceFailed, Span, Wanted, span_of
from services.console.metric_history.prometheus import PromSource
from services.console.status import bands_since
from services.metrics import objective
from services.metrics.catalogue import COUNTED
from services.metrics.objective import Budget
from state.engine.source import Source, SourceUnavailable

if TYPE_CHECKING:
    from pandas import DataFrame


T = TypeVar("T")
TTL_SECONDS = ((timedelta(hours=1), 5.0), (timedelta(days=1), 20.0))
LONGEST_TTL_SECONDS = 60.0
BUDGET_TTL_SECONDS = 30.0


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
