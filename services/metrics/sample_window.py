"""From what replicas store about themselves to the series that alerts look at.

Source: services/metrics/recorder.py writes the samples; the names are those of contract section 6.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import product
from math import inf
from typing import Any

from services.breakers.overview import SEVERITY
from services.domain.call_attempts import INVENTORY_CALLS, OUTCOMES
from services.domain.orders.model import OrderStatus, ReviewReason
from services.metrics.registry import FAILURE_REASONS, REFUSAL_STATUSES, RELEASE_OUTCOMES
from services.metrics.sample import LATENCY_BUCKETS
from services.metrics.series import Point, Series, View
from state.replicas import Replica

MOST_POINTS = 720
"""Of one series within the window; a long window is looked at more coarsely."""

Counted = tuple[str, tuple[tuple[str, str], ...], float]
Key = tuple[str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True, slots=True)
class Gauges:
    """What the database says about queues right now."""

    reservation_queue: int
    outbox_oldest_at: datetime | None
    dead_letters: int
    reviews_oldest_at: datetime | None
    refused_in_a_row: int = 0
    """Newest consecutive orders that were refused or delayed because inventory gave no answer about them."""
    steps_failed: int = 0
    """Orders that wait for a person because a step raised something unforeseen."""
    undeliverable: int = 0
    """Events that can never be published."""


def milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)


class Recording:
    """The counters of all replicas within the window, kept in memory and fed with new samples."""

    def __init__(self, window_ms: int) -> None:
        self._window_ms = window_ms
        self._spacing_ms = max(window_ms // MOST_POINTS, 1)
        self._points: dict[Key, deque[Point]] = {}
        self._fed_ms: dict[str, int] = {}

    def feed(self, rows: Iterable[tuple[datetime, str, Mapping[str, Any]]]) -> None:
        """Take in samples ``(at, replica, sample)``, oldest first; those known already are passed over."""
        for at, replica, sample in rows:
            at_ms = milliseconds(at)
            if replica in self._fed_ms and at_ms < self._fed_ms[replica] + self._spacing_ms:
                continue
            self._fed_ms[replica] = at_ms
            for name, labels, value in readable(sample):
                key = (name, (*labels, ("instance", replica)))
                self._points.setdefault(key, deque()).append((at_ms, value))

    def view(self, now: datetime, gauges: Gauges, replicas: Sequence[Replica]) -> View:
        """Everything as it is now; what lies before the window is forgotten."""
        at_ms = milliseconds(now)
        self._forget(at_ms - self._window_ms)
        counters: dict[str, list[Series]] = {}
        for (name, labels), points in self._points.items():
            counters.setdefault(name, []).append(Series(dict(labels), points))
        return View(at_ms, self._window_ms, counters, present(gauges, replicas, now))

    def _forget(self, before_ms: int) -> None:
        for key, points in list(self._points.items()):
            while points and points[0][0] < before_ms:
                points.popleft()
            if not points:
                del self._points[key]
        self._fed_ms = {replica: at_ms for replica, at_ms in self._fed_ms.items() if at_ms >= before_ms}


def readable(sample: Mapping[str, Any]) -> list[Counted]:
    """The counters of a stored sample; none of one that another version wrote in another form."""
    try:
        return list(counters_of(sample))
    except (TypeError, ValueError, AttributeError, KeyError):
        return []


def counters_of(sample: Mapping[str, Any]) -> Iterator[Counted]:
    """``(metric, labels, value)`` of the counters in a sample that alerts look at.

    What was never counted is 0 and not absent, as in what Prometheus scrapes: of a series that appears with its
    first failure the first failure would be lost.
    """
    for operation, outcome in product(INVENTORY_CALLS, OUTCOMES):
        count = sample.get("requests", {}).get(operation, {}).get(outcome, 0)
        yield "inventory_requests_total", (("operation", operation), ("outcome", outcome)), float(count)
    for operation, status in product(INVENTORY_CALLS, REFUSAL_STATUSES):
        count = sample.get("refusals", {}).get(operation, {}).get(status, 0)
        yield "inventory_refusals_total", (("operation", operation), ("status", status)), float(count)
    for outcome in RELEASE_OUTCOMES:
        yield "inventory_releases_total", (("outcome", outcome),), float(sample.get("releases", {}).get(outcome, 0))
    for reason in FAILURE_REASONS:
        count = sample.get("failures", {}).get(reason, 0)
        yield "inventory_order_failures_total", (("reason", reason),), float(count)
    yield "orders_total", (("status", OrderStatus.PAYING.value),), float(sample.get("orders", {}).get("PAYING", 0))
    for operation, latency in sample.get("latency", {}).items():
        labels = ("operation", operation)
        yield "inventory_request_duration_seconds_count", (labels,), float(latency["count"])
        for bound, count in zip((*LATENCY_BUCKETS, inf), latency["buckets"], strict=False):
            written = "+Inf" if bound == inf else str(bound)
            yield "inventory_request_duration_seconds_bucket", (labels, ("le", written)), float(count)


def present(
    gauges: Gauges, replicas: Sequence[Replica], now: datetime
) -> dict[str, list[tuple[dict[str, str], float]]]:
    """The gauges by metric, as they would be scraped now."""
    states = [
        (
            {"breaker": str(breaker.get("name")), "state": state, "instance": replica.replica},
            float(breaker.get("state") == state),
        )
        for replica in replicas
        for breaker in replica.breakers
        for state in SEVERITY
    ]
    return {
        "inventory_circuit_breaker_state": states,
        "reservation_queue_depth": [({}, float(gauges.reservation_queue))],
        "outbox_oldest_age_seconds": [({}, _age(gauges.outbox_oldest_at, now))],
        "dead_letters": [({}, float(gauges.dead_letters))],
        "orders_refused_in_a_row": [({}, float(gauges.refused_in_a_row))],
        "manual_reviews_open": [({"reason": ReviewReason.STEP_FAILED.value}, float(gauges.steps_failed))],
        "outbox_undeliverable": [({}, float(gauges.undeliverable))],
        "manual_reviews_oldest_age_seconds": [({}, _age(gauges.reviews_oldest_at, now))],
    }


def _age(oldest: datetime | None, now: datetime) -> float:
    return max(0.0, (now - oldest).total_seconds()) if oldest else 0.0
