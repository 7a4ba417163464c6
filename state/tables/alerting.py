"""Alerts, their history, silences and notifications."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Float, Index, Integer, Table, Text, text

from state.engine.column_types import JsonObject, JsonObjects
from state.engine.database import UtcDateTime
from state.tables.base import BY_KEY, Key, Serial, Word, metadata

alerts = Table(
    "alerts",
    metadata,
    Column("alert_id", Key, primary_key=True),
    Column("source", Word, nullable=False),
    Column("name", Key, nullable=False),
    Column("labels", JsonObject, nullable=False),
    Column("annotations", JsonObject, nullable=False),
    Column("generator_url", Text, nullable=False),
    Column("state", Word, nullable=False),
    Column("value", Float),
    Column("active_at", UtcDateTime, nullable=False),
    Column("fired_at", UtcDateTime),
    Column("resolved_at", UtcDateTime),
    Column("seen_at", UtcDateTime, nullable=False),
    Column("kept_since", UtcDateTime),
    Column("ends_at", UtcDateTime),
    Column("is_notified", Boolean, nullable=False),
    Column("acknowledged_at", UtcDateTime),
    Column("acknowledged_by", Key),
    Column("acknowledged_note", Text),
    Column("sender", Key, nullable=False, server_default=""),
    Index("ix_alerts_state_resolved_at", "state", "resolved_at"),
    Index("ix_alerts_source_state", "source", "state"),
    **BY_KEY,
)

alert_history = Table(
    "alert_history",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False),
    Column("kind", Word, nullable=False),
    Column("alert_id", Key),
    Column("name", Key, nullable=False),
    Column("labels", JsonObject, nullable=False),
    Column("source", Word, nullable=False),
    Column("value", Float),
    Column("actor", Key),
    Column("detail", Text),
    Index("ix_alert_history_at", "at"),
    Index("ix_alert_history_alert_id_at", "alert_id", "at"),
)

silences = Table(
    "silences",
    metadata,
    Column("silence_id", Key, primary_key=True),
    Column("matchers", JsonObjects, nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", Key, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("ends_at", UtcDateTime, nullable=False),
    Column("ended_by", Key),
    Index("ix_silences_ends_at", "ends_at"),
    **BY_KEY,
)

alert_notifications = Table(
    "alert_notifications",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("alert_id", Key, nullable=False),
    Column("name", Key, nullable=False),
    Column("status", Word, nullable=False),
    Column("payload", JsonObject, nullable=False),
    Column("state", Word, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", UtcDateTime),
    Column("last_error", Text),
    Column("created_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Index("ix_alert_notifications_alert_id_id", "alert_id", "id"),
    Index("ix_alert_notifications_finished_at", "finished_at"),
    Index(
        "ix_alert_notifications_pending",
        "id",
        sqlite_where=text("state = 'PENDING'"),
        postgresql_where=text("state = 'PENDING'"),
    ),
)
