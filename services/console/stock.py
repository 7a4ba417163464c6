"""Stock: the availability cache, and the orders that wait for each product."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from services.console.access import Topic
from services.console.cache import Reading
from services.console.paging import MAX_ROWS, NEWEST, Paged, Place, csv_text, paged, walk
from state import order_search as waiting
from state import products
from state.products import LEVELS, Product

STOCK_TTL = 2.5


@dataclass(frozen=True, slots=True)
class StockRow:
    """A variant with the orders that wait for its product."""

    product: Product
    waiting: int
    units: int


@dataclass(frozen=True, slots=True)
class StockPage:
    """One page of variants, the most recently changed first."""

    rows: Paged[StockRow]
    out: int
    low: int
    waiting_orders: int
    is_waiting_capped: bool
    most_wanted: tuple[tuple[str, str, int, int], ...]
    """``(product_id, variant_id, orders, units)`` of waiting orders, the most wanted first."""


class Stock(Topic):
    """The topic of the Stock page."""

    LEVELS = LEVELS

    def page(
        self,
        *,
        level: str | None = None,
        product_id: str | None = None,
        place: Place = NEWEST,
    ) -> Reading[StockPage]:
        """Variants of a level (out, low, in_stock), or of one product."""

        def query(connection: Connection) -> StockPage:
            now = self._access.now()
            wanted = waiting.waiting_by_variant(connection)
            found = paged(
                connection,
                products.listed(now, level=level, product_id=product_id),
                lambda row: _row(products.product(row, now), wanted.variants),
                place,
            )
            most = sorted(wanted.variants.items(), key=lambda item: (-item[1][0], item[0]))[:10]
            return StockPage(
                rows=found,
                out=products.count_out(connection, now),
                low=products.count_low(connection, 1000),
                waiting_orders=wanted.orders,
                is_waiting_capped=wanted.is_capped,
                most_wanted=tuple((*sku, *counts) for sku, counts in most),
            )

        return self._access.read(("stock", level, product_id, place), STOCK_TTL, query)

    def csv(self, *, level: str | None = None, product_id: str | None = None) -> str:
        """The matching variants, at most MAX_ROWS. Raises SourceUnavailable."""
        now = self._access.now()

        def query(connection: Connection) -> list[Product]:
            listed = products.listed(now, level=level, product_id=product_id)
            return [products.product(row, now) for row in walk(connection, listed, MAX_ROWS)]

        header = ("productId", "variantId", "level", "available", "availableQuantity", "threshold", "source",
                  "changedAt", "expiresAt")  # fmt: skip
        return csv_text(
            header,
            (
                (p.product_id, p.variant_id, p.level, p.available, p.available_quantity, p.threshold, p.source,
                 p.changed_at, p.expires_at)
                for p in self._access.read_now(query)
            ),
        )  # fmt: skip


def _row(product: Product, wanted: Mapping[tuple[str, str], tuple[int, int]]) -> StockRow:
    orders, units = wanted.get((product.product_id, product.variant_id), (0, 0))
    return StockRow(product, orders, units)
