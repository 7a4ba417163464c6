"""The Inventory Service's rules on a database of their own, with a clock that is set by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import orjson
from sqlalchemy import Connection, select

from services.domain.orders.model import Line
from services.messaging.envelope import IncomingEvent
from services.sandbox.inventory_service import events, queries, stock, tables
from services.sandbox.inventory_service.catalogue import Product, put_on_shelves
from services.sandbox.inventory_service.reservations import Reservation
from state.engine.database import Database

T = TypeVar("T")

START = datetime(2026, 11, 21, 15, 27, 30, 123456, tzinfo=UTC)
MUG = Product("Mug", "p-mug", "v-white", on_hand=10, low_stock_threshold=3, price=16.9)
PEN = Product("Pen", "p-pen", "v-fine", on_hand=5, low_stock_threshold=2, price=39.0)


def mugs(quantity: int) -> Line:
    return Line(MUG.product_id, MUG.variant_id, quantity)


def pens(quantity: int) -> Line:
    return Line(PEN.product_id, PEN.variant_id, quantity)


class Shop:
    """Runs one rule per call, each in a transaction, at the shop's own time."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = START
        database.write_now(lambda connection: put_on_shelves(connection, (MUG, PEN), self.now))

    def write(self, rule: Callable[..., T], **arguments: Any) -> T:
        return self.database.write_now(lambda connection: rule(connection, now=self.now, **arguments))

    def read(self, query: Callable[[Connection], T]) -> T:
        return self.database.read_now(query)

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def reserve(self, order_id: str, *lines: Line, seconds: int = 1800) -> Reservation:
        return self.write(
            stock.reserve, order_id=order_id, lines=lines, user_id="u-1", expires_in=timedelta(seconds=seconds)
        )

    def confirm(self, reservation: Reservation, order_id: str | None = None) -> Any:
        return self.write(
            stock.confirm, order_id=order_id or reservation.order_id, reservation_id=reservation.reservation_id
        )

    def release(self, order_id: str) -> Reservation | None:
        return self.write(stock.release, order_id=order_id)

    def cancel(self, order_id: str) -> str:
        return self.write(stock.cancel, order_id=order_id)

    def take_back(self, order_id: str, return_id: str, *lines: Line, restockable: bool = True) -> tuple[Line, ...]:
        return self.write(stock.take_back, order_id=order_id, return_id=return_id, lines=lines, restockable=restockable)

    def adjust(self, line: Line, delta: int) -> None:
        self.write(stock.adjust, product_id=line.product_id, variant_id=line.variant_id, delta=delta, reason="count")

    def handle(
        self,
        event_type: str,
        event_id: str | None = None,
        *,
        is_silent: bool = False,
        source: str = "order-service",
        **data: Any,
    ) -> str:
        event = IncomingEvent(event_id or str(uuid4()), event_type, self.now, data, source)
        return self.database.write_now(
            lambda connection: events.handle(connection, event, self.now, is_silent=is_silent)
        )

    def columns(self, line: Line) -> tuple[int, int]:
        """On hand and reserved."""
        item = self.read(lambda c: queries.stock_item(c, line.product_id, line.variant_id, START))
        assert item is not None
        return item["onHand"], item["reserved"]

    def available(self, line: Line) -> int:
        return self.read(lambda c: queries.availability(c, [line], self.now))[0][1]

    def kinds(self, order_id: str) -> list[str]:
        ordered = select(tables.ledger.c.kind).where(tables.ledger.c.order_id == order_id).order_by(tables.ledger.c.id)
        return self.read(lambda c: list(c.scalars(ordered)))

    def published(self) -> list[dict[str, Any]]:
        """Every event in the outbox, oldest first."""
        ordered = select(tables.outbox.c.payload).order_by(tables.outbox.c.id)
        return self.read(lambda c: [orjson.loads(payload) for payload in c.scalars(ordered)])

    def published_types(self) -> list[str]:
        return [event["type"] for event in self.published()]

    def imbalances(self) -> list[queries.Imbalance]:
        return self.read(queries.imbalances)


@contextmanager
def opened_shop(path: Path) -> Iterator[Shop]:
    database = Database(f"sqlite:///{path}")
    try:
        tables.metadata.create_all(database.engine)
        yield Shop(database)
    finally:
        database.close()
