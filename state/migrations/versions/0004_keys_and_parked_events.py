"""keys that carry what makes them unique, and parked events"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from state.engine.database import UtcDateTime

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    with op.batch_alter_table("idempotency_keys") as batch_op:
        batch_op.add_column(sa.Column("caller", sa.String(length=128), nullable=False, server_default=""))
        batch_op.drop_constraint("pk_idempotency_keys", type_="primary")
        batch_op.create_primary_key("pk_idempotency_keys", ["key", "caller"])

    with op.batch_alter_table("returns") as batch_op:
        batch_op.drop_index("ix_returns_order_id")
        batch_op.drop_constraint("pk_returns", type_="primary")
        batch_op.create_primary_key("pk_returns", ["order_id", "return_id"])

    with op.batch_alter_table("inbox") as batch_op:
        batch_op.add_column(sa.Column("source", sa.String(length=128), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("digest", sa.String(length=64)))
        batch_op.drop_constraint("pk_inbox", type_="primary")
        batch_op.create_primary_key("pk_inbox", ["event_id", "type", "source"])

    with op.batch_alter_table("dead_letters") as batch_op:
        batch_op.add_column(sa.Column("incarnation", sa.String(length=40), nullable=False, server_default=""))
        batch_op.drop_constraint("uq_dead_letters_stream_stream_seq", type_="unique")
        batch_op.create_unique_constraint(
            "uq_dead_letters_stream_incarnation_stream_seq", ["stream", "incarnation", "stream_seq"]
        )

    op.create_table(
        "parked_events",
        sa.Column("stream", sa.String(length=128), nullable=False),
        sa.Column("incarnation", sa.String(length=40), nullable=False),
        sa.Column("stream_seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("subject", sa.String(length=128), nullable=False),
        sa.Column("order_id", sa.String(length=128)),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("headers", sa.JSON(), nullable=False),
        sa.Column("cause", sa.String(length=40), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("parked_at", UtcDateTime, nullable=False),
        sa.Column("due_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("stream", "incarnation", "stream_seq", name=op.f("pk_parked_events")),
    )
    with op.batch_alter_table("parked_events") as batch_op:
        batch_op.create_index("ix_parked_events_due_at", ["due_at"])
        batch_op.create_index("ix_parked_events_order_id", ["order_id"])
