"""The tables of the service. Every list has an index that serves it; every queue is bounded by pruning.

One definition serves SQLite and PostgreSQL. Source: design 7.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from state.engine.column_types import JsonObject, JsonObjects, JsonTexts
from state.engine.database import UtcDateTime

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Key = String(128)
Word = String(40)
Traceparent = String(55)
# SQLite gives only INTEGER primary keys a rowid of their own.
Serial = BigInteger().with_variant(Integer, "sqlite")

BY_KEY: dict[str, Any] = {"sqlite_with_rowid": False}
"""SQLite stores the row in its key's tree: one tree less to write than with a hidden row number."""

orders = Table(
    "orders",
    metadata,
    Column("order_id", Key, primary_key=True),
    Column("user_id", Key, nullable=False),
    Column("customer_priority", Word, nullable=False),
    Column("status", Word, nullable=False),
    Column("inventory_status", Word, nullable=False),
    Column("payment_status", Word, nullable=False),
    Column("reservation_id", Key),
    Column("reservation_expires_at", UtcDateTime),
    Column("confirmed_at", UtcDateTime),
    Column("cancel_reason", Text),
    Column("failure", JsonObject(none_as_null=True)),
    Column("metadata", JsonObject(none_as_null=True)),
    Column("request_hash", String(64), nullable=False),
    Column("due_at", UtcDateTime),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("step_failures", Integer, nullable=False, server_default="0"),
    Column("step_error", Text),
    Column("traceparent", Traceparent),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("version", Integer, nullable=False),
    Index("ix_orders_created_at_order_id", "created_at", "order_id"),
    Index("ix_orders_status_created_at", "status", "created_at"),
    Index("ix_orders_inventory_status_created_at", "inventory_status", "created_at"),
    Index("ix_orders_user_id_created_at", "user_id", "created_at"),
    # Of the common payment statuses a list is walked by time; these are rare, so few orders pay for the index.
    Index(
        "ix_orders_unusual_payment",
        "payment_status",
        "created_at",
        sqlite_where=text("payment_status NOT IN ('NONE', 'CAPTURED', 'REFUNDED')"),
        postgresql_where=text("payment_status NOT IN ('NONE', 'CAPTURED', 'REFUNDED')"),
    ),
    Index(
        "ix_orders_due_at",
        "due_at",
        sqlite_where=text("due_at IS NOT NULL"),
        postgresql_where=text("due_at IS NOT NULL"),
    ),
    **BY_KEY,
)

