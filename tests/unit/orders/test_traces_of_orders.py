"""An order keeps the trace that it was placed in, and whatever happens to it later goes on with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import pytest
from sqlalchemy import select

from services.base.context import continuing, current_traceparent
from services.domain.calls import SHORT_CIRCUITED, SUCCESS, Attempt, InventoryCall
from services.domain.orders.model import Order
from services.orders.placement import PlaceOrder
from services.runtime.clients import AttemptObserver
from state import orders, tables
from tests.support.fakes import Fault
from tests.support.orders_harness import LINES, OrdersHarness

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PLACED_IN = f"00-{TRACE}-00f067aa0ba902b7-01"
OTHER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def traceparents(shop: OrdersHarness, order: Order) -> dict[str, str | None]:
    """Of the order's events in the outbox, by type."""
    table = tables.outbox
    statement = select(table.c.subject, table.c.traceparent).where(table.c.order_id == order.order_id)
    return dict(await shop.real_database.read(lambda c: c.execute(statement).all()))


async def place_traced(shop: OrdersHarness, **given: Any) -> Order:
    with continuing(PLACED_IN):
        return await shop.place(**given)


@contextmanager
def noting_the_trace(shop: OrdersHarness) -> Iterator[list[tuple[str, str | None]]]:
    """In whose trace other services were called."""
    seen: list[tuple[str, str | None]] = []
    for target, name in ((shop.inventory, "reserve"), (shop.inventory, "release"), (shop.payments, "capture")):
        called = getattr(target, name)

        async def noted(*args: Any, _called: Any = called, _name: str = name, **more: Any) -> Any:
            seen.append((_name, current_traceparent()))
            return await _called(*args, **more)

        setattr(target, name, noted)
    yield seen


async def test_an_order_keeps_its_traceparent_and_its_events_carry_it(shop: OrdersHarness) -> None:
    order = await place_traced(shop)
    assert order.traceparent == PLACED_IN
    assert (await shop.order(order.order_id)).traceparent == PLACED_IN
    assert await shop.real_database.read(lambda c: orders.traceparent(c, order.order_id)) == PLACED_IN
    assert await traceparents(shop, order) == {
        "order.created": PLACED_IN,
        "inventory.confirm_requested": PLACED_IN,
    }
    received = (await shop.timeline(order.order_id))[0]
    assert (received.title, received.details["traceId"]) == ("Order received", TRACE)


async def test_an_order_outside_of_any_trace_implies_nothing_of_one(shop: OrdersHarness) -> None:
    order = await shop.place()
    assert order.traceparent is None
    assert set((await traceparents(shop, order)).values()) == {None}
    assert "traceId" not in (await shop.timeline(order.order_id))[0].details
    assert await shop.real_database.read(lambda c: orders.traceparent(c, "no-such-order")) is None


async def test_what_nobody_traces_later_goes_on_with_the_orders_trace(shop: OrdersHarness) -> None:
    order = await place_traced(shop)
    await shop.cancel(order.order_id)
    assert (await traceparents(shop, order))["order.cancelled"] == PLACED_IN


async def test_a_later_request_with_a_trace_of_its_own_stays_in_it(shop: OrdersHarness) -> None:
    order = await place_traced(shop)
    with continuing(OTHER):
        await shop.cancel(order.order_id)
    assert (await traceparents(shop, order))["order.cancelled"] == OTHER
    assert (await shop.order(order.order_id)).traceparent == PLACED_IN


async def test_delayed_retries_and_releases_go_on_with_the_orders_trace(shop: OrdersHarness) -> None:
    shop.inventory.fail("reserve", Fault.UNAVAILABLE)
    waiting = await place_traced(shop, customer_priority="high")
    with noting_the_trace(shop) as seen:
        placed = await shop.sweep_when_due(waiting.order_id)
        assert placed.status == "PLACED"
        assert seen == [("reserve", PLACED_IN), ("capture", PLACED_IN)]
        assert current_traceparent() is None
        assert set((await traceparents(shop, placed)).values()) == {PLACED_IN}
        await shop.cancel(placed.order_id)
        await shop.releases.run_due()
        assert seen[2:] == [("release", PLACED_IN)]


async def test_a_persons_retry_goes_on_with_the_orders_trace(shop: OrdersHarness) -> None:
    shop.inventory.fail("reserve", Fault.UNAVAILABLE)
    waiting = await place_traced(shop, customer_priority="high")
    case = await shop.open_case(waiting.order_id, "PENDING_INVENTORY")
    with noting_the_trace(shop) as seen:
        await shop.resolve(case, "RETRY_RESERVATION")
    assert seen == [("reserve", PLACED_IN), ("capture", PLACED_IN)]


class Told:
    def __init__(self) -> None:
        self.facts: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *facts: self.facts.append((name, *facts))


async def test_every_transition_is_added_to_the_present_span(shop: OrdersHarness) -> None:
    told = Told()
    shop.context = replace(shop.context, tracer=cast("Any", told))
    order = await shop.placement_over(shop.context).place(PlaceOrder(user_id="user-1", lines=LINES))
    assert [fact for fact in told.facts if fact[0] == "became"] == [
        ("became", order.order_id, recorded.became) for recorded in shop.recorded
    ]


@pytest.mark.parametrize("outcome", [SUCCESS, SHORT_CIRCUITED])
def test_a_short_circuit_is_added_to_the_present_span_and_every_attempt_is_counted(
    shop: OrdersHarness, outcome: str
) -> None:
    told, metrics = Told(), Told()
    attempt = Attempt(shop.clock(), InventoryCall.RESERVE, outcome, 0.0, details={"error": "open for 3 s"})
    AttemptObserver(cast("Any", metrics), cast("Any", told))(attempt)
    assert metrics.facts == [("attempt", attempt)]
    expected = [("short_circuited", InventoryCall.RESERVE, "open for 3 s")]
    assert told.facts == (expected if outcome == SHORT_CIRCUITED else [])
