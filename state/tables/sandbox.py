"""Drills and settings of the sandbox."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Index, Integer, Table, Text

from state.engine.column_types import JsonObject
from state.engine.database import UtcDateTime
from state.tables.base import BY_KEY, Key, Word, metadata

drills = Table(
    "drills",
    metadata,
    Column("drill_id", Key, primary_key=True),
    Column("kind", Word, nullable=False),
    Column("faults", JsonObject, nullable=False),
    Column("seconds", Integer, nullable=False),
    Column("actor", Key, nullable=False),
    Column("reason", Text, nullable=False),
    Column("phase", Word, nullable=False),
    # 1 for the active drill, else null: the unique constraint prevents a second active drill.
    Column("is_active", Integer, unique=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("began_at", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Column("recovered_at", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Column("stopped_by", Key),
    Column("before", JsonObject(none_as_null=True)),
    Column("noticed", JsonObject, nullable=False),
    Column("report", JsonObject(none_as_null=True)),
    Column("version", Integer, nullable=False),
    Index("ix_drills_created_at", "created_at"),
)

sandbox_values = Table(
    "sandbox_values",
    metadata,
    Column("name", Key, primary_key=True),
    Column("value", JSON, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    **BY_KEY,
)
