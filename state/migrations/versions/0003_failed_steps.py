"""failed steps of orders"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("orders", sa.Column("step_failures", sa.Integer(), server_default="0", nullable=False))
    op.add_column("orders", sa.Column("step_error", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("orders", "step_error")
    op.drop_column("orders", "step_failures")
