"""A request that comes twice takes effect once. Source: contract section 3, Idempotency-Key."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.domain.errors import IdempotencyKeyReused
from services.domain.order import Line
from services.orders.place import MAX_IN_FLIGHT, Overloaded
from tests.orders_harness import LINES

CHECK, RESERVE, CAPTURE = "check_availability", "reserve", "capture"

OTHER_BODIES: list[dict[str, Any]] = [
    {"user_id": "user-2"},
    {"lines": (Line("chair", "oak", 3),)},
    {"lines": LINES[:1]},
    {"customer_priority": "high"},
    {"metadata": {"channel": "web"}},
]


@pytest.mark.parametrize("other", OTHER_BODIES, ids=str)
async def test_a_key_with_another_body_is_refused_and_nothing_happens(shop, other):
    await shop.place(idempotency_key="k")
    before, calls, told = await shop.everything(), list(shop.called), len(shop.recorded)
    with pytest.raises(IdempotencyKeyReused) as caught:
        await shop.place(idempotency_key="k", **other)
    assert caught.value.details == {"idempotencyKey": "k"}
    assert (await shop.everything(), shop.called, len(shop.recorded)) == (before, calls, told)


@pytest.mark.parametrize("other", OTHER_BODIES, ids=str)
async def test_an_order_id_with_another_body_is_refused_and_nothing_happens(shop, other):
    await shop.place(order_id="mine")
    before, calls = await shop.everything(), list(shop.called)
    with pytest.raises(IdempotencyKeyReused) as caught:
        await shop.place(order_id="mine", **other)
    assert caught.value.details == {"orderId": "mine"}
    assert (await shop.everything(), shop.called) == (before, calls)


async def test_an_order_id_with_the_same_body_repeats_the_answer(shop):
    first = await shop.place(order_id="mine")
    assert await shop.place(order_id="mine") == first
    assert shop.called == [CHECK, RESERVE, CAPTURE]


async def test_a_key_that_belongs_to_another_order_id_is_refused(shop):
    await shop.place(order_id="mine", idempotency_key="k")
    with pytest.raises(IdempotencyKeyReused):
        await shop.place(order_id="yours", idempotency_key="k")
    assert [order.order_id for order in await shop.all_orders()] == ["mine"]


async def test_a_repeated_request_may_leave_out_the_order_id_it_was_given(shop):
    first = await shop.place(order_id="mine", idempotency_key="k")
    assert await shop.place(idempotency_key="k") == first


async def test_different_keys_make_different_orders(shop):
    first, second = await shop.place(idempotency_key="a"), await shop.place(idempotency_key="b")
    assert first.order_id != second.order_id


async def test_a_second_request_in_flight_waits_for_the_first_and_gets_its_answer(shop):
    second: list[asyncio.Task[Any]] = []

    async def ask_again() -> None:
        second.append(asyncio.create_task(shop.place(idempotency_key="k")))
        await shop.all_orders()

    shop.inventory.hooks.before(RESERVE, ask_again)
    first = await shop.place(idempotency_key="k")
    assert await second[0] == first
    assert first.status == "PLACED"
    assert shop.called == [CHECK, RESERVE, CAPTURE]


async def test_many_requests_at_once_with_one_key_make_one_order(shop):
    answers = await asyncio.gather(*(shop.place(idempotency_key="k") for _ in range(20)))
    assert {order.order_id for order in answers} == {answers[0].order_id}
    assert {order.status for order in answers} == {"PLACED"}
    assert shop.called == [CHECK, RESERVE, CAPTURE]


async def test_an_order_goes_on_when_the_client_hangs_up(shop):
    reached = asyncio.Event()
    go_on = asyncio.Event()

    async def wait() -> None:
        reached.set()
        await go_on.wait()

    shop.inventory.hooks.before(RESERVE, wait)
    request = asyncio.create_task(shop.place(order_id="mine"))
    await reached.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    go_on.set()
    await shop.placement.drain(5)
    assert (await shop.order("mine")).status == "PLACED"


async def test_draining_with_nothing_in_flight_returns_at_once(shop):
    async with asyncio.timeout(5):
        await shop.placement.drain(3600)


async def test_more_orders_in_flight_than_can_be_handled_are_told_to_come_back(shop):
    answers = await asyncio.gather(
        *(shop.place(order_id=f"o-{n}") for n in range(MAX_IN_FLIGHT + 5)), return_exceptions=True
    )
    refused = [answer for answer in answers if isinstance(answer, Overloaded)]
    assert len(refused) == 5
    assert len(await shop.real_database.read(lambda c: list(_ids(c)))) == MAX_IN_FLIGHT


def _ids(connection: Any) -> Any:
    from sqlalchemy import select

    from state.tables import orders

    return connection.scalars(select(orders.c.order_id))
