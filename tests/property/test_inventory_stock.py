"""Whatever is asked of the Inventory Service, in whatever order: no stock appears or disappears."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, event, func, select
from sqlalchemy.pool import StaticPool

from services.domain.orders.model import Line
from services.sandbox.inventory_service import queries, stock, tables
from services.sandbox.inventory_service.catalogue import Product, put_on_shelves
from services.sandbox.inventory_service.reservations import Reservation
from services.sandbox.inventory_service.stock_ledger import level_of
from tests.support.examples import examples

START = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SHELF = tuple(Product(f"p{n}", f"p{n}", "v", on_hand=6, low_stock_threshold=2, price=1.0) for n in range(3))

orders = st.sampled_from(["o0", "o1"])
lines = st.lists(
    st.builds(Line, st.sampled_from(["p0", "p1", "p2"]), st.just("v"), st.integers(1, 3)), min_size=1, max_size=3
)
steps = st.one_of(
    st.tuples(st.just("reserve"), orders, lines, st.sampled_from([60, 600])),
    st.tuples(st.just("buy"), orders, lines),
    st.tuples(st.just("confirm"), orders, orders, st.integers(0, 3)),
    st.tuples(st.just("release"), orders),
    st.tuples(st.just("cancel"), orders),
    st.tuples(st.just("take_back"), orders, st.sampled_from(["r0", "r1"]), lines, st.booleans()),
    st.tuples(st.just("validate"), orders, st.integers(0, 3), lines),
    st.tuples(st.just("adjust"), st.sampled_from(["p0", "p1", "p2"]), st.integers(-6, 6).filter(bool)),
    st.tuples(st.just("wait"), st.sampled_from([1, 59, 60, 600])),
    st.tuples(st.just("sweep")),
)

REFUSALS = (stock.InsufficientStock, stock.ReservationRefused, stock.AlreadyConfirmed, stock.AdjustmentRefused)


class World:
    """A service in memory, driven by steps; remembers every reservation it was ever given."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.now = START
        self.given: dict[str, list[str]] = {}
        put_on_shelves(connection, SHELF, self.now)

    def take(self, step: tuple[Any, ...]) -> None:
        with suppress(*REFUSALS), self.connection.begin_nested():
            getattr(self, step[0])(*step[1:])

    def reserve(self, order_id: str, wanted: list[Line], seconds: int) -> None:
        def once() -> Reservation:
            return stock.reserve(
                self.connection,
                order_id=order_id,
                lines=wanted,
                user_id=None,
                expires_in=timedelta(seconds=seconds),
                now=self.now,
            )

        first, again = once(), once()
        assert (again.reservation_id, again.expires_at) == (first.reservation_id, first.expires_at)
        self.given.setdefault(order_id, []).append(first.reservation_id)

    def buy(self, order_id: str, wanted: list[Line]) -> None:
        self.reserve(order_id, wanted, 60)
        self.confirm(order_id, order_id, -1)

    def confirm(self, order_id: str, of_order: str, which: int) -> None:
        reservation_id = self._reservation(of_order, which)
        stock.confirm(self.connection, order_id=order_id, reservation_id=reservation_id, now=self.now)

    def release(self, order_id: str) -> None:
        stock.release(self.connection, order_id=order_id, now=self.now)

    def cancel(self, order_id: str) -> None:
        stock.cancel(self.connection, order_id=order_id, now=self.now)

    def take_back(self, order_id: str, return_id: str, sent: list[Line], restockable: bool) -> None:
        stock.take_back(
            self.connection, order_id=order_id, return_id=return_id, lines=sent, restockable=restockable, now=self.now
        )

    def validate(self, order_id: str, which: int, named: list[Line]) -> None:
        reservation_id = self._reservation(order_id, which)
        stock.validate(self.connection, order_id=order_id, reservation_id=reservation_id, lines=named, now=self.now)

    def adjust(self, product_id: str, delta: int) -> None:
        stock.adjust(self.connection, product_id=product_id, variant_id="v", delta=delta, reason="count", now=self.now)

    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    def sweep(self) -> None:
        stock.expire(self.connection, now=self.now)

    def _reservation(self, order_id: str, which: int) -> str:
        given = self.given.get(order_id, [])
        return given[which % len(given)] if given else "r-none"


