"""Events: outgoing, received, parked and dead-lettered."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from state.engine.column_types import JsonObject
from state.engine.database import UtcDateTime
from state.tables.base import BY_KEY, Key, Serial, Traceparent, Word, metadata

outbox = Table(
    "outbox",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("event_id", Key, nullable=False, unique=True),
    Column("subject", Key, nullable=False),
    Column("order_id", Key, nullable=False, index=True),
    Column("payload", LargeBinary, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("published_at", UtcDateTime),
    Column("claimed_until", UtcDateTime),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("last_error", Text),
    Column("traceparent", Traceparent),
    # When and why the event became undeliverable; such a row is not claimed any more.
    Column("undeliverable_at", UtcDateTime),
    Column("undeliverable_reason", Text),
    Index(
        "ix_outbox_undeliverable",
        "id",
        sqlite_where=text("undeliverable_at IS NOT NULL"),
        postgresql_where=text("undeliverable_at IS NOT NULL"),
    ),
    Index(
        "ix_outbox_unpublished",
        "id",
        sqlite_where=text("published_at IS NULL"),
        postgresql_where=text("published_at IS NULL"),
    ),
    Index("ix_outbox_published_at", "published_at"),
    Index(
        "ix_outbox_attempted",
        "id",
        sqlite_where=text("attempts > 0"),
        postgresql_where=text("attempts > 0"),
    ),
)

inbox = Table(
    "inbox",
    metadata,
    Column("event_id", Key, primary_key=True),
    Column("type", Key, primary_key=True),
    Column("source", Key, primary_key=True, server_default=""),
    # NULL for events of a version that stored no digests.
    Column("digest", String(64)),
    Column("order_id", Key, index=True),
    Column("received_at", UtcDateTime, nullable=False, index=True),
    Column("outcome", Word),
    Column("repeats", Integer, nullable=False, server_default="0"),
    Index(
        "ix_inbox_ignored",
        "received_at",
        sqlite_where=text("outcome = 'ignored'"),
        postgresql_where=text("outcome = 'ignored'"),
    ),
    Index(
        "ix_inbox_repeated",
        "received_at",
        sqlite_where=text("repeats > 0"),
        postgresql_where=text("repeats > 0"),
    ),
    **BY_KEY,
)

parked_events = Table(
    "parked_events",
    metadata,
    Column("stream", Key, primary_key=True),
    Column("incarnation", Word, primary_key=True),
    Column("stream_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("subject", Key, nullable=False),
    Column("order_id", Key),
    Column("payload", LargeBinary, nullable=False),
    Column("headers", JSON, nullable=False),
    Column("cause", Word, nullable=False),
    Column("reason", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("parked_at", UtcDateTime, nullable=False),
    Column("due_at", UtcDateTime, nullable=False),
    Index("ix_parked_events_due_at", "due_at"),
    Index("ix_parked_events_order_id", "order_id"),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", Key, primary_key=True),
    Column("stream", Key, nullable=False),
    # Creation time of the stream: a recreated stream numbers its messages from 1 again.
    Column("incarnation", Word, nullable=False, server_default=""),
    Column("stream_seq", BigInteger, nullable=False),
    Column("subject", Key, nullable=False),
    Column("order_id", Key),
    Column("payload", LargeBinary, nullable=False),
    Column("headers", JsonObject, nullable=False),
    Column("reason", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("state", Word, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("resolved_at", UtcDateTime),
    Column("resolved_by", Key),
    Column("note", Text),
    Column("cause", String(200), nullable=False, server_default=""),
    UniqueConstraint("stream", "incarnation", "stream_seq"),
    Index("ix_dead_letters_state_created_at", "state", "created_at"),
    Index("ix_dead_letters_state_subject_cause", "state", "subject", "cause", "created_at"),
    Index("ix_dead_letters_order_id", "order_id"),
    Index("ix_dead_letters_resolved_at", "resolved_at"),
)
