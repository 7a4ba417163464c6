"""failed steps of orders"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("orders", sa.Column("step_failures", sa.Integer(), server_default="0", nullable=False))
    op.add_column("orders", sa.Column("step_error", sa.Text()))
