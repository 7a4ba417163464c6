"""The same history from a Prometheus server, asked through prometheus-api-client.

A server that fails is left alone for a while, so that it costs its timeout once and not at every look.
Source: contract section 2, PROMETHEUS_URL.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Self, TypeVar

from services.console.history.catalogue import COUNTED, COUNTS, GAUGES, RATES, Query, attempts
from services.console.history.sources import Measured, Point, SourceFailed, frame
from services.console.history.spans import Span
from services.domain.attempts import RESERVE
from services.monitoring.slo import Calls
from services.outgoing import requests_session

T = TypeVar("T")

TIMEOUT_SECONDS = 3.0
"""For all the questions of one look together."""
PAUSE_SECONDS = 30.0
"""How long a server that failed is not asked."""
SHORTEST_WINDOW = timedelta(minutes=1)
"""A rate needs two scrapes; Prometheus scrapes every fifteen to sixty seconds as a rule."""
NEWEST = "max(timestamp(inventory_requests_total))"


class PromSource:
    """MetricSource over the HTTP API of Prometheus; one look at a time, from any thread."""

    name = "Prometheus"

    def __init__(self, url: str, monotonic: Callable[[], float], *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        self._url = url
        self._monotonic = monotonic
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._silent_until = float("-inf")
        self._problem = ""

    def read(self, span: Span) -> Measured:
        return self._ask(lambda asked: _measured(asked, span))

    def reservations(self, windows: Sequence[timedelta], now: datetime) -> Mapping[timedelta, Calls]:
        return self._ask(lambda asked: {window: _calls(asked, window, now) for window in windows})

    def _ask(self, look: Callable[[_Questions], T]) -> T:
        from prometheus_api_client.exceptions import PrometheusApiClientException
        from requests import RequestException

        with self._lock:
            if self._monotonic() < self._silent_until:
                raise SourceFailed(self._problem)
            try:
                with _Questions(self._url, self._monotonic, self._timeout_seconds) as questions:
                    return look(questions)
            except (RequestException, PrometheusApiClientException, ValueError, KeyError, TypeError) as error:
                self._problem = _sentence(error)
                self._silent_until = self._monotonic() + PAUSE_SECONDS
                raise SourceFailed(self._problem) from error


class _Questions:
    """Several questions under one deadline."""

    def __init__(self, url: str, monotonic: Callable[[], float], timeout_seconds: float) -> None:
        from prometheus_api_client import PrometheusConnect
        from urllib3 import Retry

        # Its own retries would make a dead server cost six seconds; without ``read`` a timeout looks like no server.
        self._prometheus = PrometheusConnect(url, retry=Retry(total=0, read=False), session=requests_session())
        self._monotonic = monotonic
        self._deadline = monotonic() + timeout_seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._prometheus.close()

    def course(self, query: Query, span: Span) -> list[tuple[datetime, str, float]]:
        """``(start of step, series, value)``: every step is asked for at its end."""
        window = max(span.step, SHORTEST_WINDOW)
        found = self._prometheus.custom_query_range(
            query.over(window.total_seconds()),
            span.start + span.step,
            span.begins(span.points),
            step=str(span.step.total_seconds()),
            timeout=self._left(),
        )
        return [
            (datetime.fromtimestamp(float(at), UTC) - span.step, query.named(result["metric"]), float(value))
            for result in found
            for at, value in result["values"]
        ]

    def total(self, query: Query, length: timedelta, at: datetime) -> list[tuple[str, float]]:
        """``(series, value)`` over the stretch that ends at ``at``."""
        found = self._prometheus.custom_query(
            query.over(length.total_seconds()), params={"time": at.timestamp()}, timeout=self._left()
        )
        return [(query.named(result["metric"]), float(result["value"][1])) for result in found]

    def _left(self) -> float:
        return max(0.001, self._deadline - self._monotonic())


def _measured(asked: _Questions, span: Span) -> Measured:
    per_minute = max(span.step, SHORTEST_WINDOW) / timedelta(minutes=1)
    course: list[Point] = [
        (at, query.metric, series, value / per_minute if query.metric in COUNTED else value)
        for query in (*RATES, *COUNTS, *GAUGES)
        for at, series, value in asked.course(query, span)
    ]
    totals: list[Point] = [
        (span.end, query.metric, series, value)
        for query in (*RATES, *COUNTS, *GAUGES)
        for series, value in asked.total(query, span.length, span.end)
    ]
    newest = asked.total(Query("newest", NEWEST), span.step, span.end)
    newest_at = datetime.fromtimestamp(newest[0][1], UTC) if newest else None
    return Measured(frame(course), frame(totals), newest_at)


def _calls(asked: _Questions, window: timedelta, now: datetime) -> Calls:
    good, total = (asked.total(attempts(RESERVE, answered=answered), window, now) for answered in (True, False))
    return Calls(good[0][1] if good else 0.0, total[0][1] if total else 0.0)


def _sentence(error: Exception) -> str:
    from requests import ConnectionError as NotConnected
    from requests import Timeout

    if isinstance(error, Timeout):
        return "Prometheus takes too long to answer."
    if isinstance(error, NotConnected):
        return "Prometheus cannot be reached."
    return "Prometheus does not answer as it should."
