"""Orders with their lines, history, idempotency keys and returns, and the stock levels of products."""

from __future__ import annotations

from sqlalchemy import Boolean, CheckConstraint, Column, ForeignKey, Index, Integer, String, Table, Text

from state.engine.column_types import JsonObject, JsonObjects
from state.engine.database import UtcDateTime
from state.tables.base import BY_KEY, Key, Serial, Traceparent, Word, metadata, optional, required, where

orders = Table(
    "orders",
    metadata,
    Column("order_id", Key, primary_key=True),
    *required(Key, "user_id"),
    *required(Word, "customer_priority", "status", "inventory_status", "payment_status"),
    *optional(Key, "reservation_id"),
    *optional(UtcDateTime, "reservation_expires_at", "confirmed_at"),
    *optional(Text, "cancel_reason", "step_error"),
    *optional(JsonObject(none_as_null=True), "failure", "metadata"),
    *required(String(64), "request_hash"),
    *optional(UtcDateTime, "due_at"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("step_failures", Integer, nullable=False, server_default="0"),
    *optional(Traceparent, "traceparent"),
    *required(UtcDateTime, "created_at", "updated_at"),
    *required(Integer, "version"),
    Index("ix_orders_created_at_order_id", "created_at", "order_id"),
    Index("ix_orders_status_created_at", "status", "created_at"),
    Index("ix_orders_inventory_status_created_at", "inventory_status", "created_at"),
    Index("ix_orders_user_id_created_at", "user_id", "created_at"),
    # Only the rare payment statuses have an index, so few orders cost a write. Lists of the others are read by time.
    Index(
        "ix_orders_unusual_payment",
        "payment_status",
        "created_at",
        **where("payment_status NOT IN ('NONE', 'CAPTURED', 'REFUNDED')"),
    ),
    Index("ix_orders_due_at", "due_at", **where("due_at IS NOT NULL")),
    **BY_KEY,
)

order_items = Table(
    "order_items",
    metadata,
    Column("order_id", Key, ForeignKey("orders.order_id"), primary_key=True),
    Column("product_id", Key, primary_key=True),
    Column("variant_id", Key, primary_key=True),
    *required(Integer, "line", "quantity"),
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
    *required(Key, "order_id"),
    *required(String(64), "request_hash"),
    Column("created_at", UtcDateTime, nullable=False, index=True),
    **BY_KEY,
)

order_history = Table(
    "order_history",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    *required(Key, "order_id"),
    *required(UtcDateTime, "at"),
    *required(Word, "kind"),
    *required(Text, "title"),
    *optional(JsonObject(none_as_null=True), "details"),
    *optional(Key, "actor"),
    Index("ix_order_history_order_id_id", "order_id", "id"),
)

returns = Table(
    "returns",
    metadata,
    Column("order_id", Key, ForeignKey("orders.order_id"), primary_key=True),
    Column("return_id", Key, primary_key=True),
    *required(String(64), "request_hash"),
    *required(JsonObjects, "items"),
    *required(Text, "reason"),
    *required(Boolean, "restockable"),
    *required(UtcDateTime, "created_at"),
)

products = Table(
    "products",
    metadata,
    Column("product_id", Key, primary_key=True),
    Column("variant_id", Key, primary_key=True),
    *required(Boolean, "available"),
    *required(Word, "level"),
    *optional(Integer, "available_quantity", "threshold"),
    *required(Key, "source"),
    *required(UtcDateTime, "changed_at"),
    *optional(UtcDateTime, "expires_at"),
    Index("ix_products_available_changed_at", "available", "changed_at"),
    Index("ix_products_level_changed_at", "level", "changed_at"),
    Index("ix_products_changed_at", "changed_at"),
    Index("ix_products_expires_at", "expires_at"),
)
