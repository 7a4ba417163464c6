"""The small values of the model do what the real tables and the reference services do, on random sequences."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, MetaData, create_engine, event, func, select
from sqlalchemy.pool import StaticPool

from services.domain.orders.model import Order, ReleaseState
from services.sandbox import payment_gateway
from services.sandbox.inventory_service import queries, stock
from services.sandbox.inventory_service import tables as shop_tables
from services.sandbox.inventory_service.catalogue import Product, put_on_shelves
from state import deduplication, orders, releases, reviews, tables
from state.orders import StaleOrder
from state.releases import Release
from state.reviews import Review
from tests.model import neighbours
from tests.model.neighbours import Shop, StockRules, Till
from tests.model.rows import LATER, LINE, SOON, START, RowRules, Rows, Tables, new_order
from tests.model.runs import time_of

SEQUENCES = 40
STEPS = 25
UNITS = 2
TTL = timedelta(hours=1)


@contextmanager
def connected(metadata: MetaData) -> Iterator[Connection]:
    engine = create_engine("sqlite://", poolclass=StaticPool)

    @event.listens_for(engine, "connect")
    def configure(dbapi_connection: Any, _record: Any) -> None:
        dbapi_connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    with engine.begin() as connection:
        metadata.create_all(connection)
        yield connection
    engine.dispose()


# ------------------------------------------------------- the Inventory Service


class BothShops:
    """The real rules over a database and the model's over a value, asked the same."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.rules = StockRules()
        self.shop = Shop(UNITS)
        self.phase = 0
        self.ids: list[str] = []
        self.rivals: list[str] = []
        put_on_shelves(
            connection, [Product("chair", LINE.product_id, LINE.variant_id, UNITS, 0, 1.0)], time_of(self.phase)
        )

    @property
    def now(self) -> Any:
        return time_of(self.phase)

    def try_to(self, act: Callable[..., Any], **given: Any) -> Any:
        """What the real rule answers, its transaction undone where it refuses."""
        try:
            with self.connection.begin_nested():
                return act(self.connection, now=self.now, **given)
        except stock.InsufficientStock:
            return neighbours.SHORT
        except stock.ReservationRefused:
            return neighbours.REFUSED
        except stock.AlreadyConfirmed:
            return neighbours.GONE

    def reserve(self, _: random.Random) -> None:
        real = self.try_to(stock.reserve, order_id="order-1", lines=[LINE], user_id=None, expires_in=self._ttl())
        self.shop, answer, number = neighbours.reserve(self.rules, self.shop, self.phase)
        if isinstance(real, stock.Reservation):
            self.ids += [real.reservation_id] if real.reservation_id not in self.ids else []
            assert (answer, number) == (neighbours.HELD, self.ids.index(real.reservation_id))
            assert real.expires_at == time_of(self.shop.reservations[number].ends)
        else:
            assert answer == real

    def confirm(self, chance: random.Random) -> None:
        if self.ids:
            number = chance.randrange(len(self.ids))
            real = self.try_to(stock.confirm, order_id="order-1", reservation_id=self.ids[number])
            self.shop, answer, _ = neighbours.confirm(self.rules, self.shop, number, self.phase)
            assert isinstance(real, stock.ConfirmationFailure) == (answer == neighbours.NOT_DEDUCTED)

    def release(self, _: random.Random) -> None:
        real = self.try_to(stock.release, order_id="order-1")
        self.shop, answer, _number = neighbours.release(self.rules, self.shop, self.phase)
        assert (real == neighbours.GONE) == (answer == neighbours.GONE)

    def cancel(self, _: random.Random) -> None:
        self.try_to(stock.cancel, order_id="order-1")
        self.shop = neighbours.cancel(self.rules, self.shop, self.phase)

    def take_back(self, _: random.Random) -> None:
        self.try_to(stock.take_back, order_id="order-1", return_id="return-1", lines=[LINE], restockable=True)
        self.shop = neighbours.take_back(self.rules, self.shop, self.phase)

    def sell_to_rival(self, _: random.Random) -> None:
        name = f"rival-{len(self.rivals)}-{self.shop.rival}"
        real = self.try_to(stock.reserve, order_id=name, lines=[LINE], user_id=None, expires_in=TTL)
        shop = neighbours.sell_to_rival(self.shop, self.phase)
        assert (shop is None) == (real == neighbours.SHORT)
        if shop is not None:
            self.try_to(stock.confirm, order_id=name, reservation_id=real.reservation_id)
            self.shop = shop
            self.rivals.append(name)

    def take_back_from_rival(self, _: random.Random) -> None:
        sold = [name for name in self.rivals if name]
        shop = neighbours.take_back_from_rival(self.shop)
        assert (shop is None) == (not sold)
        if shop is not None:
            self.try_to(stock.cancel, order_id=sold[-1])
            self.shop = shop
            self.rivals[self.rivals.index(sold[-1])] = ""

    def sweep(self, _: random.Random) -> None:
        self.try_to(stock.expire)
        self.shop = neighbours.expire(self.shop, self.phase)

    def wait(self, _: random.Random) -> None:
        self.phase += 1

    def _ttl(self) -> timedelta:
        """So long that the hold ends with a phase, as all holds of the model do."""
        return time_of((self.phase + 1) // 2 * 2 + 2) - self.now

    def agree(self) -> None:
        """Columns, holds and what can be bought are the same on both sides."""
        row = self.connection.execute(select(shop_tables.stock)).one()
        assert (row.on_hand, row.reserved) == (self.shop.on_hand, self.shop.reserved)
        columns = shop_tables.reservations.c
        found = dict(self.connection.execute(select(columns.reservation_id, columns.state)).all())
        assert [found[name] for name in self.ids] == [reservation.state for reservation in self.shop.reservations]
        ((_, quantity),) = queries.availability(self.connection, [LINE], self.now)
        assert (quantity >= 1) == neighbours.is_available(self.shop, self.phase)
        self._movements_agree()

    def _movements_agree(self) -> None:
        ledger = shop_tables.ledger.c
        moves = select(ledger.kind, func.count()).where(ledger.order_id == "order-1").group_by(ledger.kind)
        counted = dict(self.connection.execute(moves).all())
        reservations = self.shop.reservations
        assert counted.get(shop_tables.DEDUCT, 0) == sum(reservation.deductions for reservation in reservations)
        assert counted.get(shop_tables.RESTOCK_RETURN, 0) == sum(reservation.returned for reservation in reservations)


SHOP_STEPS = (
    *("reserve",) * 4,
    *("confirm",) * 3,
    *("wait",) * 3,
    *("sell_to_rival", "take_back_from_rival", "sweep", "take_back", "release", "cancel"),
)


@pytest.mark.parametrize("seed", range(SEQUENCES))
def test_the_small_shop_is_the_reference_inventory_service(seed):
    chance = random.Random(seed)
    with connected(shop_tables.metadata) as connection:
        both = BothShops(connection)
        for _ in range(STEPS):
            getattr(both, chance.choice(SHOP_STEPS))(chance)
            both.agree()


# ---------------------------------------------------------- the payment gateway


@pytest.mark.parametrize("declines", [False, True])
@pytest.mark.parametrize("calls", ["cc", "rc", "crc", "crr", "r", "crcr"])
def test_the_small_till_is_the_reference_payment_gateway(calls, declines):
    metadata = {"sandboxPayment": "decline"} if declines else {}
    till = Till()
    with connected(payment_gateway.metadata) as connection:
        for call in calls:
            if call == "c":
                row, _ = payment_gateway.capture(connection, "order-1", "user-1", metadata, START)
                till, answer = neighbours.charge(till, declines=declines)
            else:
                row = payment_gateway.refund(connection, "order-1", START)
                till, answer = neighbours.refund(till)
            assert (row.state if row else neighbours.NOTHING) == answer == till.state


# -------------------------------------------------------------- the tables


class BothTables:
    """The real functions of ``state`` over a database and those of Tables over a value, asked the same."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.small = Tables(Rows(new_order()), RowRules())
        orders.add(connection, self.small.order, "hash")
        self.seen_orders: list[Order] = [self.small.order]
        self.seen_jobs: list[Release] = []
        self.seen_cases: list[Review] = []
        self.names: dict[str, str] = {}

    def save(self, chance: random.Random) -> None:
        seen = chance.choice(self.seen_orders)
        values = {"attempts": chance.randrange(3), "due_at": chance.choice([None, SOON, LATER])}
        ends = [
            _attempt(orders.save, self.connection, seen, values),
            _attempt(Tables.save_order, self.small, seen, values),
        ]
        assert ends[0] == ends[1]

    def claim(self, _: random.Random) -> None:
        claimed = orders.claim_due(self.connection, START, LATER, 8)
        if self.small.order.due_at is not None and self.small.order.due_at <= START:
            assert [_key(order) for order in claimed] == [_key(self.small.claim_order())]
        else:
            assert claimed == []

    def start_job(self, _: random.Random) -> None:
        releases.start(self.connection, "order-1", "", SOON)
        self.small.start_job("order-1", "", SOON)

    def claim_job(self, _: random.Random) -> None:
        claimed = releases.claim_due(self.connection, START, LATER, 8)
        job = self.small.job
        is_due = job is not None and job.state == ReleaseState.PENDING and job.next_attempt_at == SOON
        assert [job.version for job in claimed] == ([self.small.claim_job().version] if is_due else [])

    def settle_job(self, chance: random.Random) -> None:
        if self.seen_jobs:
            seen = chance.choice(self.seen_jobs)
            state = chance.choice([ReleaseState.DONE, ReleaseState.FAILED, ReleaseState.PENDING])
            values = {"state": state, "next_attempt_at": SOON if state == ReleaseState.PENDING else None, "attempts": 1}
            real = releases.settle(self.connection, seen, START, **values)
            assert real == self.small.settle_job(seen, START, **values)

    def open_case(self, chance: random.Random) -> None:
        reason, name = chance.choice(["A", "B"]), f"case-{chance.random()}"
        real = reviews.open_case(self.connection, name, "order-1", reason, "", START)
        assert real == self.small.open_case(name, "order-1", reason, "", START)
        if real:
            self.names[name] = f"{reason}/{self.small.last_serial}"

    def close_cases(self, chance: random.Random) -> None:
        reasons = chance.choice([("A",), ("A", "B")])
        named = {"by": "system", "resolution": "SETTLED", "at": START}
        real = reviews.close_cases(self.connection, "order-1", reasons, **named)
        assert sorted(real) == sorted(self.small.close_cases("order-1", reasons, **named))

    def resolve_case(self, chance: random.Random) -> None:
        named = {"by": "ada", "resolution": "APPROVE", "note": "", "at": START}
        self._on_a_case(chance, lambda case: reviews.resolve(self.connection, case, **named), self.small.resolve_case)

    def touch_case(self, chance: random.Random) -> None:
        self._on_a_case(
            chance, lambda case: reviews.touch(self.connection, case, by="ada", at=START), self.small.touch_case
        )

    def remember_event(self, chance: random.Random) -> None:
        name = chance.choice(["e-1", "e-2", "e-3"])
        known = select(func.count()).select_from(tables.inbox).where(tables.inbox.c.event_id == name)
        self.small.was_handled = bool(self.connection.scalar(known))
        real = deduplication.add(self.connection, name, "x", "order-1", START)
        assert real == self.small.remember_event(name, "x", "order-1", START)

    def _on_a_case(
        self, chance: random.Random, real: Callable[[Review], bool], small: Callable[[Review], bool]
    ) -> None:
        if self.seen_cases:
            seen = chance.choice(self.seen_cases)
            there = Review(self.names[seen.review_id], "order-1", seen.reason, "OPEN", "", START, seen.version)
            assert real(seen) == small(there)

    def agree(self) -> None:
        """The rows are the same on both sides; they are remembered, as runs do."""
        order = orders.get(self.connection, "order-1")
        assert _key(order) == _key(self.small.order)
        self.seen_orders.append(self.small.order)
        job = releases.get(self.connection, "order-1")
        assert _job_key(job) == _job_key(self.small.job)
        self.seen_jobs += [job] if job else []
        open_now = [case for case in reviews.page(self.connection) if case.state == "OPEN"]
        there = sorted((case.reason, case.version) for case in self.small.cases.values())
        assert sorted((case.reason, case.version) for case in open_now) == there
        self.seen_cases += open_now


def _attempt(save: Callable[..., Order], connection: Any, order: Order, values: dict[str, Any]) -> Any:
    with suppress(StaleOrder):
        return _key(save(connection, order, values, START))
    return "stale"


def _key(order: Order | None) -> Any:
    return order and (order.version, order.attempts, order.due_at)


def _job_key(job: Release | None) -> Any:
    return job and (job.state, job.attempts, job.next_attempt_at, job.version)


TABLE_STEPS = (
    *("save",) * 3,
    *("claim", "start_job", "claim_job", "settle_job", "open_case", "close_cases", "resolve_case", "touch_case"),
    "remember_event",
)


@pytest.mark.parametrize("seed", range(SEQUENCES))
def test_the_small_tables_are_the_real_ones(seed):
    chance = random.Random(seed)
    with connected(tables.metadata) as connection:
        both = BothTables(connection)
        for _ in range(STEPS):
            getattr(both, chance.choice(TABLE_STEPS))(chance)
            both.agree()
