"""The service's own Prometheus registry, behind verbs with closed label sets.

Every label set is present from the start: rate() over a series that appears late is empty.
Source: contract section 6; seed 9.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import product
from math import nan
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from services.domain.call_attempts import INVENTORY_CALLS, OUTCOMES, REFUSED_US, SHORT_CIRCUITED, THROTTLED, Attempt
from services.domain.orders import events
from services.domain.orders.model import OrderStatus, ReviewReason
from services.metrics.sample import LATENCY_BUCKETS

BREAKER_STATES = ("closed", "open", "half_open", "forced_open", "forced_closed")
FAILURE_REASONS = (
    "INVENTORY_UNAVAILABLE",
    "INSUFFICIENT_INVENTORY",
    "INVENTORY_TIMEOUT",
    "RESERVATION_FAILED",
    "RELEASE_FAILED",
    *(reason.value for reason in ReviewReason if reason != ReviewReason.RELEASE_FAILED),
)
RELEASE_OUTCOMES = ("released", "retried", "failed")
PUBLISH_OUTCOMES = ("published", "failed")
NOTIFICATION_OUTCOMES = ("sent", "retried", "failed")
ALERTING_PARTS = ("rule", "store", "notify", "received")
REFUSAL_STATUSES = ("400", "401", "403", "404", "405", "407", "421", "425", "other")
"""With which the Inventory Service refuses us and not an order. Source: contract section 4."""
CONSUME_OUTCOMES = ("handled", "duplicate", "ignored", "parked", "retried", "dead_lettered")


class Metrics:
    """Counts what happens; gauges are filled from the database at scrape time."""

    def __init__(self, breakers: Sequence[str]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._duration = Histogram(
            "inventory_request_duration_seconds",
            "Latency of one attempt of an inventory operation.",
            ["operation"],
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self._requests = self._counter("inventory_requests", "Attempts by outcome.", ["operation", "outcome"])
        self._refusals = self._counter(
            "inventory_refusals", "Calls in which this service was refused, not an order.", ["operation", "status"]
        )
        self._breaker_state = self._gauge(
            "inventory_circuit_breaker_state", "1 for the state the breaker is in.", ["breaker", "state"]
        )
        self._transitions = self._counter(
            "inventory_circuit_breaker_transitions", "State changes of breakers.", ["breaker", "to"]
        )
        self._failures = self._counter("inventory_order_failures", "Orders failing due to inventory.", ["reason"])
        self._orders = self._counter("orders", "Orders that reached a status.", ["status"])
        self._releases = self._counter("inventory_releases", "Release attempts by outcome.", ["outcome"])
        self._published = self._counter("events_published", "Publish attempts.", ["type", "outcome"])
        self._consumed = self._counter("events_consumed", "Events consumed.", ["type", "outcome"])
        self._reservation_queue = self._gauge("reservation_queue_depth", "Orders in PENDING_INVENTORY.")
        self._release_queue = self._gauge("release_queue_depth", "Release jobs that are pending.")
        self._outbox_pending = self._gauge("outbox_pending", "Events waiting to be published.")
        self._undeliverable = self._gauge(
            "outbox_undeliverable", "Events that can never be published as they are and wait for a person."
        )
        self._outbox_age = self._gauge("outbox_oldest_age_seconds", "Age of the oldest unpublished event.")
        self._reviews = self._gauge("manual_reviews_open", "Open cases of the manual-review queue.", ["reason"])
        self._reviews_age = self._gauge("manual_reviews_oldest_age_seconds", "Age of the oldest open case.")
        self._notifications = self._counter("alert_notifications", "Attempts to send to the webhook.", ["outcome"])
        self._notifications_pending = self._gauge("alert_notifications_pending", "Notifications that wait to be sent.")
        self._firing = self._gauge("alerts_firing", "Alerts that fire, received ones included.")
        self._alerting_failures = self._counter(
            "alerting_failures", "Rules, alerts and notifications that raised something unforeseen.", ["part"]
        )
        self._background_failures = self._counter(
            "background_failures",
            "Rounds of background work that raised something, and items that it could not settle.",
            ["loop"],
        )
        self._in_a_row = self._gauge(
            "orders_refused_in_a_row",
            "Newest orders in a row that could not be reserved because inventory could not be asked or refused us.",
        )
        self._dead_letters = self._gauge("dead_letters", "Events that could not be handled and wait for a person.")
        self._differences = self._gauge(
            "conservation_differences", "Orders for which stock or money do not add up between the services."
        )
        self._database_writable = self._gauge(
            "database_writable", "1 while this replica can write the database, 0 while it cannot."
        )
        # Not known before the first look: 0 would raise an alarm at every start.
        self._database_writable.set(nan)
        self._gauges_age = self._gauge(
            "gauges_age_seconds",
            "Age of the queue gauges, which come from the database; since the start when never read.",
        )
        self._make_all_series(breakers)
        # labels() takes a lock and builds a key; the children used for every order are looked up once.
        self._requests_of = {pair: self._requests.labels(*pair) for pair in product(INVENTORY_CALLS, OUTCOMES)}
        self._refusals_of = {pair: self._refusals.labels(*pair) for pair in product(INVENTORY_CALLS, REFUSAL_STATUSES)}
        self._duration_of = {operation: self._duration.labels(operation) for operation in INVENTORY_CALLS}
        self._orders_of = {status.value: self._orders.labels(status.value) for status in OrderStatus}

    # ------------------------------------------------------------------ verbs

    def attempt(self, attempt: Attempt) -> None:
        """Count one attempt of an inventory operation; one that was not sent has no latency."""
        self._requests_of[attempt.call, attempt.outcome].inc()
        if attempt.outcome == REFUSED_US:
            status = str(attempt.details.get("status"))
            self._refusals_of[attempt.call, status if status in REFUSAL_STATUSES else "other"].inc()
        was_kept_back = attempt.outcome == THROTTLED and "status" not in attempt.details
        if attempt.outcome != SHORT_CIRCUITED and not was_kept_back:
            self._duration_of[attempt.call].observe(attempt.duration_seconds)

    def order_became(self, status: str) -> None:
        self._orders_of[status].inc()

    def order_failed(self, reason: str) -> None:
        """Count a failure due to inventory; codes that have nothing to do with inventory are left out."""
        if reason in FAILURE_REASONS:
            self._failures.labels(reason).inc()

    def release(self, outcome: str) -> None:
        self._releases.labels(outcome).inc()

    def event_published(self, event_type: str, outcome: str) -> None:
        self._published.labels(event_type, outcome).inc()

    def event_consumed(self, event_type: str, outcome: str) -> None:
        # A subject comes from outside: unknown ones share a label, so that series stay few.
        known = event_type if event_type in events.INCOMING else "unknown"
        self._consumed.labels(known, outcome).inc()

    def notification(self, outcome: str) -> None:
        """Count an attempt to send a notification about an alert."""
        self._notifications.labels(outcome).inc()

    def alerting(self, *, firing: int, pending_notifications: int) -> None:
        """Set the gauges about alerts."""
        self._firing.set(firing)
        self._notifications_pending.set(pending_notifications)

    def alerting_failed(self, part: str) -> None:
        """Count a rule, alert or notification that raised something unforeseen."""
        self._alerting_failures.labels(part).inc()

    def background(self, loops: Sequence[str]) -> None:
        """Name the background work there is, so that its series are there before anything fails."""
        for loop in loops:
            self._background_failures.labels(loop)

    def background_failed(self, loop: str) -> None:
        """Count a round of background work that raised, or one item that it could not settle."""
        self._background_failures.labels(loop).inc()

    def breaker_changed(self, breaker: str, to: str) -> None:
        self._transitions.labels(breaker, to).inc()

    def breaker_is(self, breaker: str, state: str) -> None:
        for candidate in BREAKER_STATES:
            self._breaker_state.labels(breaker, candidate).set(candidate == state)

    def queues(
        self,
        *,
        reservation: int,
        release: int,
        outbox: int,
        outbox_oldest_at: datetime | None,
        undeliverable: int,
        now: datetime,
        reviews: Mapping[str, int],
        reviews_oldest_at: datetime | None,
        dead_letters: int,
        differences: int,
        refused_in_a_row: int,
    ) -> None:
        """Set the gauges that the database knows."""
        self._reservation_queue.set(reservation)
        self._release_queue.set(release)
        self._outbox_pending.set(outbox)
        self._undeliverable.set(undeliverable)
        self._outbox_age.set(_age(outbox_oldest_at, now))
        self._reviews_age.set(_age(reviews_oldest_at, now))
        for reason in ReviewReason:
            self._reviews.labels(reason.value).set(reviews.get(reason, 0))
        self._dead_letters.set(dead_letters)
        self._in_a_row.set(refused_in_a_row)
        self._differences.set(differences)

    def database_is(self, writable: bool) -> None:
        """Say whether the database can be written."""
        self._database_writable.set(writable)

    def gauges_are(self, age: timedelta) -> None:
        """Say how old the gauges are that the database knows."""
        self._gauges_age.set(max(0.0, age.total_seconds()))

    def exposition(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)

    def sample(self) -> dict[str, Any]:
        """The present counts for the local history, without those at 0; counters restart with the process."""
        return {
            "requests": {
                operation: _counted(self._requests, [(operation, outcome) for outcome in OUTCOMES])
                for operation in INVENTORY_CALLS
            },
            "refusals": {
                operation: _counted(self._refusals, [(operation, status) for status in REFUSAL_STATUSES])
                for operation in INVENTORY_CALLS
            },
            "latency": {operation: self._latency(operation) for operation in INVENTORY_CALLS},
            "orders": _counted(self._orders, [(status.value,) for status in OrderStatus]),
            "failures": _counted(self._failures, [(reason,) for reason in FAILURE_REASONS]),
            "releases": _counted(self._releases, [(outcome,) for outcome in RELEASE_OUTCOMES]),
        }

    # ---------------------------------------------------------------- helpers

    def _latency(self, operation: str) -> dict[str, Any]:
        samples = {"buckets": [], "sum": 0.0, "count": 0}  # type: dict[str, Any]
        for metric in self._duration.labels(operation)._samples():  # noqa: SLF001 - no public reader of one child
            if metric.name == "_bucket":
                samples["buckets"].append(int(metric.value))
            elif metric.name == "_count":
                samples["count"] = int(metric.value)
            elif metric.name == "_sum":
                samples["sum"] = round(metric.value, 4)
        return samples

    def _make_all_series(self, breakers: Sequence[str]) -> None:
        for operation, outcome in product(INVENTORY_CALLS, OUTCOMES):
            self._duration.labels(operation)
            self._requests.labels(operation, outcome)
        for breaker, state in product(breakers, BREAKER_STATES):
            self.breaker_is(breaker, "closed")
            self._transitions.labels(breaker, state)
        closed_sets: list[tuple[Counter, Sequence[str]]] = [
            (self._failures, FAILURE_REASONS),
            (self._orders, [status.value for status in OrderStatus]),
            (self._releases, RELEASE_OUTCOMES),
            (self._notifications, NOTIFICATION_OUTCOMES),
            (self._alerting_failures, ALERTING_PARTS),
        ]
        for counter, values in closed_sets:
            for value in values:
                counter.labels(value)
        for event_type, outcome in product(events.OUTGOING, PUBLISH_OUTCOMES):
            self._published.labels(event_type, outcome)
        for event_type, outcome in product((*events.INCOMING, "unknown"), CONSUME_OUTCOMES):
            self._consumed.labels(event_type, outcome)
        for reason in ReviewReason:
            self._reviews.labels(reason.value)

    def _counter(self, name: str, text: str, labels: Sequence[str]) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)


def _counted(counter: Counter, labels: Sequence[tuple[str, ...]]) -> dict[str, int]:
    """What was counted under each label set, by its last label; nothing is not listed."""
    counts = {values[-1]: int(counter.labels(*values)._value.get()) for values in labels}  # noqa: SLF001 - no public reader
    return {name: count for name, count in counts.items() if count}


def _age(oldest: datetime | None, now: datetime) -> float:
    return max(0.0, (now - oldest).total_seconds()) if oldest else 0.0
