"""console and monitoring, part 2: further tables, columns and indexes"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from state.engine.database import UtcDateTime

revision = "0002"
down_revision = "0002a"


def upgrade() -> None:
    _operation_items_and_release_moves()
    _their_answers_and_audit_log_and_commands()
    _dead_letters_and_inbox_and_orders()
    _outbox_and_products_and_releases()
    _reviews()


def _operation_items_and_release_moves() -> None:
    op.create_table(
        "operation_items",
        sa.Column("operation_id", sa.String(length=128), nullable=False),
        sa.Column("item_id", sa.String(length=128), nullable=False),
        sa.Column("order_id", sa.String(length=128), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("seen_state", sa.String(length=40), nullable=False),
        sa.Column("state", sa.String(length=40), nullable=False),
        sa.Column("batch", sa.Integer()),
        sa.Column("sent_at", UtcDateTime),
        sa.Column("accepted_at", UtcDateTime),
        sa.Column("settled_at", UtcDateTime),
        sa.Column("detail", sa.Text()),
        sa.ForeignKeyConstraint(
            ["operation_id"], ["operations.operation_id"], name=op.f("fk_operation_items_operation_id")
        ),
        sa.PrimaryKeyConstraint("operation_id", "item_id", name=op.f("pk_operation_items")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("operation_items") as batch_op:
        batch_op.create_index("ix_operation_items_operation_id_position", ["operation_id", "position"])
        batch_op.create_index("ix_operation_items_operation_id_state", ["operation_id", "state"])

    op.create_table(
        "release_moves",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("order_id", sa.String(length=128), nullable=False),
        sa.Column("cause", sa.String(length=160), nullable=False),
        sa.Column("move", sa.String(length=40), nullable=False),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.Column("why", sa.Text()),
        sa.Column("outcome", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(["order_id"], ["orders.order_id"], name=op.f("fk_release_moves_order_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_release_moves")),
    )
    with op.batch_alter_table("release_moves") as batch_op:
        batch_op.create_index("ix_release_moves_at", ["at"])
        batch_op.create_index("ix_release_moves_cause_at", ["cause", "at"])
        batch_op.create_index("ix_release_moves_order_id_outcome", ["order_id", "outcome"])


def _their_answers_and_audit_log_and_commands() -> None:
    op.create_table(
        "their_answers",
        sa.Column("order_id", sa.String(length=128), nullable=False),
        sa.Column("stock", sa.String(length=40)),
        sa.Column("said", sa.String(length=40)),
        sa.Column("reservation_id", sa.String(length=128)),
        sa.Column("expires_at", UtcDateTime),
        sa.Column("problem", sa.String(length=40)),
        sa.Column("asked_at", UtcDateTime, nullable=False),
        sa.Column("asked_by", sa.String(length=128), nullable=False),
        sa.ForeignKeyConstraint(["order_id"], ["orders.order_id"], name=op.f("fk_their_answers_order_id")),
        sa.PrimaryKeyConstraint("order_id", name=op.f("pk_their_answers")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("their_answers") as batch_op:
        batch_op.create_index("ix_their_answers_asked_at", ["asked_at"])

    with op.batch_alter_table("audit_log") as batch_op:
        batch_op.add_column(sa.Column("correlation_id", sa.String(length=128)))
        batch_op.create_index("ix_audit_log_action_at", ["action", "at"])
        batch_op.create_index("ix_audit_log_actor_at", ["actor", "at"])
        batch_op.create_index("ix_audit_log_correlation_id", ["correlation_id"])
        batch_op.create_index("ix_audit_log_target_at", ["target", "at"])

    with op.batch_alter_table("commands") as batch_op:
        batch_op.add_column(sa.Column("not_before", UtcDateTime))
        batch_op.add_column(sa.Column("role", sa.String(length=40), server_default="operator", nullable=False))
        batch_op.add_column(sa.Column("attempts", sa.Integer(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("claimed_by", sa.String(length=128)))
        batch_op.create_index("ix_commands_target_id_kind_created_at", ["target_id", "kind", "created_at"])


def _dead_letters_and_inbox_and_orders() -> None:
    with op.batch_alter_table("dead_letters") as batch_op:
        batch_op.add_column(sa.Column("cause", sa.String(length=200), server_default="", nullable=False))
        batch_op.create_index("ix_dead_letters_order_id", ["order_id"])
        batch_op.create_index("ix_dead_letters_resolved_at", ["resolved_at"])
        batch_op.create_index("ix_dead_letters_state_subject_cause", ["state", "subject", "cause", "created_at"])

    with op.batch_alter_table("inbox") as batch_op:
        batch_op.add_column(sa.Column("outcome", sa.String(length=40)))
        batch_op.add_column(sa.Column("repeats", sa.Integer(), server_default="0", nullable=False))
        batch_op.create_index(
            "ix_inbox_ignored",
            ["received_at"],
            sqlite_where=sa.text("outcome = 'ignored'"),
            postgresql_where=sa.text("outcome = 'ignored'"),
        )
        batch_op.create_index(
            "ix_inbox_repeated",
            ["received_at"],
            sqlite_where=sa.text("repeats > 0"),
            postgresql_where=sa.text("repeats > 0"),
        )

    with op.batch_alter_table("orders") as batch_op:
        batch_op.add_column(sa.Column("traceparent", sa.String(length=55)))
        batch_op.create_index(
            "ix_orders_unusual_payment",
            ["payment_status", "created_at"],
            sqlite_where=sa.text("payment_status NOT IN ('NONE', 'CAPTURED', 'REFUNDED')"),
            postgresql_where=sa.text("payment_status NOT IN ('NONE', 'CAPTURED', 'REFUNDED')"),
        )


def _outbox_and_products_and_releases() -> None:
    with op.batch_alter_table("outbox") as batch_op:
        batch_op.add_column(sa.Column("traceparent", sa.String(length=55)))
        batch_op.create_index(
            "ix_outbox_attempted",
            ["id"],
            sqlite_where=sa.text("attempts > 0"),
            postgresql_where=sa.text("attempts > 0"),
        )

    with op.batch_alter_table("products") as batch_op:
        batch_op.create_index("ix_products_changed_at", ["changed_at"])
        batch_op.create_index("ix_products_expires_at", ["expires_at"])
        batch_op.create_index("ix_products_level_changed_at", ["level", "changed_at"])

    with op.batch_alter_table("releases") as batch_op:
        batch_op.add_column(sa.Column("cause", sa.String(length=160)))
        batch_op.create_index("ix_releases_state_attempts", ["state", "attempts"])
        batch_op.create_index("ix_releases_state_cause_updated_at", ["state", "cause", "updated_at"])
        batch_op.create_index(
            "ix_releases_unclassified",
            ["order_id"],
            sqlite_where=sa.text("cause IS NULL"),
            postgresql_where=sa.text("cause IS NULL"),
        )


def _reviews() -> None:
    with op.batch_alter_table("reviews") as batch_op:
        batch_op.add_column(sa.Column("owner", sa.String(length=128)))
        batch_op.add_column(sa.Column("claimed_until", UtcDateTime))
        batch_op.add_column(sa.Column("cause", sa.String(length=40), server_default="", nullable=False))
        batch_op.add_column(sa.Column("resolution_reason", sa.String(length=40)))
        batch_op.create_index("ix_reviews_reason_cause_resolved_at", ["reason", "cause", "resolved_at"])
        batch_op.create_index("ix_reviews_state_claimed_until", ["state", "claimed_until"])
        batch_op.create_index("ix_reviews_state_reason_opened_at", ["state", "reason", "opened_at"])
        batch_op.create_index("ix_reviews_state_resolved_at", ["state", "resolved_at"])
