"""console and monitoring, part 1: new tables that refer to no other"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from state.engine.database import UtcDateTime

revision = "0002a"
down_revision = "0001"


def upgrade() -> None:
    _alert_history_and_alert_notifications()
    _alerts_and_console_looks()
    _drills_and_leases()
    _metric_rollups_and_operations()
    _order_impacts_and_sandbox_values_and_silences()


def _alert_history_and_alert_notifications() -> None:
    op.create_table(
        "alert_history",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("alert_id", sa.String(length=128)),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("source", sa.String(length=40), nullable=False),
        sa.Column("value", sa.Float()),
        sa.Column("actor", sa.String(length=128)),
        sa.Column("detail", sa.Text()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_history")),
    )
    with op.batch_alter_table("alert_history") as batch_op:
        batch_op.create_index("ix_alert_history_alert_id_at", ["alert_id", "at"])
        batch_op.create_index("ix_alert_history_at", ["at"])

    op.create_table(
        "alert_notifications",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("alert_id", sa.String(length=128), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("status", sa.String(length=40), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=40), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", UtcDateTime),
        sa.Column("last_error", sa.Text()),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("finished_at", UtcDateTime),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alert_notifications")),
    )
    with op.batch_alter_table("alert_notifications") as batch_op:
        batch_op.create_index("ix_alert_notifications_alert_id_id", ["alert_id", "id"])
        batch_op.create_index("ix_alert_notifications_finished_at", ["finished_at"])
        batch_op.create_index(
            "ix_alert_notifications_pending",
            ["id"],
            sqlite_where=sa.text("state = 'PENDING'"),
            postgresql_where=sa.text("state = 'PENDING'"),
        )


def _alerts_and_console_looks() -> None:
    op.create_table(
        "alerts",
        sa.Column("alert_id", sa.String(length=128), nullable=False),
        sa.Column("source", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("annotations", sa.JSON(), nullable=False),
        sa.Column("generator_url", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=40), nullable=False),
        sa.Column("value", sa.Float()),
        sa.Column("active_at", UtcDateTime, nullable=False),
        sa.Column("fired_at", UtcDateTime),
        sa.Column("resolved_at", UtcDateTime),
        sa.Column("seen_at", UtcDateTime, nullable=False),
        sa.Column("kept_since", UtcDateTime),
        sa.Column("ends_at", UtcDateTime),
        sa.Column("is_notified", sa.Boolean(), nullable=False),
        sa.Column("acknowledged_at", UtcDateTime),
        sa.Column("acknowledged_by", sa.String(length=128)),
        sa.Column("acknowledged_note", sa.Text()),
        sa.PrimaryKeyConstraint("alert_id", name=op.f("pk_alerts")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("alerts") as batch_op:
        batch_op.create_index("ix_alerts_source_state", ["source", "state"])
        batch_op.create_index("ix_alerts_state_resolved_at", ["state", "resolved_at"])

    op.create_table(
        "console_looks",
        sa.Column("person", sa.String(length=128), nullable=False),
        sa.Column("looked_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("person", name=op.f("pk_console_looks")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("console_looks") as batch_op:
        batch_op.create_index("ix_console_looks_looked_at", ["looked_at"])


def _drills_and_leases() -> None:
    op.create_table(
        "drills",
        sa.Column("drill_id", sa.String(length=128), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("faults", sa.JSON(), nullable=False),
        sa.Column("seconds", sa.Integer(), nullable=False),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("phase", sa.String(length=40), nullable=False),
        sa.Column("is_active", sa.Integer()),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("began_at", UtcDateTime),
        sa.Column("ended_at", UtcDateTime),
        sa.Column("recovered_at", UtcDateTime),
        sa.Column("finished_at", UtcDateTime),
        sa.Column("stopped_by", sa.String(length=128)),
        sa.Column("before", sa.JSON(none_as_null=True)),
        sa.Column("noticed", sa.JSON(), nullable=False),
        sa.Column("report", sa.JSON(none_as_null=True)),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("drill_id", name=op.f("pk_drills")),
        sa.UniqueConstraint("is_active", name=op.f("uq_drills_is_active")),
    )
    with op.batch_alter_table("drills") as batch_op:
        batch_op.create_index("ix_drills_created_at", ["created_at"])

    op.create_table(
        "leases",
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("holder", sa.String(length=128), nullable=False),
        sa.Column("acquired_at", UtcDateTime, nullable=False),
        sa.Column("expires_at", UtcDateTime, nullable=False),
        sa.Column("noted", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
        sqlite_with_rowid=False,
    )


def _metric_rollups_and_operations() -> None:
    op.create_table(
        "metric_rollups",
        sa.Column("step_seconds", sa.Integer(), nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.Column("replica", sa.String(length=128), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("step_seconds", "at", "replica", name=op.f("pk_metric_rollups")),
        sqlite_with_rowid=False,
    )

    op.create_table(
        "operations",
        sa.Column("operation_id", sa.String(length=128), nullable=False),
        sa.Column("verb", sa.String(length=40), nullable=False),
        sa.Column("action", sa.String(length=40)),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("filter", sa.Text(), nullable=False),
        sa.Column("causes", sa.JSON(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("unseen", sa.Integer(), nullable=False),
        sa.Column("seen_at", UtcDateTime, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("state", sa.String(length=40), nullable=False),
        sa.Column("note", sa.Text()),
        sa.Column("stage", sa.Integer(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("in_flight", sa.Integer(), nullable=False),
        sa.Column("tally", sa.JSON(), nullable=False),
        sa.Column("new_failures", sa.Integer(), nullable=False),
        sa.Column("waits_until", UtcDateTime),
        sa.Column("claimed_by", sa.String(length=128)),
        sa.Column("claimed_until", UtcDateTime),
        sa.Column("ended_at", UtcDateTime),
        sa.PrimaryKeyConstraint("operation_id", name=op.f("pk_operations")),
    )
    with op.batch_alter_table("operations") as batch_op:
        batch_op.create_index("ix_operations_created_at", ["created_at"])
        batch_op.create_index(
            "ix_operations_unended",
            ["created_at"],
            sqlite_where=sa.text("ended_at IS NULL"),
            postgresql_where=sa.text("ended_at IS NULL"),
        )


def _order_impacts_and_sandbox_values_and_silences() -> None:
    op.create_table(
        "order_impacts",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.Column("order_id", sa.String(length=128), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("operation", sa.String(length=40), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_order_impacts")),
    )
    with op.batch_alter_table("order_impacts") as batch_op:
        batch_op.create_index("ix_order_impacts_at", ["at"])

    op.create_table(
        "sandbox_values",
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.Column("changed_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_sandbox_values")),
        sqlite_with_rowid=False,
    )

    op.create_table(
        "silences",
        sa.Column("silence_id", sa.String(length=128), nullable=False),
        sa.Column("matchers", sa.JSON(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("ends_at", UtcDateTime, nullable=False),
        sa.Column("ended_by", sa.String(length=128)),
        sa.PrimaryKeyConstraint("silence_id", name=op.f("pk_silences")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("silences") as batch_op:
        batch_op.create_index("ix_silences_ends_at", ["ends_at"])
