"""The metric history of a Prometheus server, queried through prometheus-api-client.

A failed server is not queried for PAUSE_SECONDS, so that it costs its timeout once and not at every read.
Source: contract 2, PROMETHEUS_URL.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from statistics import median
from typing import Any, Self, TypeVar

from services.base.addresses import DIRECT, Proxy, requests_session
from services.console.metric_span import Measured, Point, SourceFailed, Span, frame
from services.metrics.catalogue import ANSWERED_RESERVATIONS, COUNTED, DRAWN_METRICS, RESERVATIONS, DrawnMetric
from services.metrics.expressions import Expression
from services.metrics.objective import Calls

T = TypeVar("T")

TIMEOUT_SECONDS = 3.0
"""Time limit of one query."""
READ_SECONDS = 15.0
"""Time limit of all queries of one read. Metrics of unanswered queries are reported as missing."""
MAX_CONCURRENT_QUERIES = 6
"""The default limit of a Prometheus server is twenty."""
PAUSE_SECONDS = 30.0
"""How long a failed server is not queried."""
SHORTEST_WINDOW = timedelta(minutes=1)
SCRAPES_IN_WINDOW = 3
"""A rate needs two scrapes within its window; one of three may be lost."""
USUAL_INTERVAL = timedelta(minutes=1)
"""Prometheus' default scrape interval, used when the series do not show the actual one."""
SCRAPED = 'orders_total{status="RECEIVED"}[15m]'
"""A series that every replica has, with the time of every scrape."""
NEWEST = "max(timestamp(inventory_requests_total))"


