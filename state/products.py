"""The availability cache, fed by stock events. It informs users; only a reservation sets stock aside."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, or_

from state.engine import rows
from state.engine.keyset import Keyset
from state.engine.rows import Rows
from state.tables import products

MAX_PAGE = 500


@dataclass(frozen=True, slots=True)
class Product:
    """The last known availability of one variant."""

    product_id: str
    variant_id: str
    available: bool
    level: str
    """in_stock, low or out."""
    available_quantity: int | None
    threshold: int | None
    source: str
    changed_at: datetime
    expires_at: datetime | None


_PRODUCTS = Rows(products, Product)


def put(connection: Connection, product: Product) -> bool:
    """Store an availability unless a newer one is stored; returns whether it was stored."""
    return rows.put(connection, products, _PRODUCTS.values(product), newer_by="changed_at")


def page(
    connection: Connection, now: datetime, *, available: bool | None = None, limit: int = MAX_PAGE
) -> list[Product]:
    """Products, the most recently changed first; an expired "unavailable" counts as available."""
    wanted: list[ColumnElement[bool]] = []
    expired = products.c.expires_at <= now
    if available is True:
        wanted = [or_(products.c.available.is_(True), expired)]
    elif available is False:
        wanted = [products.c.available.is_(False), or_(products.c.expires_at.is_(None), ~expired)]
    newest = [products.c.changed_at.desc()]
    found = _PRODUCTS.some(connection, *wanted, order=newest, limit=min(limit, MAX_PAGE))
    return [_decayed(product, now) for product in found]


OUT, LOW, IN_STOCK = "out", "low", "in_stock"
LEVELS = (OUT, LOW, IN_STOCK)


def listed(now: datetime, *, level: str | None = None, product_id: str | None = None) -> Keyset:
    """Rows of Product by ``(changed_at, sku)``, the most recently changed first; expired marks are not out of stock.

    ``sku`` joins product and variant, so that the key of the list has two values.
    """
    driving: list[ColumnElement[bool]] = []
    if product_id:
        driving.append(products.c.product_id == product_id)
    elif level:
        driving.append(products.c.level == level)
    if level == OUT:
        # Most marks have expired; the index on ``expires_at`` finds the valid ones.
        driving.append(products.c.expires_at > now)
    residual = (lambda row: [row.level == level]) if level and product_id else None
    sku = (products.c.product_id + "/" + products.c.variant_id).label("sku")
    return Keyset([*_PRODUCTS.columns, sku], (products.c.changed_at, sku), driving, residual)


def product(row: Any, now: datetime) -> Product:
    """The product of a row of listed(); with an expired mark it counts as available."""
    return _decayed(Product(*row[:9]), now)


def count_out(connection: Connection, now: datetime) -> int:
    """Variants with a valid sold-out mark."""
    return rows.count(connection, products, products.c.expires_at > now, products.c.level == OUT)


def count_low(connection: Connection, limit: int) -> int:
    """Variants with low stock, counted up to ``limit``."""
    return rows.count(connection, products, products.c.level == LOW, up_to=limit)


def _decayed(product: Product, now: datetime) -> Product:
    if product.available or product.expires_at is None or product.expires_at > now:
        return product
    return replace(
        product,
        available=True,
        level=IN_STOCK,
        available_quantity=None,
        source="decay",
        changed_at=product.expires_at,
        expires_at=None,
    )
