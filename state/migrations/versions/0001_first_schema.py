"""first schema, part 2: from the outbox to reviews"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from state.engine.database import UtcDateTime

revision = "0001"
down_revision = "0001a"


def upgrade() -> None:
    _outbox_and_products()
    _replicas_and_conservation_differences()
    _order_items_and_releases()
    _returns_and_reviews()


def _outbox_and_products() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("event_id", sa.String(length=128), nullable=False),
        sa.Column("subject", sa.String(length=128), nullable=False),
        sa.Column("order_id", sa.String(length=128), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("published_at", UtcDateTime),
        sa.Column("claimed_until", UtcDateTime),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_error", sa.Text()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outbox")),
        sa.UniqueConstraint("event_id", name=op.f("uq_outbox_event_id")),
    )
    with op.batch_alter_table("outbox") as batch_op:
        batch_op.create_index("ix_outbox_order_id", ["order_id"])
        batch_op.create_index("ix_outbox_published_at", ["published_at"])
        batch_op.create_index(
            "ix_outbox_unpublished",
            ["id"],
            sqlite_where=sa.text("published_at IS NULL"),
            postgresql_where=sa.text("published_at IS NULL"),
        )

    op.create_table(
        "products",
        sa.Column("product_id", sa.String(length=128), nullable=False),
        sa.Column("variant_id", sa.String(length=128), nullable=False),
        sa.Column("available", sa.Boolean(), nullable=False),
        sa.Column("level", sa.String(length=40), nullable=False),
        sa.Column("available_quantity", sa.Integer()),
        sa.Column("threshold", sa.Integer()),
        sa.Column("source", sa.String(length=128), nullable=False),
        sa.Column("changed_at", UtcDateTime, nullable=False),
        sa.Column("expires_at", UtcDateTime),
        sa.PrimaryKeyConstraint("product_id", "variant_id", name=op.f("pk_products")),
    )
    with op.batch_alter_table("products") as batch_op:
        batch_op.create_index("ix_products_available_changed_at", ["available", "changed_at"])


def _replicas_and_conservation_differences() -> None:
    op.create_table(
        "replicas",
        sa.Column("replica", sa.String(length=128), nullable=False),
        sa.Column("started_at", UtcDateTime, nullable=False),
        sa.Column("heartbeat_at", UtcDateTime, nullable=False),
        sa.Column("breakers", sa.JSON(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("replica", name=op.f("pk_replicas")),
    )

    op.create_table(
        "conservation_differences",
        sa.Column("order_id", sa.String(length=128), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=40), nullable=False),
        sa.Column("first_seen_at", UtcDateTime, nullable=False),
        sa.Column("last_seen_at", UtcDateTime, nullable=False),
        sa.Column("settled_at", UtcDateTime),
        sa.Column("compensated_by", sa.String(length=128)),
        sa.ForeignKeyConstraint(["order_id"], ["orders.order_id"], name=op.f("fk_conservation_differences_order_id")),
        sa.PrimaryKeyConstraint("order_id", "kind", name=op.f("pk_conservation_differences")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("conservation_differences") as batch_op:
        batch_op.create_index(
            "ix_conservation_differences_state_first_seen_at", ["state", "first_seen_at"], unique=False
        )


def _order_items_and_releases() -> None:
    op.create_table(
        "order_items",
        sa.Column("order_id", sa.String(length=128), nullable=False),
        sa.Column("product_id", sa.String(length=128), nullable=False),
        sa.Column("variant_id", sa.String(length=128), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("quantity", sa.Integer(), nullable=False),
        sa.Column("returned", sa.Integer(), server_default="0", nullable=False),
        sa.CheckConstraint("quantity > 0", name=op.f("ck_order_items_quantity_positive")),
        sa.CheckConstraint(
            "returned >= 0 AND returned <= quantity", name=op.f("ck_order_items_returned_within_quantity")
        ),
        sa.ForeignKeyConstraint(["order_id"], ["orders.order_id"], name=op.f("fk_order_items_order_id")),
        sa.PrimaryKeyConstraint("order_id", "product_id", "variant_id", name=op.f("pk_order_items")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("order_items") as batch_op:
        batch_op.create_index("ix_order_items_product_id_variant_id", ["product_id", "variant_id"])

    op.create_table(
        "releases",
        sa.Column("order_id", sa.String(length=128), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=40), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", UtcDateTime),
        sa.Column("last_error", sa.Text()),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.Column("updated_at", UtcDateTime, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["order_id"], ["orders.order_id"], name=op.f("fk_releases_order_id")),
        sa.PrimaryKeyConstraint("order_id", name=op.f("pk_releases")),
    )
    with op.batch_alter_table("releases") as batch_op:
        batch_op.create_index(
            "ix_releases_next_attempt_at",
            ["next_attempt_at"],
            sqlite_where=sa.text("state = 'PENDING'"),
            postgresql_where=sa.text("state = 'PENDING'"),
        )
        batch_op.create_index("ix_releases_state_updated_at", ["state", "updated_at"])


def _returns_and_reviews() -> None:
    op.create_table(
        "returns",
        sa.Column("return_id", sa.String(length=128), nullable=False),
        sa.Column("order_id", sa.String(length=128), nullable=False),
        sa.Column("request_hash", sa.String(length=64), nullable=False),
        sa.Column("items", sa.JSON(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("restockable", sa.Boolean(), nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        sa.ForeignKeyConstraint(["order_id"], ["orders.order_id"], name=op.f("fk_returns_order_id")),
        sa.PrimaryKeyConstraint("return_id", name=op.f("pk_returns")),
    )
    with op.batch_alter_table("returns") as batch_op:
        batch_op.create_index("ix_returns_order_id", ["order_id"])

    op.create_table(
        "reviews",
        sa.Column("review_id", sa.String(length=128), nullable=False),
        sa.Column("order_id", sa.String(length=128), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("state", sa.String(length=40), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("opened_at", UtcDateTime, nullable=False),
        sa.Column("resolved_at", UtcDateTime),
        sa.Column("resolved_by", sa.String(length=128)),
        sa.Column("resolution", sa.String(length=40)),
        sa.Column("note", sa.Text()),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["order_id"], ["orders.order_id"], name=op.f("fk_reviews_order_id")),
        sa.PrimaryKeyConstraint("review_id", name=op.f("pk_reviews")),
    )
    with op.batch_alter_table("reviews") as batch_op:
        batch_op.create_index("ix_reviews_order_id", ["order_id"])
        batch_op.create_index("ix_reviews_state_opened_at", ["state", "opened_at"])
        batch_op.create_index(
            "uq_reviews_open_case",
            ["order_id", "reason"],
            unique=True,
            sqlite_where=sa.text("state = 'OPEN'"),
            postgresql_where=sa.text("state = 'OPEN'"),
        )
