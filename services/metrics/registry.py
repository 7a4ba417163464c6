"""The Prometheus registry of the service, behind methods with closed label sets.

Every label set exists from the start, because rate() returns nothing for a series that appears late.
Source: contract 6; requirements 9.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import product
from math import nan
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from services.domain.calls import INVENTORY_CALLS, REFUSED_US, SHORT_CIRCUITED, THROTTLED, Attempt
from services.domain.orders import events
from services.domain.orders.model import ReviewReason
from services.metrics.catalogue import (
    COUNTERS,
    DURATION,
    FAILURE_REASONS,
    FAILURES,
    LATENCY_BUCKETS,
    REFUSAL_STATUSES,
    REFUSALS,
    REQUESTS,
    CounterFamily,
)
from services.metrics.gauges import BREAKER_STATE, QUEUE_GAUGES, GaugeValues
from services.metrics.sample import stored_counters

BREAKER_STATES = ("closed", "open", "half_open", "forced_open", "forced_closed")
PUBLISH_OUTCOMES = ("published", "failed")
NOTIFICATION_OUTCOMES = ("sent", "retried", "failed")
ALERTING_PARTS = ("rule", "store", "notify", "received")
CONSUME_OUTCOMES = ("handled", "duplicate", "ignored", "parked", "retried", "dead_lettered")


class Metrics:
    """Counts attempts, events and failures; the gauges of queues are set from the database at scrape time."""

    def __init__(self, breakers: Sequence[str]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._duration = Histogram(
            DURATION,
            "Latency of one attempt of an inventory operation.",
            ["operation"],
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self._breaker_state = self._gauge(BREAKER_STATE, "1 for the state the breaker is in.", ["breaker", "state"])
        self._transitions = self._counter(
            "inventory_circuit_breaker_transitions", "State changes of breakers.", ["breaker", "to"]
        )
        self._published = self._counter("events_published", "Publish attempts.", ["type", "outcome"])
        self._consumed = self._counter("events_consumed", "Events consumed.", ["type", "outcome"])
        self._notifications = self._counter("alert_notifications", "Attempts to send to the webhook.", ["outcome"])
        self._alerting_failures = self._counter(
            "alerting_failures", "Rules, alerts and notifications that raised something unforeseen.", ["part"]
        )
        self._background_failures = self._counter(
            "background_failures",
            "Rounds of background work that raised something, and items that it could not settle.",
            ["loop"],
        )
        self._database_writable = self._gauge(
            "database_writable", "1 while this replica can write the database, 0 while it cannot."
        )
        # NaN until the first check: 0 would fire an alert at every start.
        self._database_writable.set(nan)
        self._gauges_age = self._gauge(
            "gauges_age_seconds",
            "Age of the queue gauges, which come from the database; since the start when never read.",
        )
        self._queues = {
            gauge.name: self._gauge(gauge.name, gauge.help, [gauge.label] if gauge.label else [])
            for gauge in QUEUE_GAUGES
        }
        self._make_all_series(breakers)
        # labels() takes a lock and builds a key, so the children that every order uses are stored once.
        self._counters = {
            (family.name, *values): counter.labels(*values)
            for family in COUNTERS
            for counter in [self._counter(family.name, family.help, family.labels)]
            for values in family.values
        }
        self._duration_of = {operation: self._duration.labels(operation) for operation in INVENTORY_CALLS}

    # ---------------------------------------------------------------- counting

    def attempt(self, attempt: Attempt) -> None:
        """Count one attempt of an inventory call; an attempt that was not sent has no latency."""
        self.count(REQUESTS, attempt.call, attempt.outcome)
        if attempt.outcome == REFUSED_US:
            status = str(attempt.details.get("status"))
            self.count(REFUSALS, attempt.call, status if status in REFUSAL_STATUSES else "other")
        was_kept_back = attempt.outcome == THROTTLED and "status" not in attempt.details
        if attempt.outcome != SHORT_CIRCUITED and not was_kept_back:
            self._duration_of[attempt.call].observe(attempt.duration_seconds)

    def count(self, family: CounterFamily, *values: str) -> None:
        """Count one event in a family of the catalogue; ``values`` are the label values."""
        self._counters[(family.name, *values)].inc()

    def order_failed(self, reason: str) -> None:
        """Count a failure due to inventory; other error codes are ignored."""
        if reason in FAILURE_REASONS:
            self.count(FAILURES, reason)

    def event_published(self, event_type: str, outcome: str) -> None:
        self._published.labels(event_type, outcome).inc()

    def event_consumed(self, event_type: str, outcome: str) -> None:
        # Subjects come from other services. Unknown subjects share a label, which limits the number of series.
        known = event_type if event_type in events.INCOMING else "unknown"
        self._consumed.labels(known, outcome).inc()

    def notification(self, outcome: str) -> None:
        """Count an attempt to send a notification about an alert."""
        self._notifications.labels(outcome).inc()

    def alerting_failed(self, part: str) -> None:
        """Count a rule, alert or notification that raised an unexpected error."""
        self._alerting_failures.labels(part).inc()

    def background(self, loops: Sequence[str]) -> None:
        """Create the series of these loops, so that they exist before the first failure."""
        for loop in loops:
            self._background_failures.labels(loop)

    def background_failed(self, loop: str) -> None:
        """Count a round of background work that raised, or one item that the round could not settle."""
        self._background_failures.labels(loop).inc()

    def breaker_changed(self, breaker: str, to: str) -> None:
        self._transitions.labels(breaker, to).inc()

    # ------------------------------------------------------------------ gauges

    def breaker_is(self, breaker: str, state: str) -> None:
        for candidate in BREAKER_STATES:
            self._breaker_state.labels(breaker, candidate).set(candidate == state)

    def queues(self, values: GaugeValues) -> None:
        """Set the gauges of QUEUE_GAUGES."""
        for name, series in values.items():
            gauge = self._queues[name]
            for labels, value in series:
                (gauge.labels(**labels) if labels else gauge).set(value)

    def database_is(self, writable: bool) -> None:
        self._database_writable.set(writable)

    def gauges_are(self, age: timedelta) -> None:
        """Set the age of the queue gauges."""
        self._gauges_age.set(max(0.0, age.total_seconds()))

    # ----------------------------------------------------------------- reading

    def exposition(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)

    def sample(self) -> dict[str, Any]:
        """The current counts as a sample stores them; counters restart with the process."""
        counters = {key: int(child._value.get()) for key, child in self._counters.items()}  # noqa: SLF001 - no public reader
        return stored_counters(counters) | {"latency": {call: self._latency(call) for call in INVENTORY_CALLS}}

    # ---------------------------------------------------------------- helpers

    def _latency(self, operation: str) -> dict[str, Any]:
        samples = {"buckets": [], "sum": 0.0, "count": 0}  # type: dict[str, Any]
        for metric in self._duration_of[operation]._samples():  # noqa: SLF001 - no public reader of one child
            if metric.name == "_bucket":
                samples["buckets"].append(int(metric.value))
            elif metric.name == "_count":
                samples["count"] = int(metric.value)
            elif metric.name == "_sum":
                samples["sum"] = round(metric.value, 4)
        return samples

    def _make_all_series(self, breakers: Sequence[str]) -> None:
        for breaker in breakers:
            self.breaker_is(breaker, "closed")
        for counter, label_sets in (
            (self._transitions, product(breakers, BREAKER_STATES)),
            (self._notifications, product(NOTIFICATION_OUTCOMES)),
            (self._alerting_failures, product(ALERTING_PARTS)),
            (self._published, product(events.OUTGOING, PUBLISH_OUTCOMES)),
            (self._consumed, product((*events.INCOMING, "unknown"), CONSUME_OUTCOMES)),
        ):
            for labels in label_sets:
                counter.labels(*labels)
        for reason in ReviewReason:
            self._queues["manual_reviews_open"].labels(reason.value)

    def _counter(self, name: str, text: str, labels: Sequence[str]) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(name, text, labels, registry=self.registry)
