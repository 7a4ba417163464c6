"""Events: outgoing, received, parked and dead-lettered."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Index, Integer, LargeBinary, String, Table, Text, UniqueConstraint

from state.engine.column_types import JsonObject
from state.engine.database import UtcDateTime
from state.tables.base import BY_KEY, Key, Serial, Traceparent, Word, metadata, optional, required, where

outbox = Table(
    "outbox",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("event_id", Key, nullable=False, unique=True),
    *required(Key, "subject"),
    Column("order_id", Key, nullable=False, index=True),
    *required(LargeBinary, "payload"),
    *required(UtcDateTime, "created_at"),
    *optional(UtcDateTime, "published_at", "claimed_until"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    *optional(Text, "last_error", "undeliverable_reason"),
    *optional(Traceparent, "traceparent"),
    # When and why the event became undeliverable; such a row is not claimed any more.
    *optional(UtcDateTime, "undeliverable_at"),
    Index("ix_outbox_undeliverable", "id", **where("undeliverable_at IS NOT NULL")),
    Index("ix_outbox_unpublished", "id", **where("published_at IS NULL")),
    Index("ix_outbox_published_at", "published_at"),
    Index("ix_outbox_attempted", "id", **where("attempts > 0")),
)

inbox = Table(
    "inbox",
    metadata,
    Column("event_id", Key, primary_key=True),
    Column("type", Key, primary_key=True),
    Column("source", Key, primary_key=True, server_default=""),
    # NULL for events of a version that stored no digests.
    *optional(String(64), "digest"),
    Column("order_id", Key, index=True),
    Column("received_at", UtcDateTime, nullable=False, index=True),
    *optional(Word, "outcome"),
    Column("repeats", Integer, nullable=False, server_default="0"),
    Index("ix_inbox_ignored", "received_at", **where("outcome = 'ignored'")),
    Index("ix_inbox_repeated", "received_at", **where("repeats > 0")),
    **BY_KEY,
)

parked_events = Table(
    "parked_events",
    metadata,
    Column("stream", Key, primary_key=True),
    Column("incarnation", Word, primary_key=True),
    Column("stream_seq", BigInteger, primary_key=True, autoincrement=False),
    *required(Key, "subject"),
    *optional(Key, "order_id"),
    *required(LargeBinary, "payload"),
    *required(JSON, "headers"),
    *required(Word, "cause"),
    *required(Text, "reason"),
    *required(Integer, "attempts"),
    *required(UtcDateTime, "parked_at", "due_at"),
    Index("ix_parked_events_due_at", "due_at"),
    Index("ix_parked_events_order_id", "order_id"),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", Key, primary_key=True),
    *required(Key, "stream", "subject"),
    # Creation time of the stream: a recreated stream numbers its messages from 1 again.
    Column("incarnation", Word, nullable=False, server_default=""),
    *required(BigInteger, "stream_seq"),
    *optional(Key, "order_id", "resolved_by"),
    *required(LargeBinary, "payload"),
    *required(JsonObject, "headers"),
    *required(Text, "reason"),
    *required(Integer, "attempts"),
    *required(Word, "state"),
    *required(UtcDateTime, "created_at"),
    *optional(UtcDateTime, "resolved_at"),
    *optional(Text, "note"),
    Column("cause", String(200), nullable=False, server_default=""),
    UniqueConstraint("stream", "incarnation", "stream_seq"),
    Index("ix_dead_letters_state_created_at", "state", "created_at"),
    Index("ix_dead_letters_state_subject_cause", "state", "subject", "cause", "created_at"),
    Index("ix_dead_letters_order_id", "order_id"),
    Index("ix_dead_letters_resolved_at", "resolved_at"),
)