@contextmanager
def world() -> Iterator[World]:
    engine = create_engine("sqlite://", poolclass=StaticPool)

    @event.listens_for(engine, "connect")
    def configure(dbapi_connection: Any, _record: Any) -> None:
        dbapi_connection.isolation_level = None
        dbapi_connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    with engine.begin() as connection:
        tables.metadata.create_all(connection)
        yield World(connection)
    engine.dispose()


def after_every_step(check: Callable[[World], None]) -> Callable[[], None]:
    @settings(max_examples=examples(200), deadline=None)
    @given(st.lists(steps, max_size=25))
    def run(taken: list[tuple[Any, ...]]) -> None:
        with world() as it:
            for step in taken:
                it.take(step)
                check(it)

    return run


def check_columns(it: World) -> None:
    assert queries.imbalances(it.connection) == []
    for row in it.connection.execute(select(tables.stock)):
        available = row.on_hand - row.reserved
        assert available >= 0
        assert row.level == level_of(available, row.low_stock_threshold)


def check_orders(it: World) -> None:
    ledger = tables.ledger.c
    deductions = (
        select(func.count(), func.count(ledger.reservation_id.distinct()))
        .where(ledger.kind == tables.DEDUCT)
        .group_by(ledger.order_id, ledger.product_id)
    )
    assert all(count == 1 for count, _ in it.connection.execute(deductions))
    nets = select(func.sum(ledger.on_hand_delta), func.sum(ledger.reserved_delta)).where(ledger.order_id.isnot(None))
    for on_hand, reserved in it.connection.execute(nets.group_by(ledger.order_id, ledger.product_id)):
        assert on_hand <= 0 <= reserved


def check_ends(it: World) -> None:
    living = tables.reservations.c.state.in_((tables.ACTIVE, tables.CONFIRMED))
    risen = select(tables.tombstones).join(
        tables.reservations, tables.reservations.c.order_id == tables.tombstones.c.order_id
    )
    assert it.connection.execute(risen.where(living)).all() == []
    late = tables.reservations.c.confirmed_at >= tables.reservations.c.expires_at
    assert it.connection.execute(select(tables.reservations).where(late)).all() == []
    foreign = (
        select(tables.ledger)
        .join(tables.reservations, tables.reservations.c.reservation_id == tables.ledger.c.reservation_id)
        .where(tables.reservations.c.order_id != tables.ledger.c.order_id)
    )
    assert it.connection.execute(foreign).all() == []


def check_announcements(it: World) -> None:
    ordered = select(tables.outbox.c.subject, tables.outbox.c.payload).order_by(tables.outbox.c.id)
    is_out: dict[str, bool] = {}
    for subject, payload in it.connection.execute(ordered):
        product_id = orjson.loads(payload)["data"]["productId"]
        was_out = is_out.get(product_id, False)
        assert was_out == (subject == "inventory.back_in_stock")
        is_out[product_id] = subject == "inventory.out_of_stock"
    for row in it.connection.execute(select(tables.stock)):
        assert is_out.get(row.product_id, False) == (row.on_hand == row.reserved)


test_the_ledger_explains_every_column_and_nothing_is_oversold = after_every_step(check_columns)
test_no_order_is_deducted_twice_or_gives_back_more_than_it_took = after_every_step(check_orders)
test_out_of_stock_and_back_in_stock_take_turns = after_every_step(check_announcements)
test_an_order_that_ended_stays_ended_and_no_hold_is_confirmed_late = after_every_step(check_ends)
