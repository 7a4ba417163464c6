"""Events that cannot be handled now wait in the database, and hold nothing up. Against a real NATS server."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.domain.orders.events import CONFIRMED
from services.domain.orders.model import OrderStatus
from services.messaging.consumer import Delivery
from services.messaging.durable_consumer import MAX_UNSETTLED
from services.messaging.envelope import PoisonEvent
from services.messaging.jetstream import ensure_streams
from services.messaging.parked_events import ATTEMPTS, WAIT_FOR_ORDER
from tests.support.consumers import STREAM, ParkingWorld, delivery
from tests.support.nats_server import eventually


@pytest.fixture
def world(shop):
    return ParkingWorld(shop)


async def publish(connection, deliveries):
    for one in deliveries:
        await connection.js.publish(CONFIRMED, one.payload)


async def test_events_of_a_thousand_unknown_orders_delay_none_of_our_own(world, connection):
    await ensure_streams(connection.js)
    order = await world.shop.place()
    foreign = [delivery(f"theirs-{number}") for number in range(MAX_UNSETTLED + 100)]
    await publish(connection, [*foreign, delivery(order.order_id)])
    async with world.consuming(connection):
        await eventually(lambda: (order.order_id, "handled") in world.ends)
        await eventually(lambda: _is_settled(connection))
    # Every event was handled at its first delivery: nothing was handed back to wait in the stream.
    assert len(world.ends) == len(foreign) + 1
    assert await world.parked() == len(foreign)
    assert (await world.shop.order(order.order_id)).status == OrderStatus.CONFIRMED


async def test_a_thousand_events_whose_handler_fails_delay_none_either(world, connection):
    await ensure_streams(connection.js)
    order = await world.shop.place()
    world.fails = lambda event: event.data["orderId"].startswith("bad")
    bad = [delivery(f"bad-{number}") for number in range(MAX_UNSETTLED + 100)]
    await publish(connection, [*bad, delivery(order.order_id)])
    async with world.consuming(connection):
        await eventually(lambda: (order.order_id, "handled") in world.ends)
        await eventually(lambda: _is_settled(connection))
    assert await world.parked() == len(bad)


async def _is_settled(connection):
    info = await connection.js.consumer_info(STREAM, "order-service")
    return not info.num_ack_pending and not info.num_pending


async def test_a_parked_event_takes_effect_once_its_order_is_placed(world):
    await world.apply(delivery())
    await world.parking.run_round()
    assert await world.parked() == 1
    order = await world.shop.place(order_id="later")
    assert world.parking.order_moved(order.order_id)
    await world.parking.run_round()
    assert (await world.shop.order("later")).status == OrderStatus.CONFIRMED
    assert (await world.parked(), world.ends[-1]) == (0, (CONFIRMED, "handled"))


async def test_an_order_that_another_replica_placed_is_found_by_looking(world):
    await world.apply(delivery())
    await world.shop.place(order_id="later")
    world.shop.clock.advance(6)
    await world.parking.run_round()
    assert (await world.shop.order("later")).status == OrderStatus.CONFIRMED


async def test_an_event_whose_order_never_comes_is_a_dead_letter_in_the_end(world):
    await world.apply(delivery())
    world.shop.clock.advance(WAIT_FOR_ORDER.total_seconds() - 1)
    await world.parking.run_round()
    assert await world.dead_letters() == []
    world.shop.clock.advance(2)
    await world.parking.run_round()
    (dead_letter,) = await world.dead_letters()
    assert (dead_letter.reason, dead_letter.incarnation) == (
        "UnknownOrder: order later is not known",
        "2026-01-01T00:00:00+00:00",
    )
    assert await world.parked() == 0


async def test_a_handler_that_always_fails_ends_in_the_dead_letters_and_keeps_no_neighbour(world):
    world.fails = lambda event: event.data["orderId"] == "bad"
    order = await world.shop.place()
    assert await world.parking.set_aside(delivery("bad", seq=1), "RuntimeError: no luck")
    assert await world.parking.set_aside(delivery(order.order_id, seq=2), "RuntimeError: no luck")
    for _ in range(ATTEMPTS):
        world.shop.clock.advance(60)
        await world.parking.run_round()
    (dead_letter,) = await world.dead_letters()
    assert (dead_letter.reason, dead_letter.attempts, dead_letter.order_id) == (
        "RuntimeError: no luck",
        ATTEMPTS,
        "bad",
    )
    assert (await world.shop.order(order.order_id)).status == OrderStatus.CONFIRMED
    assert await world.parked() == 0


async def test_a_failed_event_of_an_unknown_order_waits_for_its_order(world):
    assert await world.parking.set_aside(delivery(), "TimeoutError: the database was away")
    world.shop.clock.advance(60)
    await world.parking.run_round()
    await world.shop.place(order_id="later")
    world.shop.clock.advance(60)
    await world.parking.run_round()
    assert (await world.shop.order("later")).status == OrderStatus.CONFIRMED


async def test_a_delivery_that_comes_again_is_parked_once_and_one_of_another_stream_beside_it(world):
    first = delivery()
    await world.apply(first)
    await world.apply(first)
    await world.apply(Delivery(CONFIRMED, first.payload, {}, STREAM, 1, 1, False, "2026-01-02T00:00:00+00:00"))
    assert await world.parked() == 2


async def test_a_full_table_and_a_large_event_go_to_the_dead_letters_at_once(shop):
    world = ParkingWorld(shop, limit=2)
    with pytest.raises(PoisonEvent, match="is not known"):
        await world.apply(delivery(note="x" * 70_000))
    for seq in (1, 2):
        await world.apply(delivery(seq=seq))
    with pytest.raises(PoisonEvent, match="too much waits"):
        await world.apply(delivery(seq=3))
    assert await world.parking.set_aside(delivery(seq=4), "x") is False


async def test_the_hour_of_an_event_begins_when_it_came(world):
    await world.parking.set_aside(delivery(), "x")
    assert timedelta(hours=1) == WAIT_FOR_ORDER
    world.shop.clock.advance(3601)
    await world.parking.run_round()
    assert [dead_letter.order_id for dead_letter in await world.dead_letters()] == ["later"]
