"""The tables of the service, one module for each topic. Every table can be imported from here.

One definition serves SQLite and PostgreSQL. Every list has an index, and ``services.runtime.retention`` prunes every
table that grows.
"""

from state.tables.base import metadata
from state.tables.messaging import dead_letters, inbox, outbox, parked_events
from state.tables.monitoring import (
    alert_history,
    alert_notifications,
    alerts,
    breaker_overrides,
    breaker_transitions,
    conservation_differences,
    conservation_progress,
    drills,
    leases,
    metric_rollups,
    metric_samples,
    order_impacts,
    replicas,
    sandbox_values,
    silences,
)
from state.tables.ordering import idempotency_keys, order_history, order_items, orders, products, returns
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