order_items = Table(
    "order_items",
    metadata,
    Column("order_id", Key, ForeignKey("orders.order_id"), primary_key=True),
    Column("product_id", Key, primary_key=True),
    Column("variant_id", Key, primary_key=True),
    Column("line", Integer, nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("returned", Integer, nullable=False, server_default="0"),
    CheckConstraint("quantity > 0", name="quantity_positive"),
    CheckConstraint("returned >= 0 AND returned <= quantity", name="returned_within_quantity"),
    Index("ix_order_items_product_id_variant_id", "product_id", "variant_id"),
    **BY_KEY,
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("key", String(256), primary_key=True),
    # Who sent it; empty for keys from before callers were kept, which count for every caller.
    Column("caller", Key, primary_key=True, server_default=""),
    Column("order_id", Key, nullable=False),
    Column("request_hash", String(64), nullable=False),
    Column("created_at", UtcDateTime, nullable=False, index=True),
    **BY_KEY,
)

order_history = Table(
    "order_history",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("order_id", Key, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("kind", Word, nullable=False),
    Column("title", Text, nullable=False),
    Column("details", JsonObject(none_as_null=True)),
    Column("actor", Key),
    Index("ix_order_history_order_id_id", "order_id", "id"),
)

reviews = Table(
    "reviews",
    metadata,
    Column("review_id", Key, primary_key=True),
    Column("order_id", Key, ForeignKey("orders.order_id"), nullable=False),
    Column("reason", Word, nullable=False),
    Column("state", Word, nullable=False),
    Column("detail", Text, nullable=False),
    Column("opened_at", UtcDateTime, nullable=False),
    Column("resolved_at", UtcDateTime),
    Column("resolved_by", Key),
    Column("resolution", Word),
    Column("note", Text),
    Column("version", Integer, nullable=False),
    Column("owner", Key),
    Column("claimed_until", UtcDateTime),
    Column("cause", Word, nullable=False, server_default=""),
    Column("resolution_reason", Word),
    Index("ix_reviews_state_opened_at", "state", "opened_at"),
    Index("ix_reviews_state_reason_opened_at", "state", "reason", "opened_at"),
    Index("ix_reviews_state_resolved_at", "state", "resolved_at"),
    Index("ix_reviews_state_claimed_until", "state", "claimed_until"),
    Index("ix_reviews_reason_cause_resolved_at", "reason", "cause", "resolved_at"),
    Index("ix_reviews_order_id", "order_id"),
    Index(
        "uq_reviews_open_case",
        "order_id",
        "reason",
        unique=True,
        sqlite_where=text("state = 'OPEN'"),
        postgresql_where=text("state = 'OPEN'"),
    ),
)

their_answers = Table(
    "their_answers",
    metadata,
    Column("order_id", Key, ForeignKey("orders.order_id"), primary_key=True),
    Column("stock", Word),
    Column("said", Word),
    Column("reservation_id", Key),
    Column("expires_at", UtcDateTime),
    Column("problem", Word),
    Column("asked_at", UtcDateTime, nullable=False),
    Column("asked_by", Key, nullable=False),
    Index("ix_their_answers_asked_at", "asked_at"),
    **BY_KEY,
)

releases = Table(
    "releases",
    metadata,
    Column("order_id", Key, ForeignKey("orders.order_id"), primary_key=True),
    Column("reason", Text, nullable=False),
    Column("state", Word, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", UtcDateTime),
    Column("last_error", Text),
    # What last_error has in common with others; NULL until it was worked out.
    Column("cause", String(160)),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("version", Integer, nullable=False),
    Index("ix_releases_state_updated_at", "state", "updated_at"),
    Index("ix_releases_state_attempts", "state", "attempts"),
    Index("ix_releases_state_cause_updated_at", "state", "cause", "updated_at"),
    Index(
        "ix_releases_unclassified",
        "order_id",
        sqlite_where=text("cause IS NULL"),
        postgresql_where=text("cause IS NULL"),
    ),
    Index(
        "ix_releases_next_attempt_at",
        "next_attempt_at",
        sqlite_where=text("state = 'PENDING'"),
        postgresql_where=text("state = 'PENDING'"),
    ),
)

release_moves = Table(
    "release_moves",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("order_id", Key, ForeignKey("orders.order_id"), nullable=False),
    Column("cause", String(160), nullable=False),
    Column("move", Word, nullable=False),
    Column("actor", Key, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("why", Text),
    Column("outcome", Word, nullable=False),
    Index("ix_release_moves_cause_at", "cause", "at"),
    Index("ix_release_moves_order_id_outcome", "order_id", "outcome"),
    Index("ix_release_moves_at", "at"),
)

returns = Table(
    "returns",
    metadata,
    Column("order_id", Key, ForeignKey("orders.order_id"), primary_key=True),
    Column("return_id", Key, primary_key=True),
    Column("request_hash", String(64), nullable=False),
    Column("items", JsonObjects, nullable=False),
    Column("reason", Text, nullable=False),
    Column("restockable", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

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
    # Since when, and why, the broker can never take it; it is not claimed any more.
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
    # NULL of events from before digests were kept.
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

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", Key, primary_key=True),
    Column("stream", Key, nullable=False),
    # When the stream was made: one that was made anew counts its messages from 1 again.
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

products = Table(
    "products",
    metadata,
    Column("product_id", Key, primary_key=True),
    Column("variant_id", Key, primary_key=True),
    Column("available", Boolean, nullable=False),
    Column("level", Word, nullable=False),
    Column("available_quantity", Integer),
    Column("threshold", Integer),
    Column("source", Key, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Index("ix_products_available_changed_at", "available", "changed_at"),
    Index("ix_products_level_changed_at", "level", "changed_at"),
    Index("ix_products_changed_at", "changed_at"),
    Index("ix_products_expires_at", "expires_at"),
)

replicas = Table(
    "replicas",
    metadata,
    Column("replica", Key, primary_key=True),
    Column("started_at", UtcDateTime, nullable=False),
    Column("heartbeat_at", UtcDateTime, nullable=False),
    Column("breakers", JsonObjects, nullable=False),
    Column("facts", JsonObject, nullable=False),
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

commands = Table(
    "commands",
    metadata,
    Column("command_id", Key, primary_key=True),
    Column("kind", Word, nullable=False),
    Column("target_id", Key, nullable=False),
    Column("arguments", JsonObject, nullable=False),
    Column("actor", Key, nullable=False),
    Column("state", Word, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("claimed_until", UtcDateTime),
    Column("finished_at", UtcDateTime),
    Column("outcome", JsonObject(none_as_null=True)),
    Column("not_before", UtcDateTime),
    Column("role", Word, nullable=False, server_default="operator"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("claimed_by", Key),
    Index("ix_commands_target_id_created_at", "target_id", "created_at"),
    Index("ix_commands_target_id_kind_created_at", "target_id", "kind", "created_at"),
    Index("ix_commands_created_at", "created_at"),
    Index(
        "ix_commands_waiting",
        "created_at",
        sqlite_where=text("state IN ('STORED', 'RUNNING')"),
        postgresql_where=text("state IN ('STORED', 'RUNNING')"),
    ),
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False),
    Column("actor", Key, nullable=False),
    Column("action", Word, nullable=False),
    Column("target", Key, nullable=False),
    Column("order_id", Key),
    Column("reason", Text),
    Column("before", JsonObject(none_as_null=True)),
    Column("after", JsonObject(none_as_null=True)),
    Column("result", Word, nullable=False),
    Column("action_id", Key, unique=True),
    Column("correlation_id", Key),
    Index("ix_audit_log_at", "at"),
    Index("ix_audit_log_order_id_at", "order_id", "at"),
    Index("ix_audit_log_actor_at", "actor", "at"),
    Index("ix_audit_log_action_at", "action", "at"),
    Index("ix_audit_log_target_at", "target", "at"),
    Index("ix_audit_log_correlation_id", "correlation_id"),
)

# -- drills of the sandbox, and what the console remembers of the people who look ----------------

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
    # 1 of the one drill that is under way, else null: there is never a second one.
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

console_looks = Table(
    "console_looks",
    metadata,
    Column("person", Key, primary_key=True),
    Column("looked_at", UtcDateTime, nullable=False, index=True),
    **BY_KEY,
)

operations = Table(
    "operations",
    metadata,
    Column("operation_id", Key, primary_key=True),
    Column("verb", Word, nullable=False),
    Column("action", Word),
    Column("actor", Key, nullable=False),
    Column("reason", Text),
    Column("filter", Text, nullable=False),
    Column("causes", JsonTexts, nullable=False),
    Column("total", Integer, nullable=False),
    Column("unseen", Integer, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("state", Word, nullable=False),
    Column("note", Text),
    Column("stage", Integer, nullable=False),
    Column("batch", Integer, nullable=False),
    Column("in_flight", Integer, nullable=False),
    Column("tally", JsonObject, nullable=False),
    Column("new_failures", Integer, nullable=False),
    Column("waits_until", UtcDateTime),
    Column("claimed_by", Key),
    Column("claimed_until", UtcDateTime),
    Column("ended_at", UtcDateTime),
    Index("ix_operations_created_at", "created_at"),
    Index(
        "ix_operations_unended",
        "created_at",
        sqlite_where=text("ended_at IS NULL"),
        postgresql_where=text("ended_at IS NULL"),
    ),
)

operation_items = Table(
    "operation_items",
    metadata,
    Column("operation_id", Key, ForeignKey("operations.operation_id"), primary_key=True),
    Column("item_id", Key, primary_key=True),
    Column("order_id", Key, nullable=False),
    Column("position", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("seen_state", Word, nullable=False),
    Column("state", Word, nullable=False),
    Column("batch", Integer),
    Column("sent_at", UtcDateTime),
    Column("accepted_at", UtcDateTime),
    Column("settled_at", UtcDateTime),
    Column("detail", Text),
    Index("ix_operation_items_operation_id_position", "operation_id", "position"),
    Index("ix_operation_items_operation_id_state", "operation_id", "state"),
    **BY_KEY,
)

# ---------------------------------------------------------------- alerting

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
