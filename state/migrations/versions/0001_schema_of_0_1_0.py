"""schema of 0.1.0"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from state.engine.database import UtcDateTime
from state.tables.base import BY_KEY, optional, required, where

revision = "0001"
down_revision = None

KEY, WORD, HASH = sa.String(128), sa.String(40), sa.String(64)
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON_OR_NULL = sa.JSON(none_as_null=True)


def upgrade() -> None:
    _orders()
    _parts_of_orders()
    _events()
    _cases_and_release_jobs()
    _commands_and_audit_log()
    _monitoring()


def _orders() -> None:
    op.create_table(
        "orders",
        sa.Column("order_id", KEY, primary_key=True),
        *required(KEY, "user_id"),
        *required(WORD, "customer_priority", "status", "inventory_status", "payment_status"),
        *optional(KEY, "reservation_id"),
        *optional(UtcDateTime, "reservation_expires_at", "confirmed_at"),
        *optional(sa.Text, "cancel_reason"),
        *optional(JSON_OR_NULL, "failure", "metadata"),
        *required(HASH, "request_hash"),
        *optional(UtcDateTime, "due_at"),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        *required(UtcDateTime, "created_at", "updated_at"),
        *required(sa.Integer, "version"),
        sa.Index("ix_orders_created_at_order_id", "created_at", "order_id"),
        sa.Index("ix_orders_due_at", "due_at", **where("due_at IS NOT NULL")),
        sa.Index("ix_orders_inventory_status_created_at", "inventory_status", "created_at"),
        sa.Index("ix_orders_status_created_at", "status", "created_at"),
        sa.Index("ix_orders_user_id_created_at", "user_id", "created_at"),
        **BY_KEY,
    )
    op.create_table(
        "order_items",
        sa.Column("order_id", KEY, sa.ForeignKey("orders.order_id"), primary_key=True),
        sa.Column("product_id", KEY, primary_key=True),
        sa.Column("variant_id", KEY, primary_key=True),
        *required(sa.Integer, "line", "quantity"),
        sa.Column("returned", sa.Integer, nullable=False, server_default="0"),
        sa.CheckConstraint("quantity > 0", name="quantity_positive"),
        sa.CheckConstraint("returned >= 0 AND returned <= quantity", name="returned_within_quantity"),
        sa.Index("ix_order_items_product_id_variant_id", "product_id", "variant_id"),
        **BY_KEY,
    )


def _parts_of_orders() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("key", sa.String(256), primary_key=True),
        *required(KEY, "order_id"),
        *required(HASH, "request_hash"),
        *required(UtcDateTime, "created_at"),
        sa.Index("ix_idempotency_keys_created_at", "created_at"),
        **BY_KEY,
    )
    op.create_table(
        "order_history",
        sa.Column("id", SERIAL, primary_key=True),
        *required(KEY, "order_id"),
        *required(UtcDateTime, "at"),
        *required(WORD, "kind"),
        *required(sa.Text, "title"),
        *optional(JSON_OR_NULL, "details"),
        *optional(KEY, "actor"),
        sa.Index("ix_order_history_order_id_id", "order_id", "id"),
    )
    op.create_table(
        "returns",
        sa.Column("return_id", KEY, primary_key=True),
        sa.Column("order_id", KEY, sa.ForeignKey("orders.order_id"), nullable=False),
        *required(HASH, "request_hash"),
        *required(sa.JSON, "items"),
        *required(sa.Text, "reason"),
        *required(sa.Boolean, "restockable"),
        *required(UtcDateTime, "created_at"),
        sa.Index("ix_returns_order_id", "order_id"),
    )
    op.create_table(
        "products",
        sa.Column("product_id", KEY, primary_key=True),
        sa.Column("variant_id", KEY, primary_key=True),
        *required(sa.Boolean, "available"),
        *required(WORD, "level"),
        *optional(sa.Integer, "available_quantity", "threshold"),
        *required(KEY, "source"),
        *required(UtcDateTime, "changed_at"),
        *optional(UtcDateTime, "expires_at"),
        sa.Index("ix_products_available_changed_at", "available", "changed_at"),
    )


def _events() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", SERIAL, primary_key=True),
        sa.Column("event_id", KEY, nullable=False, unique=True),
        *required(KEY, "subject", "order_id"),
        *required(sa.LargeBinary, "payload"),
        *required(UtcDateTime, "created_at"),
        *optional(UtcDateTime, "published_at", "claimed_until"),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        *optional(sa.Text, "last_error"),
        sa.Index("ix_outbox_order_id", "order_id"),
        sa.Index("ix_outbox_published_at", "published_at"),
        sa.Index("ix_outbox_unpublished", "id", **where("published_at IS NULL")),
    )
    op.create_table(
        "inbox",
        sa.Column("event_id", KEY, primary_key=True),
        *required(KEY, "type"),
        *optional(KEY, "order_id"),
        *required(UtcDateTime, "received_at"),
        sa.Index("ix_inbox_order_id", "order_id"),
        sa.Index("ix_inbox_received_at", "received_at"),
        **BY_KEY,
    )
    op.create_table(
        "dead_letters",
        sa.Column("id", KEY, primary_key=True),
        *required(KEY, "stream"),
        *required(sa.BigInteger, "stream_seq"),
        *required(KEY, "subject"),
        *optional(KEY, "order_id"),
        *required(sa.LargeBinary, "payload"),
        *required(sa.JSON, "headers"),
        *required(sa.Text, "reason"),
        *required(sa.Integer, "attempts"),
        *required(WORD, "state"),
        *required(UtcDateTime, "created_at"),
        *optional(UtcDateTime, "resolved_at"),
        *optional(KEY, "resolved_by"),
        *optional(sa.Text, "note"),
        sa.UniqueConstraint("stream", "stream_seq"),
        sa.Index("ix_dead_letters_state_created_at", "state", "created_at"),
    )


def _cases_and_release_jobs() -> None:
    op.create_table(
        "reviews",
        sa.Column("review_id", KEY, primary_key=True),
        sa.Column("order_id", KEY, sa.ForeignKey("orders.order_id"), nullable=False),
        *required(WORD, "reason", "state"),
        *required(sa.Text, "detail"),
        *required(UtcDateTime, "opened_at"),
        *optional(UtcDateTime, "resolved_at"),
        *optional(KEY, "resolved_by"),
        *optional(WORD, "resolution"),
        *optional(sa.Text, "note"),
        *required(sa.Integer, "version"),
        sa.Index("ix_reviews_order_id", "order_id"),
        sa.Index("ix_reviews_state_opened_at", "state", "opened_at"),
        sa.Index("uq_reviews_open_case", "order_id", "reason", unique=True, **where("state = 'OPEN'")),
    )
    op.create_table(
        "releases",
        sa.Column("order_id", KEY, sa.ForeignKey("orders.order_id"), primary_key=True),
        *required(sa.Text, "reason"),
        *required(WORD, "state"),
        *required(sa.Integer, "attempts"),
        *optional(UtcDateTime, "next_attempt_at"),
        *optional(sa.Text, "last_error"),
        *required(UtcDateTime, "created_at", "updated_at"),
        *required(sa.Integer, "version"),
        sa.Index("ix_releases_next_attempt_at", "next_attempt_at", **where("state = 'PENDING'")),
        sa.Index("ix_releases_state_updated_at", "state", "updated_at"),
    )


def _commands_and_audit_log() -> None:
    op.create_table(
        "commands",
        sa.Column("command_id", KEY, primary_key=True),
        *required(WORD, "kind"),
        *required(KEY, "target_id"),
        *required(sa.JSON, "arguments"),
        *required(KEY, "actor"),
        *required(WORD, "state"),
        *required(UtcDateTime, "created_at"),
        *optional(UtcDateTime, "claimed_until", "finished_at"),
        *optional(JSON_OR_NULL, "outcome"),
        sa.Index("ix_commands_created_at", "created_at"),
        sa.Index("ix_commands_target_id_created_at", "target_id", "created_at"),
        sa.Index("ix_commands_waiting", "created_at", **where("state IN ('STORED', 'RUNNING')")),
    )
    op.create_table(
        "audit_log",
        sa.Column("id", SERIAL, primary_key=True),
        *required(UtcDateTime, "at"),
        *required(KEY, "actor"),
        *required(WORD, "action"),
        *required(KEY, "target"),
        *optional(KEY, "order_id"),
        *optional(sa.Text, "reason"),
        *optional(JSON_OR_NULL, "before", "after"),
        *required(WORD, "result"),
        sa.Column("action_id", KEY, unique=True),
        sa.Index("ix_audit_log_at", "at"),
        sa.Index("ix_audit_log_order_id_at", "order_id", "at"),
    )


def _monitoring() -> None:
    op.create_table(
        "replicas",
        sa.Column("replica", KEY, primary_key=True),
        *required(UtcDateTime, "started_at", "heartbeat_at"),
        *required(sa.JSON, "breakers", "facts"),
    )
    op.create_table(
        "breaker_overrides",
        sa.Column("breaker", KEY, primary_key=True),
        *required(WORD, "state"),
        *required(sa.Text, "reason"),
        *required(KEY, "actor"),
        *required(UtcDateTime, "created_at", "expires_at"),
        **BY_KEY,
    )
    op.create_table(
        "breaker_transitions",
        sa.Column("id", SERIAL, primary_key=True),
        *required(KEY, "replica", "breaker"),
        *required(WORD, "from_state", "to_state"),
        *required(UtcDateTime, "at"),
        sa.Index("ix_breaker_transitions_at", "at"),
    )
    op.create_table(
        "metric_samples",
        sa.Column("at", UtcDateTime, primary_key=True),
        sa.Column("replica", KEY, primary_key=True),
        *required(sa.JSON, "sample"),
    )
    op.create_table(
        "conservation_progress",
        sa.Column("id", sa.Integer, primary_key=True),
        *required(sa.BigInteger, "history_id", "compared"),
    )
    op.create_table(
        "conservation_differences",
        sa.Column("order_id", KEY, sa.ForeignKey("orders.order_id"), primary_key=True),
        sa.Column("kind", WORD, primary_key=True),
        *required(sa.Text, "detail"),
        *required(WORD, "state"),
        *required(UtcDateTime, "first_seen_at", "last_seen_at"),
        *optional(UtcDateTime, "settled_at"),
        *optional(KEY, "compensated_by"),
        sa.Index("ix_conservation_differences_state_first_seen_at", "state", "first_seen_at"),
        **BY_KEY,
    )
