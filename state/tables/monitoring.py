"""Alerts, breakers, replicas, metrics, incident impacts, the conservation audit, and drills of the sandbox."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Column, Float, ForeignKey, Index, Integer, Table, Text

from state.engine.column_types import JsonObject, JsonObjects
from state.engine.database import UtcDateTime
from state.tables.base import BY_KEY, Key, Serial, Word, metadata, optional, required, where

replicas = Table(
    "replicas",
    metadata,
    Column("replica", Key, primary_key=True),
    *required(UtcDateTime, "started_at", "heartbeat_at"),
    *required(JsonObjects, "breakers"),
    *required(JsonObject, "facts"),
)

leases = Table(
    "leases",
    metadata,
    Column("name", Key, primary_key=True),
    *required(Key, "holder"),
    *required(UtcDateTime, "acquired_at", "expires_at"),
    *required(JsonObject, "noted"),
    **BY_KEY,
)

breaker_transitions = Table(
    "breaker_transitions",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    *required(Key, "replica", "breaker"),
    *required(Word, "from_state", "to_state"),
    Column("at", UtcDateTime, nullable=False, index=True),
)

breaker_overrides = Table(
    "breaker_overrides",
    metadata,
    Column("breaker", Key, primary_key=True),
    *required(Word, "state"),
    *required(Text, "reason"),
    *required(Key, "actor"),
    *required(UtcDateTime, "created_at", "expires_at"),
    **BY_KEY,
)

metric_samples = Table(
    "metric_samples",
    metadata,
    Column("at", UtcDateTime, primary_key=True),
    Column("replica", Key, primary_key=True),
    *required(JsonObject, "sample"),
)

metric_rollups = Table(
    "metric_rollups",
    metadata,
    Column("step_seconds", Integer, primary_key=True),
    Column("at", UtcDateTime, primary_key=True),
    Column("replica", Key, primary_key=True),
    *required(JsonObject, "counts"),
    **BY_KEY,
)

order_impacts = Table(
    "order_impacts",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    *required(UtcDateTime, "at"),
    *required(Key, "order_id"),
    *required(Word, "kind", "operation", "reason"),
    Index("ix_order_impacts_at", "at"),
)

conservation_progress = Table(
    "conservation_progress",
    metadata,
    Column("id", Integer, primary_key=True),
    *required(BigInteger, "history_id", "compared"),
)

conservation_differences = Table(
    "conservation_differences",
    metadata,
    Column("order_id", Key, ForeignKey("orders.order_id"), primary_key=True),
    Column("kind", Word, primary_key=True),
    *required(Text, "detail"),
    *required(Word, "state"),
    *required(UtcDateTime, "first_seen_at", "last_seen_at"),
    *optional(UtcDateTime, "settled_at"),
    *optional(Key, "compensated_by"),
    Index("ix_conservation_differences_state_first_seen_at", "state", "first_seen_at"),
    **BY_KEY,
)

alerts = Table(
    "alerts",
    metadata,
    Column("alert_id", Key, primary_key=True),
    *required(Word, "source", "state"),
    *required(Key, "name"),
    *required(JsonObject, "labels", "annotations"),
    *required(Text, "generator_url"),
    *optional(Float, "value"),
    *required(UtcDateTime, "active_at", "seen_at"),
    *optional(UtcDateTime, "fired_at", "resolved_at"),
    *optional(UtcDateTime, "kept_since", "ends_at"),
    *required(Boolean, "is_notified"),
    *optional(UtcDateTime, "acknowledged_at"),
    *optional(Key, "acknowledged_by"),
    *optional(Text, "acknowledged_note"),
    Column("sender", Key, nullable=False, server_default=""),
    Index("ix_alerts_state_resolved_at", "state", "resolved_at"),
    Index("ix_alerts_source_state", "source", "state"),
    **BY_KEY,
)

alert_history = Table(
    "alert_history",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    *required(UtcDateTime, "at"),
    *required(Word, "kind", "source"),
    *optional(Key, "alert_id", "actor"),
    *required(Key, "name"),
    *required(JsonObject, "labels"),
    *optional(Float, "value"),
    *optional(Text, "detail"),
    Index("ix_alert_history_at", "at"),
    Index("ix_alert_history_alert_id_at", "alert_id", "at"),
)

silences = Table(
    "silences",
    metadata,
    Column("silence_id", Key, primary_key=True),
    *required(JsonObjects, "matchers"),
    *required(Text, "reason"),
    *required(Key, "actor"),
    *required(UtcDateTime, "created_at", "ends_at"),
    *optional(Key, "ended_by"),
    Index("ix_silences_ends_at", "ends_at"),
    **BY_KEY,
)

alert_notifications = Table(
    "alert_notifications",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    *required(Key, "alert_id", "name"),
    *required(Word, "status", "state"),
    *required(JsonObject, "payload"),
    *required(Integer, "attempts"),
    *optional(UtcDateTime, "next_attempt_at", "finished_at"),
    *optional(Text, "last_error"),
    *required(UtcDateTime, "created_at"),
    Index("ix_alert_notifications_alert_id_id", "alert_id", "id"),
    Index("ix_alert_notifications_finished_at", "finished_at"),
    Index("ix_alert_notifications_pending", "id", **where("state = 'PENDING'")),
)

drills = Table(
    "drills",
    metadata,
    Column("drill_id", Key, primary_key=True),
    *required(Word, "kind", "phase"),
    *required(JsonObject, "faults", "noticed"),
    *required(Integer, "seconds", "version"),
    *required(Key, "actor"),
    *required(Text, "reason"),
    # 1 for the active drill, else null: the unique constraint prevents a second active drill.
    Column("is_active", Integer, unique=True),
    *required(UtcDateTime, "created_at"),
    *optional(UtcDateTime, "began_at", "ended_at", "recovered_at", "finished_at"),
    *optional(Key, "stopped_by"),
    *optional(JsonObject(none_as_null=True), "before", "report"),
    Index("ix_drills_created_at", "created_at"),
)

sandbox_values = Table(
    "sandbox_values",
    metadata,
    Column("name", Key, primary_key=True),
    *required(JSON, "value"),
    *required(UtcDateTime, "changed_at"),
    **BY_KEY,
)
