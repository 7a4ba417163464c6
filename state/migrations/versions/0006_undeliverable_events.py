"""events that can never be published"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from state.engine.database import UtcDateTime

revision = "0006"
down_revision = "0005"

IS_UNDELIVERABLE = "undeliverable_at IS NOT NULL"


def upgrade() -> None:
    op.add_column("outbox", sa.Column("undeliverable_at", UtcDateTime))
    op.add_column("outbox", sa.Column("undeliverable_reason", sa.Text()))
    op.create_index(
        "ix_outbox_undeliverable",
        "outbox",
        ["id"],
        sqlite_where=sa.text(IS_UNDELIVERABLE),
        postgresql_where=sa.text(IS_UNDELIVERABLE),
    )
