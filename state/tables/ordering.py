"""Orders with their lines, history, idempotency keys and returns, and the stock levels of products."""

from __future__ import annotations

from sqlalchemy import Boolean, CheckConstraint, Column, ForeignKey, Index, Integer, String, Table, Text, text

from state.engine.column_types import JsonObject, JsonObjects
from state.engine.database import UtcDateTime
from state.tables.base import BY_KEY, Key, Serial, Traceparent, Word, metadata

orders = Table(
    "orders",
    metadata,
    Column("order_id", Key, primary_key=True),
    Column("user_id", Key, nullable=False),
    Column("customer_priority", Word, nullable=False),
    Column("status", Word, nullable=False),
    Column("inventory_status", Word, nullable=False),
    Column("payment_status", Word, nullable=False),
    Column("reservation_id", Key),
    Column("reservation_expires_at", UtcDateTime),
    Column("confirmed_at", UtcDateTime),
    Column("cancel_reason", Text),
    Column("failure", JsonObject(none_as_null=True)),
    Column("metadata", JsonObject(none_as_null=True)),
    Column("request_hash", String(64), nullable=False),
    Column("due_at", UtcDateTime),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("step_failures", Integer, nullable=False, server_default="0"),
    Column("step_error", Text),
    Column("traceparent", Traceparent),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("version", Integer, nullable=False),
    Index("ix_orders_created_at_order_id", "created_at", "order_id"),
    Index("ix_orders_status_created_at", "status", "created_at"),
    Index("ix_orders_inventory_status_created_at", "inventory_status", "created_at"),
    Index("ix_orders_user_id_created_at", "user_id", "created_at"),
    # Only the rare payment statuses have an index, so few orders cost a write. Lists of the others are read by time.
    Index(
        "ix_orders_unusual_payment",
        "payment_status",
        "created_at",
        sqlite_where=text("payment_status NOT IN ('NONE', 'CAPTURED', 'REFUNDED')"),
        postgresql_where=text("payment_status NOT IN ('NONE', 'CAPTURED', 'REFUNDED')"),
    ),
    Index(
        "ix_orders_due_at",
        "due_at",
        sqlite_where=text("due_at IS NOT NULL"),
        postgresql_where=text("due_at IS NOT NULL"),
    ),
    **BY_KEY,
)

order_items = Table(
    "order_items",
    metadata,
    Column("order_id", Key, ForeignKey("orders.order_id"), primary_key=True),
    Column("product_id", Key, primary_key=True),
    Column("variant_id", Key, primary_key=True),
    Column("line", Integer, nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("returned", Integer, nullable=False, server_default="0"),
    CheckConstraint("quantity > 0", name="quantity_positive"),
    CheckConstraint("returned >= 0 AND returned <= quantity", name="returned_within_quantity"),
    Index("ix_order_items_product_id_variant_id", "product_id", "variant_id"),
    **BY_KEY,
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("key", String(256), primary_key=True),
    # The sender of the key; empty for keys of a version without callers, which match every caller.
    Column("caller", Key, primary_key=True, server_default=""),
    Column("order_id", Key, nullable=False),
    Column("request_hash", String(64), nullable=False),
    Column("created_at", UtcDateTime, nullable=False, index=True),
    **BY_KEY,
)

order_history = Table(
    "order_history",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("order_id", Key, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("kind", Word, nullable=False),
    Column("title", Text, nullable=False),
    Column("details", JsonObject(none_as_null=True)),
    Column("actor", Key),
    Index("ix_order_history_order_id_id", "order_id", "id"),
)

returns = Table(
    "returns",
    metadata,
    Column("order_id", Key, ForeignKey("orders.order_id"), primary_key=True),
    Column("return_id", Key, primary_key=True),
    Column("request_hash", String(64), nullable=False),
    Column("items", JsonObjects, nullable=False),
    Column("reason", Text, nullable=False),
    Column("restockable", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

products = Table(
    "products",
    metadata,
    Column("product_id", Key, primary_key=True),
    Column("variant_id", Key, primary_key=True),
    Column("available", Boolean, nullable=False),
    Column("level", Word, nullable=False),
    Column("available_quantity", Integer),
    Column("threshold", Integer),
    Column("source", Key, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Index("ix_products_available_changed_at", "available", "changed_at"),
    Index("ix_products_level_changed_at", "level", "changed_at"),
    Index("ix_products_changed_at", "changed_at"),
    Index("ix_products_expires_at", "expires_at"),
)
