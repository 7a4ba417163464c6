"""first schema, part 1: from the audit log to orders"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from state.engine.database import UtcDateTime

revision = "0001a"
down_revision = None


def upgrade() -> None:
    _audit_log_and_breaker_overrides_and_breaker_transitions()
    _commands_and_conservation_progress()
    _dead_letters_and_idempotency_keys()
    _inbox_and_metric_samples_and_order_history()
    _orders()


def _audit_log_and_breaker_overrides_and_breaker_transitions() -> None:
    op.create_table(
        "audit_log",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.Column("action", sa.String(length=40), nullable=False),
        sa.Column("target", sa.String(length=128), nullable=False),
        sa.Column("order_id", sa.String(length=128)),
        sa.Column("reason", sa.Text()),
        sa.Column("before", sa.JSON(none_as_null=True)),
        sa.Column("after", sa.JSON(none_as_null=True)),
        sa.Column("result", sa.String(length=40), nullable=False),
        sa.Column("action_id", sa.String(length=128)),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
        sa.UniqueConstraint("action_id", name=op.f("uq_audit_log_action_id")),
    )
    with op.batch_alter_table("audit_log") as batch_op:
        batch_op.create_index("ix_audit_log_at", ["at"])
        batch_op.create_index("ix_audit_log_order_id_at", ["order_id", "at"])

    op.create_table(
        "breaker_overrides",
        sa.Column("breaker", sa.String(length=128), nullable=False),
        sa.Column("state", sa.String(length=40), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("expires_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("breaker", name=op.f("pk_breaker_overrides")),
        sqlite_with_rowid=False,
    )

    op.create_table(
        "breaker_transitions",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("replica", sa.String(length=128), nullable=False),
        sa.Column("breaker", sa.String(length=128), nullable=False),
        sa.Column("from_state", sa.String(length=40), nullable=False),
        sa.Column("to_state", sa.String(length=40), nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_breaker_transitions")),
    )
    with op.batch_alter_table("breaker_transitions") as batch_op:
        batch_op.create_index("ix_breaker_transitions_at", ["at"])


def _commands_and_conservation_progress() -> None:
    op.create_table(
        "commands",
        sa.Column("command_id", sa.String(length=128), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("target_id", sa.String(length=128), nullable=False),
        sa.Column("arguments", sa.JSON(), nullable=False),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.Column("state", sa.String(length=40), nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("claimed_until", UtcDateTime),
        sa.Column("finished_at", UtcDateTime),
        sa.Column("outcome", sa.JSON(none_as_null=True)),
        sa.PrimaryKeyConstraint("command_id", name=op.f("pk_commands")),
    )
    with op.batch_alter_table("commands") as batch_op:
        batch_op.create_index("ix_commands_created_at", ["created_at"])
        batch_op.create_index("ix_commands_target_id_created_at", ["target_id", "created_at"])
        batch_op.create_index(
            "ix_commands_waiting",
            ["created_at"],
            sqlite_where=sa.text("state IN ('STORED', 'RUNNING')"),
            postgresql_where=sa.text("state IN ('STORED', 'RUNNING')"),
        )

    op.create_table(
        "conservation_progress",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("history_id", sa.BigInteger(), nullable=False),
        sa.Column("compared", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_conservation_progress")),
    )


def _dead_letters_and_idempotency_keys() -> None:
    op.create_table(
        "dead_letters",
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("stream", sa.String(length=128), nullable=False),
        sa.Column("stream_seq", sa.BigInteger(), nullable=False),
        sa.Column("subject", sa.String(length=128), nullable=False),
        sa.Column("order_id", sa.String(length=128)),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("headers", sa.JSON(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=40), nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("resolved_at", UtcDateTime),
        sa.Column("resolved_by", sa.String(length=128)),
        sa.Column("note", sa.Text()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_letters")),
        sa.UniqueConstraint("stream", "stream_seq", name=op.f("uq_dead_letters_stream_stream_seq")),
    )
    with op.batch_alter_table("dead_letters") as batch_op:
        batch_op.create_index("ix_dead_letters_state_created_at", ["state", "created_at"])

    op.create_table(
        "idempotency_keys",
        sa.Column("key", sa.String(length=256), nullable=False),
        sa.Column("order_id", sa.String(length=128), nullable=False),
        sa.Column("request_hash", sa.String(length=64), nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_idempotency_keys")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("idempotency_keys") as batch_op:
        batch_op.create_index("ix_idempotency_keys_created_at", ["created_at"])


def _inbox_and_metric_samples_and_order_history() -> None:
    op.create_table(
        "inbox",
        sa.Column("event_id", sa.String(length=128), nullable=False),
        sa.Column("type", sa.String(length=128), nullable=False),
        sa.Column("order_id", sa.String(length=128)),
        sa.Column("received_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_inbox")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("inbox") as batch_op:
        batch_op.create_index("ix_inbox_order_id", ["order_id"])
        batch_op.create_index("ix_inbox_received_at", ["received_at"])

    op.create_table(
        "metric_samples",
        sa.Column("at", UtcDateTime, nullable=False),
        sa.Column("replica", sa.String(length=128), nullable=False),
        sa.Column("sample", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("at", "replica", name=op.f("pk_metric_samples")),
    )

    op.create_table(
        "order_history",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("order_id", sa.String(length=128), nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("details", sa.JSON(none_as_null=True)),
        sa.Column("actor", sa.String(length=128)),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_order_history")),
    )
    with op.batch_alter_table("order_history") as batch_op:
        batch_op.create_index("ix_order_history_order_id_id", ["order_id", "id"])


def _orders() -> None:
    op.create_table(
        "orders",
        sa.Column("order_id", sa.String(length=128), nullable=False),
        sa.Column("user_id", sa.String(length=128), nullable=False),
        sa.Column("customer_priority", sa.String(length=40), nullable=False),
        sa.Column("status", sa.String(length=40), nullable=False),
        sa.Column("inventory_status", sa.String(length=40), nullable=False),
        sa.Column("payment_status", sa.String(length=40), nullable=False),
        sa.Column("reservation_id", sa.String(length=128)),
        sa.Column("reservation_expires_at", UtcDateTime),
        sa.Column("confirmed_at", UtcDateTime),
        sa.Column("cancel_reason", sa.Text()),
        sa.Column("failure", sa.JSON(none_as_null=True)),
        sa.Column("metadata", sa.JSON(none_as_null=True)),
        sa.Column("request_hash", sa.String(length=64), nullable=False),
        sa.Column("due_at", UtcDateTime),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("updated_at", UtcDateTime, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("order_id", name=op.f("pk_orders")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("orders") as batch_op:
        batch_op.create_index("ix_orders_created_at_order_id", ["created_at", "order_id"])
        batch_op.create_index(
            "ix_orders_due_at",
            ["due_at"],
            sqlite_where=sa.text("due_at IS NOT NULL"),
            postgresql_where=sa.text("due_at IS NOT NULL"),
        )
        batch_op.create_index("ix_orders_inventory_status_created_at", ["inventory_status", "created_at"])
        batch_op.create_index("ix_orders_status_created_at", ["status", "created_at"])
        batch_op.create_index("ix_orders_user_id_created_at", ["user_id", "created_at"])
