"""The gauges of queues: their declarations, and how each is read from the database.

The scrape, the stored samples and the alerts read the same values. Declare and read a new gauge here.
Source: contract 6.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from services.breakers.overview import SEVERITY
from services.domain.orders.model import OrderStatus, ReleaseState, ReviewReason
from services.metrics.expressions import SeriesValue
from state import alerts, conservation, dead_letters, notifications, order_search, orders, outbox, releases, reviews
from state.replicas import Replica

BREAKER_STATE = "inventory_circuit_breaker_state"

GaugeValues = Mapping[str, list[SeriesValue]]
"""Labels and value of each series, by metric."""


@dataclass(frozen=True, slots=True)
class QueueGauge:
    """A gauge whose value comes from the database."""

    name: str
    help: str
    stored: str = ""
    """Its key in stored samples and rollups; empty when the gauge is not stored."""
    label: str | None = None


QUEUE_GAUGES = (
    QueueGauge("reservation_queue_depth", "Orders in PENDING_INVENTORY.", "reservation"),
    QueueGauge("release_queue_depth", "Release jobs that are pending.", "release"),
    QueueGauge("outbox_pending", "Events waiting to be published.", "outbox"),
    QueueGauge(
        "outbox_undeliverable",
        "Events that can never be published as they are and wait for a person.",
        "undeliverable",
    ),
    QueueGauge("outbox_oldest_age_seconds", "Age of the oldest unpublished event.", "outboxAge"),
    QueueGauge("manual_reviews_open", "Open cases of the manual-review queue.", "reviews", label="reason"),
    QueueGauge("manual_reviews_oldest_age_seconds", "Age of the oldest open case."),
    QueueGauge("dead_letters", "Events that could not be handled and wait for a person.", "deadLetters"),
    QueueGauge(
        "conservation_differences",
        "Orders for which stock or money do not add up between the services.",
        "differences",
    ),
    QueueGauge(
        "orders_refused_in_a_row",
        "Newest orders in a row that could not be reserved because inventory could not be asked or refused us.",
    ),
    QueueGauge("alerts_firing", "Alerts that fire, received ones included."),
    QueueGauge("alert_notifications_pending", "Notifications that wait to be sent."),
)
STORED_GAUGES = {gauge.name: gauge.stored for gauge in QUEUE_GAUGES if gauge.stored}
"""Keys in stored samples and rollups, by metric."""


def read_gauges(connection: Connection, now: datetime) -> GaugeValues:
    """The values of all QUEUE_GAUGES in the database."""
    pending, oldest_event_at = outbox.pending(connection)
    by_reason = reviews.count_open_by_reason(connection)
    values = {
        "reservation_queue_depth": orders.count_with_status(connection, OrderStatus.PENDING_INVENTORY),
        "release_queue_depth": releases.count_by_state(connection).get(ReleaseState.PENDING, 0),
        "outbox_pending": pending,
        "outbox_undeliverable": outbox.count_undeliverable(connection),
        "outbox_oldest_age_seconds": _age(oldest_event_at, now),
        "manual_reviews_oldest_age_seconds": _age(reviews.oldest_open_at(connection), now),
        "dead_letters": dead_letters.count_open(connection),
        "conservation_differences": conservation.count_unsettled(connection),
        "orders_refused_in_a_row": order_search.count_refused_in_a_row(connection),
        "alerts_firing": alerts.count_by_state(connection).get(alerts.FIRING, 0),
        "alert_notifications_pending": notifications.count_pending(connection),
    }
    gauges: dict[str, list[SeriesValue]] = {name: [({}, float(value))] for name, value in values.items()}
    gauges["manual_reviews_open"] = [
        ({"reason": reason.value}, float(by_reason.get(reason, 0))) for reason in ReviewReason
    ]
    return gauges


def breaker_gauges(replicas: Iterable[Replica]) -> GaugeValues:
    """The states of the breakers of live replicas: 1 for the current state, 0 for the other states."""
    return {
        BREAKER_STATE: [
            (
                {"breaker": str(breaker.get("name")), "state": state, "instance": replica.replica},
                float(breaker.get("state") == state),
            )
            for replica in replicas
            for breaker in replica.breakers
            for state in SEVERITY
        ]
    }


def stored_queues(gauges: GaugeValues) -> dict[str, float]:
    """The values as a sample stores them: one per queue, summed over the labels."""
    return {stored: sum(value for _, value in gauges[name]) for name, stored in STORED_GAUGES.items()}


def _age(oldest: datetime | None, now: datetime) -> float:
    return max(0.0, (now - oldest).total_seconds()) if oldest else 0.0
