"""The availability cache, fed by stock events. It informs users; only a reservation sets stock aside."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from state.engine.keyset import Keyset
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


_COLUMNS = [products.c[name] for name in Product.__dataclass_fields__]


def _put(dialect: Any) -> Any:
    # One statement, so that the newer of two concurrent updates of a product remains.
    news = dialect.insert(products)
    return news.on_conflict_do_update(
        index_elements=["product_id", "variant_id"],
        set_={column.name: news.excluded[column.name] for column in _COLUMNS},
        where=products.c.changed_at <= news.excluded.changed_at,
    ).returning(products.c.product_id)


_PUTS = {"sqlite": _put(sqlite), "postgresql": _put(postgresql)}


def put(connection: Connection, product: Product) -> bool:
    """Store an availability unless a newer one is stored; returns whether it was stored."""
    values = {name: getattr(product, name) for name in Product.__dataclass_fields__}
    # The drivers return different row counts for an insert.
    return connection.execute(_PUTS[connection.dialect.name], values).first() is not None


def page(
    connection: Connection, now: datetime, *, available: bool | None = None, limit: int = MAX_PAGE
) -> list[Product]:
    """Products, the most recently changed first; an expired "unavailable" counts as available."""
    statement = select(*_COLUMNS)
    expired = products.c.expires_at <= now
    if available is True:
        statement = statement.where(or_(products.c.available.is_(True), expired))
    elif available is False:
        statement = statement.where(products.c.available.is_(False), or_(products.c.expires_at.is_(None), ~expired))
    statement = statement.order_by(products.c.changed_at.desc()).limit(min(limit, MAX_PAGE))
    return [_decayed(Product(*row), now) for row in connection.execute(statement)]


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
    return Keyset([*_COLUMNS, sku], (products.c.changed_at, sku), driving, residual)


def product(row: Any, now: datetime) -> Product:
    """The product of a row of listed(); with an expired mark it counts as available."""
    return _decayed(Product(*row[:9]), now)


def count_out(connection: Connection, now: datetime) -> int:
    """Variants with a valid sold-out mark."""
    is_out = (products.c.expires_at > now, products.c.level == OUT)
    return connection.scalar(select(func.count()).select_from(products).where(*is_out)) or 0


def count_low(connection: Connection, limit: int) -> int:
    """Variants with low stock, counted up to ``limit``."""
    low = select(products.c.product_id).where(products.c.level == LOW).limit(limit).subquery()
    return connection.scalar(select(func.count()).select_from(low)) or 0


def _decayed(product: Product, now: datetime) -> Product:
    if product.available or product.expires_at is None or product.expires_at > now:
        return product
    return Product(
        product.product_id,
        product.variant_id,
        available=True,
        level="in_stock",
        available_quantity=None,
        threshold=product.threshold,
        source="decay",
        changed_at=product.expires_at,
        expires_at=None,
    )