class PromSource:
    """MetricSource over the HTTP API of Prometheus; one read at a time, from any thread."""

    name = "Prometheus"

    def __init__(
        self,
        url: str,
        monotonic: Callable[[], float],
        *,
        proxy: Proxy = DIRECT,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._url = url
        self._proxy = proxy
        self._monotonic = monotonic
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._silent_until = float("-inf")
        self._problem = ""

    def read(self, span: Span) -> Measured:
        return self._ask(lambda queries: _measured(queries, span))

    def reservations(self, windows: Sequence[timedelta], now: datetime) -> Mapping[timedelta, Calls]:
        return self._ask(lambda queries: {window: _calls(queries, window, now) for window in windows})

    def _ask(self, read: Callable[[_Queries], T]) -> T:
        from prometheus_api_client.exceptions import PrometheusApiClientException
        from requests import RequestException

        with self._lock:
            if self._monotonic() < self._silent_until:
                raise SourceFailed(self._problem)
            try:
                with _Queries(self._url, self._proxy, self._monotonic, self._timeout_seconds) as queries:
                    return read(queries)
            except (RequestException, PrometheusApiClientException, ValueError, KeyError, TypeError) as error:
                self._problem = _sentence(error)
                self._silent_until = self._monotonic() + PAUSE_SECONDS
                raise SourceFailed(self._problem) from error


class _Queries:
    """Concurrent queries, each with its own time limit."""

    def __init__(self, url: str, proxy: Proxy, monotonic: Callable[[], float], timeout_seconds: float) -> None:
        from prometheus_api_client import PrometheusConnect
        from urllib3 import Retry

        # With the client's own retries, a dead server delays a read by six seconds.
        # Without ``read=False``, a timeout is reported as a refused connection.
        session = requests_session(url, proxy)
        self._prometheus = PrometheusConnect(url, retry=Retry(total=0, read=False), session=session)
        self._monotonic = monotonic
        self._timeout_seconds = timeout_seconds
        self._deadline = monotonic() + max(READ_SECONDS, timeout_seconds)
        self._threads = ThreadPoolExecutor(MAX_CONCURRENT_QUERIES, thread_name_prefix="prometheus")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._prometheus.close()

    def all(self, queries: Sequence[tuple[str, Callable[[], list[Point]]]]) -> tuple[list[Point], tuple[str, ...]]:
        """The points of queries ``(metric, query)``, and the metrics of the queries that timed out.

        Raises the timeout when no query was answered.
        """
        from requests import Timeout

        sent = [(metric, self._threads.submit(query)) for metric, query in queries]
        points: list[Point] = []
        missing: dict[str, Exception] = {}
        for metric, answer in sent:
            try:
                points += answer.result()
            except Timeout as error:
                missing[metric] = error
        if missing and not points:
            raise next(iter(missing.values()))
        return points, tuple(missing)

    def time_series(self, metric: DrawnMetric, span: Span, window: timedelta) -> list[tuple[datetime, str, float]]:
        """``(start of step, series, value)``: every step is queried at its end."""
        found = self._prometheus.custom_query_range(
            _promql(metric.expression, window),
            span.start + span.step,
            span.begins(span.points),
            step=str(span.step.total_seconds()),
            timeout=self._limit(),
        )
        return [
            (datetime.fromtimestamp(float(at), UTC) - span.step, metric.series_name(result["metric"]), float(value))
            for result in found
            for at, value in result["values"]
        ]

    def total(self, metric: DrawnMetric, length: timedelta, at: datetime) -> list[tuple[str, float]]:
        """``(series, value)`` over the interval that ends at ``at``."""
        found = self._instant(_promql(metric.expression, length), at)
        return [(metric.series_name(result["metric"]), float(result["value"][1])) for result in found]

    def value(self, promql: str, at: datetime) -> float | None:
        """The value of an expression without labels; None when it has none."""
        found = self._instant(promql, at)
        return float(found[0]["value"][1]) if found else None

    def scrape_interval(self, at: datetime) -> timedelta:
        """The usual time between two scrapes before ``at``, by the slowest replica."""
        distances = []
        for result in self._instant(SCRAPED, at):
            times = [float(time) for time, _ in result["values"]]
            if len(times) > 1:
                distances.append(median(after - before for before, after in pairwise(times)))
        return timedelta(seconds=max(distances)) if distances else USUAL_INTERVAL

    def _instant(self, expression: str, at: datetime) -> list[Any]:
        found: list[Any] = self._prometheus.custom_query(
            expression, params={"time": at.timestamp()}, timeout=self._limit()
        )
        return found

    def _limit(self) -> float:
        return max(0.001, min(self._timeout_seconds, self._deadline - self._monotonic()))


def _promql(expression: Expression, window: timedelta) -> str:
    return expression.promql(f"{max(1, round(window.total_seconds()))}s")


def _measured(queries: _Queries, span: Span) -> Measured:
    # The first query is sent alone, so that a server that does not answer costs only one time limit.
    newest = queries.value(NEWEST, span.end)
    window = max(span.step, SHORTEST_WINDOW, SCRAPES_IN_WINDOW * queries.scrape_interval(span.end))
    time_series, missing = queries.all(
        [(metric.name, partial(_time_series, queries, metric, span, window)) for metric in DRAWN_METRICS]
    )
    totals, more = queries.all([(metric.name, partial(_total, queries, metric, span)) for metric in DRAWN_METRICS])
    newest_at = datetime.fromtimestamp(newest, UTC) if newest is not None else None
    return Measured(frame(time_series), frame(totals), newest_at, tuple(dict.fromkeys((*missing, *more))))


def _time_series(queries: _Queries, metric: DrawnMetric, span: Span, window: timedelta) -> list[Point]:
    per_minute = window / timedelta(minutes=1)
    return [
        (at, metric.name, series, value / per_minute if metric.name in COUNTED else value)
        for at, series, value in queries.time_series(metric, span, window)
    ]


def _total(queries: _Queries, metric: DrawnMetric, span: Span) -> list[Point]:
    found = queries.total(metric, span.length, span.end)
    return [(span.end, metric.name, series, value) for series, value in found]


def _calls(queries: _Queries, window: timedelta, now: datetime) -> Calls:
    good, total = (
        queries.value(_promql(expression, window), now) for expression in (ANSWERED_RESERVATIONS, RESERVATIONS)
    )
    return Calls(good or 0.0, total or 0.0)


def _sentence(error: Exception) -> str:
    from requests import ConnectionError as NotConnected
    from requests import Timeout

    if isinstance(error, Timeout):
        return "Prometheus takes too long to answer."
    if isinstance(error, NotConnected):
        return "Prometheus cannot be reached."
    return "Prometheus does not answer as it should."
