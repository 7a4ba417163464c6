"""schema of 0.2.0"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from state.engine.database import UtcDateTime
from state.tables.base import BY_KEY, optional, required, where

revision = "0007"
down_revision = "0001"

KEY, WORD, HASH, TRACEPARENT = sa.String(128), sa.String(40), sa.String(64), sa.String(55)
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON_OR_NULL = sa.JSON(none_as_null=True)


def upgrade() -> None:
    _change_orders()
    _change_events()
    _change_work()
    _classify_failures()
    _create_alerts()
    _create_monitoring()
    _create_bulk_jobs()
    _create_lookups_and_parked_events()
    _create_sandbox()


def _change_orders() -> None:
    op.add_column("orders", sa.Column("traceparent", TRACEPARENT))
    op.add_column("orders", sa.Column("step_failures", sa.Integer, nullable=False, server_default="0"))
    op.add_column("orders", sa.Column("step_error", sa.Text))
    unusual = where("payment_status NOT IN ('NONE', 'CAPTURED', 'REFUNDED')")
    op.create_index("ix_orders_unusual_payment", "orders", ["payment_status", "created_at"], **unusual)
    with op.batch_alter_table("idempotency_keys") as table:
        table.add_column(sa.Column("caller", KEY, nullable=False, server_default=""))
        table.drop_constraint("pk_idempotency_keys", type_="primary")
        table.create_primary_key("pk_idempotency_keys", ["key", "caller"])
    with op.batch_alter_table("returns") as table:
        table.drop_index("ix_returns_order_id")
        table.drop_constraint("pk_returns", type_="primary")
        table.create_primary_key("pk_returns", ["order_id", "return_id"])
    op.create_index("ix_products_changed_at", "products", ["changed_at"])
    op.create_index("ix_products_expires_at", "products", ["expires_at"])
    op.create_index("ix_products_level_changed_at", "products", ["level", "changed_at"])


def _change_events() -> None:
    with op.batch_alter_table("inbox") as table:
        table.add_column(sa.Column("outcome", WORD))
        table.add_column(sa.Column("repeats", sa.Integer, nullable=False, server_default="0"))
        table.add_column(sa.Column("source", KEY, nullable=False, server_default=""))
        table.add_column(sa.Column("digest", HASH))
        table.drop_constraint("pk_inbox", type_="primary")
        table.create_primary_key("pk_inbox", ["event_id", "type", "source"])
    op.create_index("ix_inbox_ignored", "inbox", ["received_at"], **where("outcome = 'ignored'"))
    op.create_index("ix_inbox_repeated", "inbox", ["received_at"], **where("repeats > 0"))

    with op.batch_alter_table("dead_letters") as table:
        table.add_column(sa.Column("cause", sa.String(200), nullable=False, server_default=""))
        table.add_column(sa.Column("incarnation", WORD, nullable=False, server_default=""))
        table.drop_constraint("uq_dead_letters_stream_stream_seq", type_="unique")
        table.create_unique_constraint(
            "uq_dead_letters_stream_incarnation_stream_seq", ["stream", "incarnation", "stream_seq"]
        )
    op.create_index("ix_dead_letters_order_id", "dead_letters", ["order_id"])
    op.create_index("ix_dead_letters_resolved_at", "dead_letters", ["resolved_at"])
    by_cause = ["state", "subject", "cause", "created_at"]
    op.create_index("ix_dead_letters_state_subject_cause", "dead_letters", by_cause)

    op.add_column("outbox", sa.Column("traceparent", TRACEPARENT))
    op.add_column("outbox", sa.Column("undeliverable_at", UtcDateTime))
    op.add_column("outbox", sa.Column("undeliverable_reason", sa.Text))
    op.create_index("ix_outbox_attempted", "outbox", ["id"], **where("attempts > 0"))
    op.create_index("ix_outbox_undeliverable", "outbox", ["id"], **where("undeliverable_at IS NOT NULL"))


def _change_work() -> None:
    op.add_column("releases", sa.Column("cause", sa.String(160)))
    op.add_column("releases", sa.Column("failure_class", WORD))
    op.create_index("ix_releases_state_attempts", "releases", ["state", "attempts"])
    op.create_index("ix_releases_state_cause_updated_at", "releases", ["state", "cause", "updated_at"])

    op.add_column("reviews", sa.Column("owner", KEY))
    op.add_column("reviews", sa.Column("claimed_until", UtcDateTime))
    op.add_column("reviews", sa.Column("cause", WORD, nullable=False, server_default=""))
    op.add_column("reviews", sa.Column("resolution_reason", WORD))
    op.add_column("reviews", sa.Column("failure_class", WORD))
    op.create_index("ix_reviews_reason_cause_resolved_at", "reviews", ["reason", "cause", "resolved_at"])
    op.create_index("ix_reviews_state_claimed_until", "reviews", ["state", "claimed_until"])
    op.create_index("ix_reviews_state_reason_opened_at", "reviews", ["state", "reason", "opened_at"])
    op.create_index("ix_reviews_state_resolved_at", "reviews", ["state", "resolved_at"])

    op.add_column("commands", sa.Column("not_before", UtcDateTime))
    op.add_column("commands", sa.Column("role", WORD, nullable=False, server_default="operator"))
    op.add_column("commands", sa.Column("attempts", sa.Integer, nullable=False, server_default="0"))
    op.add_column("commands", sa.Column("claimed_by", KEY))
    op.create_index("ix_commands_target_id_kind_created_at", "commands", ["target_id", "kind", "created_at"])

    op.add_column("audit_log", sa.Column("correlation_id", KEY))
    op.create_index("ix_audit_log_action_at", "audit_log", ["action", "at"])
    op.create_index("ix_audit_log_actor_at", "audit_log", ["actor", "at"])
    op.create_index("ix_audit_log_correlation_id", "audit_log", ["correlation_id"])
    op.create_index("ix_audit_log_target_at", "audit_log", ["target", "at"])


def _classify_failures() -> None:
    """Store the failure classes of rows of 0.1.0, read once from the texts of their errors."""
    releases = sa.table("releases", *(sa.column(name, sa.String) for name in ("last_error", "cause", "failure_class")))
    error = releases.c.last_error
    found = sa.case(
        (error.is_(None), "NOT_TRIED"),
        (error == "Not tried yet", "NOT_TRIED"),
        (error.ilike("%circuit breaker%is open%"), "BREAKER_OPEN"),
        (error.like("%INVENTORY_TIMEOUT%"), "INVENTORY_TIMEOUT"),
        (error.like("%INVENTORY_UNAVAILABLE%"), "INVENTORY_UNAVAILABLE"),
        else_="UNEXPECTED_ERROR",
    )
    op.execute(sa.update(releases).values(failure_class=found, cause=found))
    names = ("state", "detail", "cause", "failure_class")
    reviews = sa.table("reviews", *(sa.column(name, sa.String) for name in names))
    not_sent = reviews.c.detail.like("%Circuit breaker%is open; nothing was sent%")
    open_and_not_sent = sa.update(reviews).where(reviews.c.state == "OPEN", not_sent)
    op.execute(open_and_not_sent.values(failure_class="BREAKER_OPEN", cause="BREAKER_OPEN"))


def _create_alerts() -> None:
    op.create_table(
        "alerts",
        sa.Column("alert_id", KEY, primary_key=True),
        *required(WORD, "source", "state"),
        *required(KEY, "name"),
        *required(sa.JSON, "labels", "annotations"),
        *required(sa.Text, "generator_url"),
        *optional(sa.Float, "value"),
        *required(UtcDateTime, "active_at", "seen_at"),
        *optional(UtcDateTime, "fired_at", "resolved_at"),
        *optional(UtcDateTime, "kept_since", "ends_at"),
        *required(sa.Boolean, "is_notified"),
        *optional(UtcDateTime, "acknowledged_at"),
        *optional(KEY, "acknowledged_by"),
        *optional(sa.Text, "acknowledged_note"),
        sa.Column("sender", KEY, nullable=False, server_default=""),
        sa.Index("ix_alerts_source_state", "source", "state"),
        sa.Index("ix_alerts_state_resolved_at", "state", "resolved_at"),
        **BY_KEY,
    )
    op.create_table(
        "alert_history",
        sa.Column("id", SERIAL, primary_key=True),
        *required(UtcDateTime, "at"),
        *required(WORD, "kind", "source"),
        *optional(KEY, "alert_id", "actor"),
        *required(KEY, "name"),
        *required(sa.JSON, "labels"),
        *optional(sa.Float, "value"),
        *optional(sa.Text, "detail"),
        sa.Index("ix_alert_history_alert_id_at", "alert_id", "at"),
        sa.Index("ix_alert_history_at", "at"),
    )
    op.create_table(
        "alert_notifications",
        sa.Column("id", SERIAL, primary_key=True),
        *required(KEY, "alert_id", "name"),
        *required(WORD, "status", "state"),
        *required(sa.JSON, "payload"),
        *required(sa.Integer, "attempts"),
        *optional(UtcDateTime, "next_attempt_at", "finished_at"),
        *optional(sa.Text, "last_error"),
        *required(UtcDateTime, "created_at"),
        sa.Index("ix_alert_notifications_alert_id_id", "alert_id", "id"),
        sa.Index("ix_alert_notifications_finished_at", "finished_at"),
        sa.Index("ix_alert_notifications_pending", "id", **where("state = 'PENDING'")),
    )
    op.create_table(
        "silences",
        sa.Column("silence_id", KEY, primary_key=True),
        *required(sa.JSON, "matchers"),
        *required(sa.Text, "reason"),
        *required(KEY, "actor"),
        *required(UtcDateTime, "created_at", "ends_at"),
        *optional(KEY, "ended_by"),
        sa.Index("ix_silences_ends_at", "ends_at"),
        **BY_KEY,
    )


def _create_monitoring() -> None:
    op.create_table(
        "leases",
        sa.Column("name", KEY, primary_key=True),
        *required(KEY, "holder"),
        *required(UtcDateTime, "acquired_at", "expires_at"),
        *required(sa.JSON, "noted"),
        **BY_KEY,
    )
    op.create_table(
        "metric_rollups",
        sa.Column("step_seconds", sa.Integer, primary_key=True),
        sa.Column("at", UtcDateTime, primary_key=True),
        sa.Column("replica", KEY, primary_key=True),
        *required(sa.JSON, "counts"),
        **BY_KEY,
    )
    op.create_table(
        "order_impacts",
        sa.Column("id", SERIAL, primary_key=True),
        *required(UtcDateTime, "at"),
        *required(KEY, "order_id"),
        *required(WORD, "kind", "operation", "reason"),
        sa.Index("ix_order_impacts_at", "at"),
    )
    op.create_table(
        "console_looks",
        sa.Column("person", KEY, primary_key=True),
        *required(UtcDateTime, "looked_at"),
        sa.Index("ix_console_looks_looked_at", "looked_at"),
        **BY_KEY,
    )


def _create_bulk_jobs() -> None:
    op.create_table(
        "operations",
        sa.Column("operation_id", KEY, primary_key=True),
        *required(WORD, "verb", "state"),
        *optional(WORD, "action"),
        *required(KEY, "actor"),
        *optional(sa.Text, "reason", "note"),
        *required(sa.Text, "filter"),
        *required(sa.JSON, "causes", "tally"),
        *required(sa.Integer, "total", "unseen"),
        *required(UtcDateTime, "seen_at", "created_at"),
        *required(sa.Integer, "stage", "batch", "in_flight"),
        *required(sa.Integer, "new_failures"),
        *optional(UtcDateTime, "waits_until"),
        *optional(KEY, "claimed_by"),
        *optional(UtcDateTime, "claimed_until", "ended_at"),
        sa.Index("ix_operations_created_at", "created_at"),
        sa.Index("ix_operations_unended", "created_at", **where("ended_at IS NULL")),
    )
    op.create_table(
        "operation_items",
        sa.Column("operation_id", KEY, sa.ForeignKey("operations.operation_id"), primary_key=True),
        sa.Column("item_id", KEY, primary_key=True),
        *required(KEY, "order_id"),
        *required(sa.Integer, "position", "version"),
        *required(WORD, "seen_state", "state"),
        *optional(sa.Integer, "batch"),
        *optional(UtcDateTime, "sent_at", "accepted_at", "settled_at"),
        *optional(sa.Text, "detail"),
        sa.Index("ix_operation_items_operation_id_position", "operation_id", "position"),
        sa.Index("ix_operation_items_operation_id_state", "operation_id", "state"),
        **BY_KEY,
    )


def _create_lookups_and_parked_events() -> None:
    op.create_table(
        "their_answers",
        sa.Column("order_id", KEY, sa.ForeignKey("orders.order_id"), primary_key=True),
        *optional(WORD, "stock", "said"),
        *optional(KEY, "reservation_id"),
        *optional(UtcDateTime, "expires_at"),
        *optional(WORD, "problem"),
        *required(UtcDateTime, "asked_at"),
        *required(KEY, "asked_by"),
        sa.Index("ix_their_answers_asked_at", "asked_at"),
        **BY_KEY,
    )
    op.create_table(
        "release_moves",
        sa.Column("id", SERIAL, primary_key=True),
        sa.Column("order_id", KEY, sa.ForeignKey("orders.order_id"), nullable=False),
        *required(sa.String(160), "cause"),
        *required(WORD, "move", "outcome"),
        *required(KEY, "actor"),
        *required(UtcDateTime, "at"),
        *optional(sa.Text, "why"),
        sa.Index("ix_release_moves_at", "at"),
        sa.Index("ix_release_moves_cause_at", "cause", "at"),
        sa.Index("ix_release_moves_order_id_outcome", "order_id", "outcome"),
    )
    op.create_table(
        "parked_events",
        sa.Column("stream", KEY, primary_key=True),
        sa.Column("incarnation", WORD, primary_key=True),
        sa.Column("stream_seq", sa.BigInteger, primary_key=True, autoincrement=False),
        *required(KEY, "subject"),
        *optional(KEY, "order_id"),
        *required(sa.LargeBinary, "payload"),
        *required(sa.JSON, "headers"),
        *required(WORD, "cause"),
        *required(sa.Text, "reason"),
        *required(sa.Integer, "attempts"),
        *required(UtcDateTime, "parked_at", "due_at"),
        sa.Index("ix_parked_events_due_at", "due_at"),
        sa.Index("ix_parked_events_order_id", "order_id"),
    )


def _create_sandbox() -> None:
    op.create_table(
        "drills",
        sa.Column("drill_id", KEY, primary_key=True),
        *required(WORD, "kind", "phase"),
        *required(sa.JSON, "faults", "noticed"),
        *required(sa.Integer, "seconds", "version"),
        *required(KEY, "actor"),
        *required(sa.Text, "reason"),
        sa.Column("is_active", sa.Integer, unique=True),
        *required(UtcDateTime, "created_at"),
        *optional(UtcDateTime, "began_at", "ended_at", "recovered_at", "finished_at"),
        *optional(KEY, "stopped_by"),
        *optional(JSON_OR_NULL, "before", "report"),
        sa.Index("ix_drills_created_at", "created_at"),
    )
    op.create_table(
        "sandbox_values",
        sa.Column("name", KEY, primary_key=True),
        *required(sa.JSON, "value"),
        *required(UtcDateTime, "changed_at"),
        **BY_KEY,
    )
