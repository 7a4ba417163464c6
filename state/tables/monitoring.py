"""Replicas, leases, circuit breakers, metric samples, incident impacts and the conservation audit."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, Table, Text

from state.engine.column_types import JsonObject, JsonObjects
from state.engine.database import UtcDateTime
from state.tables.base import BY_KEY, Key, Serial, Word, metadata

replicas = Table(
    "replicas",
    metadata,
    Column("replica", Key, primary_key=True),
    Column("started_at", UtcDateTime, nullable=False),
    Column("heartbeat_at", UtcDateTime, nullable=False),
    Column("breakers", JsonObjects, nullable=False),
    Column("facts", JsonObject, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("name", Key, primary_key=True),
    Column("holder", Key, nullable=False),
    Column("acquired_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("noted", JsonObject, nullable=False),
    **BY_KEY,
)

breaker_transitions = Table(
    "breaker_transitions",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("replica", Key, nullable=False),
    Column("breaker", Key, nullable=False),
    Column("from_state", Word, nullable=False),
    Column("to_state", Word, nullable=False),
    Column("at", UtcDateTime, nullable=False, index=True),
)

breaker_overrides = Table(
    "breaker_overrides",
    metadata,
    Column("breaker", Key, primary_key=True),
    Column("state", Word, nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", Key, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    **BY_KEY,
)

metric_samples = Table(
    "metric_samples",
    metadata,
    Column("at", UtcDateTime, primary_key=True),
    Column("replica", Key, primary_key=True),
    Column("sample", JsonObject, nullable=False),
)

metric_rollups = Table(
    "metric_rollups",
    metadata,
    Column("step_seconds", Integer, primary_key=True),
    Column("at", UtcDateTime, primary_key=True),
    Column("replica", Key, primary_key=True),
    Column("counts", JsonObject, nullable=False),
    **BY_KEY,
)

order_impacts = Table(
    "order_impacts",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False),
    Column("order_id", Key, nullable=False),
    Column("kind", Word, nullable=False),
    Column("operation", Word, nullable=False),
    Column("reason", Word, nullable=False),
    Index("ix_order_impacts_at", "at"),
)

conservation_progress = Table(
    "conservation_progress",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("history_id", BigInteger, nullable=False),
    Column("compared", BigInteger, nullable=False),
)

conservation_differences = Table(
    "conservation_differences",
    metadata,
    Column("order_id", Key, ForeignKey("orders.order_id"), primary_key=True),
    Column("kind", Word, primary_key=True),
    Column("detail", Text, nullable=False),
    Column("state", Word, nullable=False),
    Column("first_seen_at", UtcDateTime, nullable=False),
    Column("last_seen_at", UtcDateTime, nullable=False),
    Column("settled_at", UtcDateTime),
    Column("compensated_by", Key),
    Index("ix_conservation_differences_state_first_seen_at", "state", "first_seen_at"),
    **BY_KEY,
)
