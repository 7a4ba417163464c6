"""The comparison of orders, stock and money finds every way in which they can part."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, update

from services.domain.orders.model import Line
from services.sandbox import payment_gateway
from services.sandbox.conservation import Difference, differences
from services.sandbox.inventory_service import tables
from state import releases as release_jobs
from state import tables as holdfast
from state.engine.database import Database
from tests.support.inventory_shop import START, Shop, mugs, pens


class Books:
    """The three databases and what is found in them."""

    def __init__(self, shop: Shop, folder: Path) -> None:
        self.shop = shop
        self.holdfast = Database(f"sqlite:///{folder}/holdfast.db")
        self.payments = Database(f"sqlite:///{folder}/payments.db")
        holdfast.metadata.create_all(self.holdfast.engine)
        payment_gateway.metadata.create_all(self.payments.engine)

    def order(self, order_id: str, status: str, *lines: Line, returned: int = 0, **values: Any) -> None:
        row = {
            "order_id": order_id,
            "user_id": "u-1",
            "customer_priority": "standard",
            "status": status,
            "inventory_status": "NONE",
            "payment_status": "NONE",
            "request_hash": "h",
            "created_at": START,
            "updated_at": START,
            "version": 1,
        }
        items = [
            {
                "order_id": order_id,
                "product_id": line.product_id,
                "variant_id": line.variant_id,
                "line": number,
                "quantity": line.quantity,
                "returned": returned,
            }
            for number, line in enumerate(lines)
        ]
        self.holdfast.write_now(lambda c: c.execute(insert(holdfast.orders), row | values))
        if items:
            self.holdfast.write_now(lambda c: c.execute(insert(holdfast.order_items), items))

    def pay(self, order_id: str, metadata: dict[str, str] | None = None) -> None:
        self.payments.write_now(lambda c: payment_gateway.capture(c, order_id, "u-1", metadata or {}, START))

    def found(self, settled_before: datetime | None = None) -> list[Difference]:
        now = self.shop.now
        with (
            self.holdfast.engine.begin() as orders,
            self.shop.database.engine.begin() as inventory,
            self.payments.engine.begin() as payment,
        ):
            return differences(orders, inventory, payment, now=now, settled_before=settled_before or now)

    def kinds(self) -> list[tuple[str, str]]:
        return [(difference.kind.value, difference.key) for difference in self.found()]

    def close(self) -> None:
        self.holdfast.close()
        self.payments.close()


@pytest.fixture
def books(shop: Shop, tmp_path: Path) -> Iterator[Books]:
    books = Books(shop, tmp_path)
    yield books
    books.close()


def confirmed(books: Books, order_id: str, *lines: Line, **more: Any) -> None:
    reservation = books.shop.reserve(order_id, *lines)
    books.shop.confirm(reservation)
    books.pay(order_id)
    values = {"reservation_id": reservation.reservation_id, "payment_status": "CAPTURED"}
    books.order(order_id, more.pop("status", "CONFIRMED"), *lines, **(values | more))


def test_orders_that_went_well_add_up(books: Books) -> None:
    confirmed(books, "o-1", mugs(2), pens(1))
    confirmed(books, "o-2", mugs(1), status="RETURNED", returned=1)
    books.shop.take_back("o-2", "ret-1", mugs(1))
    books.shop.reserve("o-3", mugs(1))
    books.order("o-3", "PAYING", mugs(1))
    books.shop.reserve("o-4", mugs(1))
    books.shop.release("o-4")
    books.pay("o-4", {"sandboxPayment": "decline"})
    books.order("o-4", "REJECTED", mugs(1))
    assert books.found() == []


def test_stock_of_unknown_or_cancelled_orders_is_found(books: Books) -> None:
    books.shop.reserve("o-1", mugs(1))
    books.shop.reserve("o-2", mugs(1))
    books.order("o-2", "REJECTED", mugs(1))
    books.shop.confirm(books.shop.reserve("o-3", mugs(1)))
    books.order("o-3", "CANCELLED", mugs(1))
    assert sorted(books.kinds()) == [
        ("DEDUCTED_WITHOUT_LIVE_ORDER", "o-3"),
        ("HELD_WITHOUT_LIVE_ORDER", "o-1"),
        ("HELD_WITHOUT_LIVE_ORDER", "o-2"),
    ]


def test_an_expired_reservation_reserves_nothing(books: Books) -> None:
    books.shop.reserve("o-1", mugs(1), seconds=60)
    books.shop.wait(60)
    assert books.found() == []


def test_a_difference_with_a_waiting_release_or_event_is_pending(books: Books) -> None:
    books.shop.reserve("o-1", mugs(1))
    books.order("o-1", "CANCELLED", mugs(1))
    books.holdfast.write_now(lambda c: release_jobs.start(c, "o-1", "cancelled", START))
    books.shop.confirm(books.shop.reserve("o-2", mugs(1)))
    books.order("o-2", "CANCELLED", mugs(1), payment_status="REFUND_PENDING")
    books.pay("o-2")
    event = {"event_id": "e", "subject": "order.cancelled", "order_id": "o-2", "payload": b"{}", "created_at": START}
    books.holdfast.write_now(lambda c: c.execute(insert(holdfast.outbox), event))
    assert [(found.key, found.is_pending) for found in books.found()] == [("o-1", True), ("o-2", True), ("o-2", True)]


def test_a_confirmation_without_its_deduction_is_found(books: Books) -> None:
    books.order("o-1", "CONFIRMED", mugs(1), reservation_id="r-1")
    books.shop.reserve("o-2", mugs(1))
    books.order("o-2", "CONFIRMED", mugs(1), reservation_id="r-2")
    assert books.kinds() == [("CONFIRMED_NOT_DEDUCTED", "o-1"), ("CONFIRMED_NOT_DEDUCTED", "o-2")]


def test_other_lines_and_other_returns_are_found(books: Books) -> None:
    confirmed(books, "o-1", mugs(2))
    change = update(holdfast.order_items).values(quantity=3)
    books.holdfast.write_now(lambda c: c.execute(change))
    books.shop.take_back("o-1", "ret-1", mugs(1))
    assert books.kinds() == [("OTHER_LINES_DEDUCTED", "o-1"), ("RETURNS_DIFFER", "o-1")]


def test_money_kept_or_missing_is_found(books: Books) -> None:
    books.pay("o-1")
    books.pay("o-2")
    books.order("o-2", "REJECTED")
    books.order("o-3", "PLACED", payment_status="CAPTURED")
    assert books.kinds() == [("PAYMENT_KEPT", "o-1"), ("PAYMENT_KEPT", "o-2"), ("PAYMENT_MISSING", "o-3")]


def test_a_second_deduction_and_a_forged_column_are_found(books: Books) -> None:
    confirmed(books, "o-1", mugs(1))
    row = {"at": START, "kind": "DEDUCT", "product_id": "p-mug", "variant_id": "v-white", "order_id": "o-1"}
    again = row | {"on_hand_delta": -1, "reserved_delta": -1}
    books.shop.database.write_now(lambda c: c.execute(insert(tables.ledger), again))
    assert books.kinds() == [
        ("LEDGER_DIFFERS", "p-mug/v-white"),
        ("LEDGER_DIFFERS", "p-mug/v-white"),
        ("DEDUCTED_TWICE", "o-1"),
    ]


def test_recently_changed_rows_are_not_compared(books: Books) -> None:
    books.shop.reserve("o-1", mugs(1))
    books.order("o-2", "CONFIRMED", mugs(1))
    books.pay("o-3")
    assert books.found(settled_before=START - timedelta(seconds=1)) == []
    assert len(books.found()) == 3
