"""The tables of the service, one module for each topic. Every table can be imported from here.

One definition serves SQLite and PostgreSQL. Every list has an index, and ``services.runtime.retention`` prunes every
table that grows.
"""

from state.tables.alerting import alert_history, alert_notifications, alerts, silences
from state.tables.base import metadata
from state.tables.messaging import dead_letters, inbox, outbox, parked_events
from state.tables.monitoring import (
    breaker_overrides,
    breaker_transitions,
    conservation_differences,
    conservation_progress,
    leases,
    metric_rollups,
    metric_samples,
    order_impacts,
    replicas,
)
from state.tables.ordering import idempotency_keys, order_history, order_items, orders, products, returns
from state.tables.sandbox import drills, sandbox_values
from state.tables.work import (
    audit_log,
    commands,
    console_looks,
    inventory_lookups,
    operation_items,
    operations,
    release_actions,
    releases,
    reviews,
)

__all__ = [
    "alert_history",
    "alert_notifications",
    "alerts",
    "audit_log",
    "breaker_overrides",
    "breaker_transitions",
    "commands",
    "conservation_differences",
    "conservation_progress",
    "console_looks",
    "dead_letters",
    "drills",
    "idempotency_keys",
    "inbox",
    "inventory_lookups",
    "leases",
    "metadata",
    "metric_rollups",
    "metric_samples",
    "operation_items",
    "operations",
    "order_history",
    "order_impacts",
    "order_items",
    "orders",
    "outbox",
    "parked_events",
    "products",
    "release_actions",
    "releases",
    "replicas",
    "returns",
    "reviews",
    "sandbox_values",
    "silences",
]
