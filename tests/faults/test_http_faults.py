"""The Inventory Service at the end of a bad line: what each fault is taken for, and what becomes of the order.

The service is the reference one in its own process. Whatever happens on the way, an order ends with
one hold or with none, and nobody is charged without one. Source: contract 4; docs/adr/0002 and 5.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from itertools import cycle
from typing import Any

import pytest

from services.base.identity import new_id
from services.clients.http.transport import AiohttpTransport
from services.clients.inventory.port import Availability, InventoryGateway, Reservation
from services.domain.calls import SUCCESS, TIMEOUT, UNAVAILABLE, Attempt, Attempted, InventoryCall
from services.domain.errors import InventoryTimeout, InventoryUnavailable
from services.domain.orders.model import Line, Order
from services.sandbox.inventory_service.catalogue import CATALOGUE
from tests.faults.processes import Service
from tests.faults.proxy import TcpProxy
from tests.faults.shop import ATTEMPTS, MUG, TIMEOUT_SECONDS, Shop, gateway_at, shelf, states
from tests.support.attempts import noted
from tests.support.fakes import CAPTURE
from tests.support.nats_server import eventually

pytestmark = [pytest.mark.slow, pytest.mark.alone]

PATIENCE_SECONDS = 0.3
"""How much later than its timeout a call may end on a busy machine."""

HEARD = 3
"""Rounds of the loop after which the reset of an idle connection has been noticed."""

SCARCE = Line(CATALOGUE[5].product_id, CATALOGUE[5].variant_id, 1)

Fault = Callable[[TcpProxy], AbstractContextManager[None]]

FAULTS: dict[str, tuple[Fault, type[Exception], bool]] = {
    # The fault, what it is taken for, and whether the call may have run.
    "refused": (lambda proxy: proxy.refusing(), InventoryUnavailable, False),
    "cut in the answer": (lambda proxy: proxy.cutting_answers(30), InventoryUnavailable, True),
    "cut before the answer": (lambda proxy: proxy.cutting_answers(0), InventoryUnavailable, True),
    "stalled": (lambda proxy: proxy.stalled(), InventoryTimeout, True),
    "too slow": (lambda proxy: proxy.slow(3 * TIMEOUT_SECONDS), InventoryTimeout, True),
    "answer lost": (lambda proxy: proxy.losing("answers"), InventoryTimeout, True),
    "dripping": (lambda proxy: proxy.dripping(8, 0.1), InventoryTimeout, True),
}
EXECUTED = ("cut in the answer", "cut before the answer", "too slow", "answer lost", "dripping")
"""After these the service did what it was asked before anybody gave up."""

each_fault = pytest.mark.parametrize("fault", FAULTS)
each_kind = pytest.mark.parametrize("fault", ["refused", "cut in the answer", "stalled", "answer lost"])
"""Not sent; executed and heard of at once; late; executed and never heard of."""


class Struck:
    """InventoryGateway whose next calls of an operation are struck on the way, one after another."""

    def __init__(self, gateway: InventoryGateway, proxy: TcpProxy) -> None:
        self._gateway = gateway
        self._proxy = proxy
        self._faults: dict[str, deque[str]] = defaultdict(deque)

    def calm(self) -> None:
        """Forget the faults that have not struck yet."""
        self._faults.clear()

    def strike(self, operation: str, fault: str, times: int = ATTEMPTS) -> None:
        self._faults[operation].extend([fault] * times)

    @asynccontextmanager
    async def _next(self, operation: str) -> AsyncIterator[None]:
        faults = self._faults[operation]
        with FAULTS[faults.popleft()][0](self._proxy) if faults else nullcontext():
            for _ in range(HEARD):
                await asyncio.sleep(0)
            yield

    async def check_availability(self, lines: tuple[Line, ...]) -> Attempted[Availability]:
        async with self._next(InventoryCall.CHECK_AVAILABILITY):
            return await self._gateway.check_availability(lines)

    async def reserve(self, order_id: str, lines: tuple[Line, ...], user_id: str) -> Attempted[Reservation]:
        async with self._next(InventoryCall.RESERVE):
            return await self._gateway.reserve(order_id, lines, user_id)

    async def release(self, order_id: str) -> Attempted[bool]:
        async with self._next(InventoryCall.RELEASE):
            return await self._gateway.release(order_id)


@pytest.fixture
def struck(inventory_proxy: TcpProxy, transport: AiohttpTransport) -> Struck:
    return Struck(gateway_at(inventory_proxy.port, transport), inventory_proxy)


@pytest.fixture
async def shop(sqlite_url: str, struck: Struck) -> AsyncIterator[Shop]:
    shop = Shop(sqlite_url, struck)
    yield shop
    shop.close()


async def place(shop: Shop, **given: Any) -> Order:
    return await shop.place(**{"order_id": new_id(), "lines": (MUG,), **given})


async def call(gateway: InventoryGateway, operation: str, order_id: str) -> Attempted[Any]:
    match operation:
        case "check_availability":
            return await gateway.check_availability((MUG,))
        case "reserve":
            return await gateway.reserve(order_id, (MUG,), "user-1")
        case _:
            return await gateway.release(order_id)


# ------------------------------------------------------------- what a fault is taken for


@each_fault
@pytest.mark.parametrize("operation", [InventoryCall.CHECK_AVAILABILITY, InventoryCall.RESERVE, InventoryCall.RELEASE])
async def test_a_fault_is_taken_for_what_it_is_and_in_time(
    struck: Struck, inventory: Service, operation: str, fault: str
) -> None:
    _, error_type, may_have_run = FAULTS[fault]
    order_id, attempts = new_id(), list[Attempt]()
    await call(struck, InventoryCall.CHECK_AVAILABILITY, order_id)
    struck.strike(operation, fault, times=1)
    began = time.monotonic()
    with pytest.raises(error_type) as caught:
        await noted(call(struck, operation, order_id), attempts)
    took = time.monotonic() - began
    is_timeout = error_type is InventoryTimeout
    assert caught.value.may_have_run is may_have_run
    assert [attempt.outcome for attempt in attempts] == [TIMEOUT if is_timeout else UNAVAILABLE]
    assert (TIMEOUT_SECONDS - 0.01 if is_timeout else 0) <= took < TIMEOUT_SECONDS + PATIENCE_SECONDS
    # The next call is not hurt by what happened to the one before.
    assert await noted(call(struck, InventoryCall.CHECK_AVAILABILITY, order_id), attempts)
    assert attempts[-1].outcome == SUCCESS
    await noted(call(struck, InventoryCall.RELEASE, order_id), attempts)
    assert "ACTIVE" not in states(inventory, order_id)


async def test_an_answer_that_is_slow_but_in_time_is_an_answer(struck: Struck, inventory_proxy: TcpProxy) -> None:
    with inventory_proxy.slow(TIMEOUT_SECONDS / 8):
        assert (await noted(struck.check_availability((MUG,)), [])).available


async def test_no_address_of_the_service_is_told_to_the_customer(struck: Struck) -> None:
    struck.strike(InventoryCall.RESERVE, "refused", times=1)
    with pytest.raises(InventoryUnavailable) as caught:
        await call(struck, InventoryCall.RESERVE, new_id())
    assert "127.0.0.1" not in f"{caught.value.message} {caught.value.details}"


# ------------------------------------------------------------- what becomes of the order


@each_kind
async def test_a_check_that_fails_to_the_end_refuses_the_order_and_nothing_is_reserved(
    shop: Shop, struck: Struck, inventory: Service, fault: str
) -> None:
    struck.strike(InventoryCall.CHECK_AVAILABILITY, fault)
    order = await place(shop)
    code = "INVENTORY_TIMEOUT" if FAULTS[fault][1] is InventoryTimeout else "INVENTORY_UNAVAILABLE"
    assert (order.status, (order.failure or {})["code"]) == ("REJECTED", code)
    assert shop.payments.calls == []
    assert await shop.sent() == []
    assert states(inventory, order.order_id) == []


@each_kind
async def test_a_repeated_reservation_is_made_once(shop: Shop, struck: Struck, inventory: Service, fault: str) -> None:
    struck.strike(InventoryCall.RESERVE, fault, times=1)
    order = await place(shop)
    assert order.status == "PLACED"
    assert states(inventory, order.order_id) == ["ACTIVE"]
    assert shop.payments.count(CAPTURE) == 1
    await give_back(shop, order, inventory)


@each_kind
async def test_an_order_whose_reservation_is_unknown_waits_uncharged_and_is_placed_with_one_reservation(
    shop: Shop, struck: Struck, inventory: Service, fault: str
) -> None:
    struck.strike(InventoryCall.RESERVE, fault)
    order = await place(shop)
    assert (order.status, order.payment_status) == ("PENDING_INVENTORY", "NONE")
    assert await shop.open_reasons(order.order_id) == ["PENDING_INVENTORY"]
    assert shop.payments.calls == []
    if fault in EXECUTED:
        assert states(inventory, order.order_id) == ["ACTIVE"]
    order = await shop.sweep_when_due(order.order_id)
    assert (order.status, states(inventory, order.order_id)) == ("PLACED", ["ACTIVE"])
    assert await shop.open_reasons(order.order_id) == []
    await give_back(shop, order, inventory)


@each_kind
async def test_a_reservation_of_unknown_fate_is_given_back_when_the_order_is_cancelled(
    shop: Shop, struck: Struck, inventory: Service, fault: str
) -> None:
    struck.strike(InventoryCall.RESERVE, fault)
    order = await place(shop)
    await shop.cancel(order.order_id)
    # The release meets the same fault before it gets through.
    struck.strike(InventoryCall.RELEASE, fault)
    await shop.drain()
    order = await shop.order(order.order_id)
    assert (order.status, order.inventory_status) == ("CANCELLED", "RELEASED")
    assert "ACTIVE" not in states(inventory, order.order_id)
    assert shop.payments.calls == []


async def give_back(shop: Shop, order: Order, inventory: Service) -> None:
    """End the order, and see that its hold ends with it."""
    await shop.cancel(order.order_id)
    await shop.drain()
    assert states(inventory, order.order_id) == ["RELEASED"]


async def test_a_reservation_that_arrives_after_its_release_reserves_nothing(
    shop: Shop, struck: Struck, inventory: Service, inventory_proxy: TcpProxy, transport: AiohttpTransport
) -> None:
    order_id = new_id()
    with inventory_proxy.stalled():
        with pytest.raises(InventoryTimeout):
            await call(struck, InventoryCall.RESERVE, order_id)
        assert states(inventory, order_id) == []
        await call(gateway_at(inventory.port, transport), InventoryCall.RELEASE, order_id)
    # The line works again, and what was on its way is delivered.
    await eventually(lambda: inventory_proxy.links == 0)
    assert states(inventory, order_id) == []


async def test_a_bad_line_sells_nothing_twice_and_keeps_nothing_back(
    shop: Shop, struck: Struck, inventory: Service
) -> None:
    stock = shelf(inventory, SCARCE)
    free = stock["available"]
    delta = {"productId": SCARCE.product_id, "variantId": SCARCE.variant_id, "delta": 6 - free, "reason": "count"}
    inventory.client.post("/api/v1/inventory/stock/adjust", json=delta).raise_for_status()
    placed = []
    for number, fault in zip(range(14), cycle([*EXECUTED, "refused", "stalled"]), strict=False):
        # Every second order learns in its second attempt what the first one did, the others much later.
        struck.strike(InventoryCall.RESERVE, fault, times=1 + number % 2)
        placed.append(await place(shop, lines=(SCARCE,), customer_priority="high"))
        struck.calm()
    await shop.drain()
    ends = [(await shop.order(order.order_id)).status for order in placed]
    assert sorted(ends) == ["PLACED"] * 6 + ["REJECTED"] * 8
    assert shop.payments.count(CAPTURE) == 6
    assert shelf(inventory, SCARCE)["available"] == 0
    for order_id in [order.order_id for order, end in zip(placed, ends, strict=True) if end == "PLACED"]:
        await shop.cancel(order_id)
    await shop.drain()
    assert shelf(inventory, SCARCE)["available"] == 6
