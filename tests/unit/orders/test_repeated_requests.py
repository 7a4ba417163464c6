"""A request that comes twice takes effect once. Source: contract 3, Idempotency-Key."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.domain.errors import IdempotencyKeyReused
from services.domain.orders.model import Line
from services.orders.placement import MAX_IN_FLIGHT, Overloaded, PlaceOrder
from state import releases
from tests.support.fakes import Fault
from tests.support.orders_harness import LINES

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


async def test_more_orders_in_flight_than_can_be_handled_are_refused_with_a_retry_time(shop):
    answers = await asyncio.gather(
        *(shop.place(order_id=f"o-{n}") for n in range(MAX_IN_FLIGHT + 5)), return_exceptions=True
    )
    refused = [answer for answer in answers if isinstance(answer, Overloaded)]
    assert len(refused) == 5
    assert len(await shop.real_database.read(lambda c: list(_ids(c)))) == MAX_IN_FLIGHT


PASSING = [Fault.UNAVAILABLE, Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER, Fault.CIRCUIT_OPEN, Fault.BUSY]


@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.parametrize("name", [{"idempotency_key": "k"}, {"order_id": "mine"}], ids=["key", "order id"])
async def test_a_passing_refusal_is_tried_again_as_the_same_order(shop, fault, name):
    shop.inventory.fail(CHECK, fault)
    refused = await shop.place(**name)
    assert (refused.status, refused.failure["retryable"]) == ("REJECTED", True)
    again = await shop.place(**name)
    assert (again.order_id, again.status, again.failure) == (refused.order_id, "PLACED", None)
    assert await shop.place(**name) == again
    assert shop.called[-3:] == [CHECK, RESERVE, CAPTURE]
    assert shop.called.count(CAPTURE) == 1
    assert [order.order_id for order in await shop.all_orders()] == [refused.order_id]
    assert "Requested again: a new try" in await shop.titles(refused.order_id)


async def test_a_refused_order_is_refused_again_while_the_reason_lasts(shop):
    for _ in range(3):
        shop.inventory.fail(CHECK, Fault.UNAVAILABLE)
        assert (await shop.place(idempotency_key="k")).status == "REJECTED"
    assert (await shop.place(idempotency_key="k")).status == "PLACED"
    assert shop.called == [CHECK] * 4 + [RESERVE, CAPTURE]


async def test_repeats_at_once_after_a_passing_refusal_are_one_new_try(shop):
    shop.inventory.fail(CHECK, Fault.UNAVAILABLE)
    await shop.place(idempotency_key="k")
    answers = await asyncio.gather(*(shop.place(idempotency_key="k") for _ in range(20)))
    assert {(order.order_id, order.status) for order in answers} == {(answers[0].order_id, "PLACED")}
    assert shop.called == [CHECK, CHECK, RESERVE, CAPTURE]


async def test_two_replicas_asked_at_once_make_one_new_try_and_both_answer_with_its_end(shop):
    shop.inventory.fail(CHECK, Fault.UNAVAILABLE)
    await shop.place(idempotency_key="k")
    here = shop.placement
    shop.start()
    answers = await asyncio.gather(here.place(_command()), shop.placement.place(_command()))
    assert {order.status for order in answers} == {"PLACED"}
    assert shop.called == [CHECK, CHECK, RESERVE, CAPTURE]


async def test_a_request_that_runs_on_another_replica_is_waited_for(shop):
    here, second = shop.placement, []

    async def ask_there() -> None:
        shop.start()
        second.append(asyncio.create_task(shop.placement.place(_command())))
        await shop.all_orders()

    shop.inventory.hooks.before(RESERVE, ask_there)
    first = await here.place(_command())
    assert (await second[0], first.status) == (first, "PLACED")
    assert shop.called == [CHECK, RESERVE, CAPTURE]


@pytest.mark.parametrize(("operation", "fault"), [(RESERVE, Fault.CONFLICT), (RESERVE, Fault.REFUSED)])
async def test_a_final_refusal_is_repeated(shop, operation, fault):
    shop.inventory.fail(operation, fault)
    refused = await shop.place(idempotency_key="k")
    calls = list(shop.called)
    assert await shop.place(idempotency_key="k") == refused
    assert shop.called == calls


async def test_an_order_with_a_release_job_is_not_tried_again(shop):
    """Its id is fenced off at the Inventory Service: a reservation under it would be refused for good."""
    shop.inventory.fail(CHECK, Fault.UNAVAILABLE)
    refused = await shop.place(idempotency_key="k")
    await shop.real_database.write(lambda c: releases.start(c, refused.order_id, "by hand", shop.clock()))
    assert await shop.place(idempotency_key="k") == refused
    assert shop.called == [CHECK]


async def test_a_crash_in_the_new_try_is_settled_like_any_other(shop):
    shop.inventory.fail(CHECK, Fault.UNAVAILABLE)
    refused = await shop.place(idempotency_key="k")
    await shop.crash(1, lambda: shop.place(idempotency_key="k"), after=True)
    shop.start()
    order = await shop.sweep_when_due(refused.order_id)
    assert order.status == "PLACED"
    assert await shop.place(idempotency_key="k") == order


async def test_two_callers_may_use_the_same_key(shop):
    ours, theirs = await shop.place(idempotency_key="1001", caller="a"), None
    theirs = await shop.place(idempotency_key="1001", caller="b", user_id="user-2")
    assert ours.order_id != theirs.order_id
    assert await shop.place(idempotency_key="1001", caller="b", user_id="user-2") == theirs


def _command() -> PlaceOrder:
    return PlaceOrder("user-1", LINES, idempotency_key="k")


def _ids(connection: Any) -> Any:
    from sqlalchemy import select

    from state.tables import orders

    return connection.scalars(select(orders.c.order_id))
