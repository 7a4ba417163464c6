"""Movements of stock: each changes the columns, the ledger and, on a level change, the outbox in one transaction."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Row, bindparam, insert, update

from services.domain.orders import events
from services.domain.orders.events import OutgoingEvent
from services.domain.orders.model import Line
from services.sandbox.inventory_service import outbox
from services.sandbox.inventory_service.tables import IN_STOCK, LOW, OUT, ledger, stock

Sku = tuple[str, str]

_AVAILABLE = stock.c.on_hand - stock.c.reserved - stock.c.safety

_MOVE = (
    update(stock)
    .where(stock.c.product_id == bindparam("product"), stock.c.variant_id == bindparam("variant"))
    .values(on_hand=stock.c.on_hand + bindparam("on_hand_by"), reserved=stock.c.reserved + bindparam("reserved_by"))
    .returning(stock.c.on_hand, stock.c.reserved, stock.c.safety, stock.c.low_stock_threshold, stock.c.level)
)
_RESERVE_IF_AVAILABLE = _MOVE.where(bindparam("reserved_by") <= _AVAILABLE)
_ADJUST_IF_UNRESERVED = _MOVE.where(stock.c.on_hand + bindparam("on_hand_by") >= stock.c.reserved)


def in_order(lines: Iterable[Line]) -> list[Line]:
    """Lines in the order in which stock rows are locked, so that two orders cannot deadlock."""
    return sorted(lines, key=lambda line: line.sku)


def level_of(available: int, threshold: int) -> str:
    """The level of a quantity: OUT, LOW (at or below the threshold) or IN_STOCK."""
    if available <= 0:
        return OUT
    return LOW if available <= threshold else IN_STOCK


class StockBook:
    """The movements of one transaction; leaving the block writes the ledger and the events of level changes.

    Levels are compared once, at the end, so that stock released and reserved again within a transaction publishes
    no event. After an exception nothing is written; the transaction rolls back.
    """

    def __init__(self, connection: Connection, now: datetime) -> None:
        self.connection = connection
        self.now = now
        self._entries: list[dict[str, Any]] = []
        self._touched: dict[Sku, Row[Any]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._write_ledger()
            self._announce_edges()

    def reserve(self, kind: str, line: Line, **reference: str | None) -> bool:
        """Reserve the line's quantity. Returns False if less is available."""
        return self._apply(_RESERVE_IF_AVAILABLE, kind, line.sku, 0, line.quantity, reference)

    def adjust(self, kind: str, sku: Sku, delta: int, **reference: str | None) -> bool:
        """Change the stock on hand. Returns False for an unknown product, or if less than reserved would remain."""
        return self._apply(_ADJUST_IF_UNRESERVED, kind, sku, delta, 0, reference)

    def move(self, kind: str, sku: Sku, on_hand: int, reserved: int, **reference: str | None) -> None:
        """Move existing stock. Raises LookupError without a stock row; the table's checks refuse negative stock."""
        if not self._apply(_MOVE, kind, sku, on_hand, reserved, reference):
            raise LookupError(f"no stock row for {sku}")

    def _apply(self, statement: Any, kind: str, sku: Sku, on_hand: int, reserved: int, reference: Any) -> bool:
        values = {"product": sku[0], "variant": sku[1], "on_hand_by": on_hand, "reserved_by": reserved}
        row = self.connection.execute(statement, values).one_or_none()
        if row is None:
            return False
        self._touched[sku] = row
        entry = {"order_id": None, "reservation_id": None, "reason": None} | reference
        entry |= {"at": self.now, "kind": kind, "product_id": sku[0], "variant_id": sku[1]}
        self._entries.append(entry | {"on_hand_delta": on_hand, "reserved_delta": reserved})
        return True

    def _write_ledger(self) -> None:
        if self._entries:
            self.connection.execute(insert(ledger), self._entries)

    def _announce_edges(self) -> None:
        for sku, row in sorted(self._touched.items()):
            available = row.on_hand - row.reserved - row.safety
            level = level_of(available, row.low_stock_threshold)
            if level == row.level:
                continue
            self.connection.execute(_SET_LEVEL, {"product": sku[0], "variant": sku[1], "level_now": level})
            event = edge(row.level, level, sku, available, row.low_stock_threshold)
            if event is not None:
                outbox.add(self.connection, event, self.now)


_SET_LEVEL = (
    update(stock)
    .where(stock.c.product_id == bindparam("product"), stock.c.variant_id == bindparam("variant"))
    .values(level=bindparam("level_now"))
)


def edge(before: str, after: str, sku: Sku, available: int, threshold: int) -> OutgoingEvent | None:
    """The event of a level change, or None.

    A decrease publishes the worst level reached, an increase only the change from OUT. The change from LOW to
    IN_STOCK publishes nothing and re-arms LOW.
    """
    data: dict[str, Any] = {"productId": sku[0], "variantId": sku[1]}
    if after == OUT:
        return OutgoingEvent(events.OUT_OF_STOCK, "/".join(sku), data)
    if before == OUT:
        return OutgoingEvent(events.BACK_IN_STOCK, "/".join(sku), data | {"availableQuantity": available})
    if after == LOW:
        low = data | {"availableQuantity": available, "threshold": threshold}
        return OutgoingEvent(events.LOW_STOCK, "/".join(sku), low)
    return None
