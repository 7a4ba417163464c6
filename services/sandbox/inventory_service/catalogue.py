"""The opening stock of a new sandbox: the same names and ids on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid5

from sqlalchemy import Connection, insert, select

from services.sandbox.inventory_service import tables
from services.sandbox.inventory_service.stock_ledger import StockBook, level_of
from services.sandbox.inventory_service.tables import stock

NAMESPACE = UUID("5b7f1f0e-6a5d-5c1f-9b39-4f1c0a7d2e11")

OPENING = "opening stock"


@dataclass(frozen=True, slots=True)
class Product:
    """A variant of a product with its opening stock."""

    name: str
    product_id: str
    variant_id: str
    on_hand: int
    low_stock_threshold: int
    price: float
    """Euro; used by the demo traffic only."""


def product(name: str, variant: str, on_hand: int, low_stock_threshold: int, price: float) -> Product:
    """A product whose ids are derived from its name, so that they never change."""
    product_id, variant_id = str(uuid5(NAMESPACE, name)), str(uuid5(NAMESPACE, f"{name}/{variant}"))
    return Product(f"{name}, {variant}", product_id, variant_id, on_hand, low_stock_threshold, price)


CATALOGUE: tuple[Product, ...] = (
    # These two are the products of the examples in the README and the tests.
    Product(
        "Field notebook, dotted",
        "0e8dddc7-9ebf-41f3-b08a-5a3f91f1c3c0",
        "7c9e6679-7425-40de-944b-e07fc1f90ae7",
        on_hand=400,
        low_stock_threshold=40,
        price=14.5,
    ),
    Product(
        "Brass pen, fine",
        "9e3a3ca9-4c41-4c3c-8e82-3b323d9a3e23",
        "4f6a9b7c-0e2d-4f37-9a3c-2e9a4e3b5c1d",
        on_hand=240,
        low_stock_threshold=24,
        price=39.0,
    ),
    product("Canvas backpack", "olive", 160, 16, 119),
    product("Canvas backpack", "charcoal", 160, 16, 119),
    product("Enamel mug", "white", 320, 32, 16.9),
    product("Enamel mug", "forest green", 320, 32, 16.9),
    product("Wool blanket", "grey check", 90, 10, 89),
    product("Wool blanket", "rust", 90, 10, 89),
    product("Trail lantern", "rechargeable", 140, 14, 64),
    product("Camp stove", "single burner", 70, 8, 79),
    product("Titanium spork", "short", 420, 40, 12.5),
    product("Water bottle", "750 ml", 360, 36, 24),
    product("Water bottle", "1 l", 300, 30, 29),
    product("Pocket knife", "walnut handle", 110, 12, 58),
    product("Merino socks", "size M", 380, 40, 18.5),
    product("Merino socks", "size L", 340, 40, 18.5),
    product("Rain jacket", "navy, size M", 80, 10, 149),
    product("Rain jacket", "navy, size L", 80, 10, 149),
    product("Headlamp", "350 lumen", 180, 18, 44),
    product("Folding chair", "ash", 60, 8, 95),
    product("Dry bag", "20 l", 220, 22, 27),
    product("Map case", "A4", 150, 15, 21.5),
    product("Cast-iron pan", "26 cm", 50, 6, 69),
    product("Hammock", "double", 40, 6, 84),
)


def put_on_shelves(connection: Connection, catalogue: Sequence[Product], now: datetime) -> int:
    """Add the missing products with their opening stock in the ledger. Returns their number."""
    known = {
        (row.product_id, row.variant_id) for row in connection.execute(select(stock.c.product_id, stock.c.variant_id))
    }
    new = [product for product in catalogue if (product.product_id, product.variant_id) not in known]
    with StockBook(connection, now) as book:
        for product in new:
            connection.execute(insert(stock), _row(product))
            if product.on_hand:
                book.adjust(tables.ADJUST, (product.product_id, product.variant_id), product.on_hand, reason=OPENING)
    return len(new)


def _row(product: Product) -> dict[str, object]:
    return {
        **{name: getattr(product, name) for name in ("product_id", "variant_id", "name", "low_stock_threshold")},
        "on_hand": 0,
        # The level is set without an event, so that a new sandbox publishes no event for each product.
        "level": level_of(product.on_hand, product.low_stock_threshold),
    }
