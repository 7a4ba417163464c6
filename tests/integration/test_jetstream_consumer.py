"""Handling, retrying and dead-lettering messages, against a real server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from nats.aio.msg import Msg

from services.domain.orders.events import CONFIRMED, LOW_STOCK
from services.messaging.consumer import Delivery, PullConsumer
from services.messaging.durable_consumer import ConsumerSettings
from services.messaging.envelope import PoisonEvent
from services.messaging.jetstream import Connection, ensure_streams
from tests.support.consumers import DURABLE, STREAM, Desk, Handlers, consuming, fail
from tests.support.nats_connection import connect
from tests.support.nats_server import NatsServer, eventually


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def unsettled(connection: Connection) -> int:
    info = await connection.js.consumer_info(STREAM, DURABLE)
    return (info.num_ack_pending or 0) + (info.num_pending or 0)


def poison(*_: Any) -> None:
    raise PoisonEvent("field orderId: missing")


@pytest.mark.usefixtures("streams")
async def test_a_handled_message_is_acknowledged_and_seen_once(connection: Connection, desk: Desk) -> None:
    await connection.js.publish(CONFIRMED, b"one", headers={"Nats-Msg-Id": "e-1"})
    async with consuming(connection, desk):
        await eventually(lambda: desk.outcomes[CONFIRMED, "handled"] == 1)
        await eventually(lambda: _is_unsettled(connection, 0))
    (delivery,) = desk.deliveries
    assert (delivery.subject, delivery.payload, delivery.headers) == (CONFIRMED, b"one", {"Nats-Msg-Id": "e-1"})
    assert (delivery.stream, delivery.stream_seq, delivery.num_delivered) == (STREAM, 1, 1)
    assert not delivery.is_last_attempt


@pytest.mark.usefixtures("streams")
async def test_only_the_wanted_subjects_arrive_on_a_durable_that_is_brought_up_to_date(
    connection: Connection, desk: Desk
) -> None:
    async with consuming(connection, desk, subjects=[LOW_STOCK], ack_wait_seconds=5):
        await connection.js.publish(LOW_STOCK, b"low")
        await eventually(lambda: desk.payloads == [b"low"])
    async with consuming(connection, desk, subjects=[CONFIRMED]):
        await connection.js.publish(LOW_STOCK, b"low")
        await connection.js.publish(CONFIRMED, b"yes")
        await eventually(lambda: desk.payloads == [b"low", b"yes"])
    config = (await connection.js.consumer_info(STREAM, DURABLE)).config
    assert (config.ack_wait, config.max_deliver, config.backoff) == (30, -1, None)


@pytest.mark.usefixtures("streams")
async def test_a_failing_message_is_redelivered_until_it_is_handled(connection: Connection, desk: Desk) -> None:
    desk.answer = lambda delivery: fail() if delivery.num_delivered < 3 else None
    await connection.js.publish(CONFIRMED, b"one")
    async with consuming(connection, desk):
        await eventually(lambda: desk.outcomes[CONFIRMED, "handled"] == 1)
    assert [delivery.num_delivered for delivery in desk.deliveries] == [1, 2, 3]
    assert desk.outcomes[CONFIRMED, "retried"] == 2
    assert desk.dead == []


@pytest.mark.usefixtures("streams")
async def test_redelivery_waits_for_the_delay(connection: Connection, desk: Desk) -> None:
    times: list[float] = []
    desk.answer = lambda delivery: (times.append(asyncio.get_running_loop().time()), fail())[0]
    await connection.js.publish(CONFIRMED, b"one")
    async with consuming(connection, desk, delays_seconds=(0.3,), attempts=2, randomness=lambda: 0.5):
        await eventually(lambda: bool(desk.dead))
    assert times[1] - times[0] > 0.29


@pytest.mark.usefixtures("streams")
async def test_the_last_failed_attempt_goes_to_the_dead_letters(connection: Connection, desk: Desk) -> None:
    desk.answer = fail
    await connection.js.publish(CONFIRMED, b"one")
    async with consuming(connection, desk, attempts=3):
        await eventually(lambda: desk.outcomes[CONFIRMED, "dead_lettered"] == 1)
        await eventually(lambda: _is_unsettled(connection, 0))
    assert [delivery.is_last_attempt for delivery in desk.deliveries] == [False, False, True]
    ((delivery, reason),) = desk.dead
    assert (delivery.payload, reason) == (b"one", "RuntimeError: no luck")


@pytest.mark.usefixtures("streams")
async def test_poison_goes_to_the_dead_letters_at_once_and_before_it_is_terminated(
    connection: Connection, desk: Desk
) -> None:
    pending_while_burying: list[int] = []

    async def dead_letter(delivery: Delivery, reason: str) -> None:
        pending_while_burying.append(await unsettled(connection))
        desk.dead.append((delivery, reason))

    desk.answer = poison
    await connection.js.publish(CONFIRMED, b"\xff")
    async with consuming(connection, desk, dead_letter=dead_letter):
        await eventually(lambda: desk.outcomes[CONFIRMED, "dead_lettered"] == 1)
        await eventually(lambda: _is_unsettled(connection, 0))
    assert pending_while_burying == [1]
    ((delivery, reason),) = desk.dead
    assert (delivery.payload, delivery.num_delivered, reason) == (b"\xff", 1, "field orderId: missing")


@pytest.mark.usefixtures("streams")
async def test_dead_letters_that_cannot_be_written_keep_the_message_alive(connection: Connection, desk: Desk) -> None:
    desk.answer = fail
    desk.keep_dead_letter = lambda delivery: fail() if delivery.num_delivered < 5 else None
    await connection.js.publish(CONFIRMED, b"one")
    async with consuming(connection, desk, attempts=2):
        await eventually(lambda: len(desk.dead) == 1)
    assert [delivery.num_delivered for delivery in desk.deliveries] == [1, 2, 3, 4, 5]


@pytest.mark.usefixtures("streams")
async def test_a_crash_during_the_last_attempt_loses_nothing(nats_server: NatsServer, connection: Connection) -> None:
    await connection.js.publish(CONFIRMED, b"one")
    doomed, survivor = Desk(), Desk()
    crashing = await connect([nats_server.url], name="crashing")
    consumer = PullConsumer(
        crashing,
        ConsumerSettings(stream=STREAM, durable=DURABLE, subjects=[CONFIRMED], attempts=1, ack_wait_seconds=0.5),
        Handlers(
            lambda delivery: doomed.handle(delivery) if doomed.deliveries else _begin_and_hang(doomed, delivery),
            doomed.dead_letter,
        ),
    )
    running = asyncio.create_task(consumer.run())
    await eventually(lambda: len(doomed.deliveries) == 1)
    running.cancel()
    await asyncio.wait({running})
    await crashing.close()
    survivor.answer = fail
    async with consuming(connection, survivor, attempts=1, ack_wait_seconds=0.5):
        await eventually(lambda: len(survivor.dead) == 1)
    assert survivor.dead[0][0].num_delivered == 2
    assert doomed.dead == []


async def _begin_and_hang(desk: Desk, delivery: Delivery) -> None:
    desk.deliveries.append(delivery)
    await asyncio.Event().wait()


@pytest.mark.usefixtures("streams")
async def test_a_handler_that_hangs_is_cut_off_before_the_server_delivers_again(
    connection: Connection, desk: Desk
) -> None:
    async def hang_once(delivery: Delivery) -> None:
        desk.deliveries.append(delivery)
        if delivery.num_delivered == 1:
            await asyncio.Event().wait()

    await connection.js.publish(CONFIRMED, b"one")
    async with consuming(connection, desk, handle=hang_once, ack_wait_seconds=1.0):
        await eventually(lambda: desk.outcomes[CONFIRMED, "handled"] == 1)
    assert desk.outcomes[CONFIRMED, "retried"] == 1
    assert len(desk.deliveries) == 2


@pytest.mark.usefixtures("streams")
async def test_one_slow_message_does_not_delay_the_others(connection: Connection, desk: Desk) -> None:
    gate = asyncio.Event()

    async def handle(delivery: Delivery) -> None:
        if delivery.payload == b"0":
            await gate.wait()
        desk.deliveries.append(delivery)

    for number in range(50):
        await connection.js.publish(CONFIRMED, b"%d" % number)
    async with consuming(connection, desk, handle=handle, concurrency=4):
        await eventually(lambda: len(desk.deliveries) == 49)
        gate.set()
        await eventually(lambda: len(desk.deliveries) == 50)
    assert desk.payloads[-1] == b"0"


@pytest.mark.usefixtures("streams")
async def test_replicas_share_the_messages_of_a_durable(nats_server: NatsServer, connection: Connection) -> None:
    desks = [Desk(), Desk()]
    other = await connect([nats_server.url], name="other")
    async with consuming(connection, desks[0]), consuming(other, desks[1]):
        for number in range(60):
            await connection.js.publish(CONFIRMED, b"%d" % number)
        await eventually(lambda: sum(len(desk.deliveries) for desk in desks) == 60)
    await other.close()
    assert len({payload for desk in desks for payload in desk.payloads}) == 60
    assert all(desk.deliveries for desk in desks)


@pytest.mark.usefixtures("streams")
async def test_stopping_lets_running_handlers_finish_and_fetches_no_more(connection: Connection, desk: Desk) -> None:
    gate = asyncio.Event()

    async def handle(delivery: Delivery) -> None:
        desk.deliveries.append(delivery)
        await gate.wait()

    await connection.js.publish(CONFIRMED, b"one")
    async with consuming(connection, desk, handle=handle) as consumer:
        await eventually(lambda: len(desk.deliveries) == 1)
        consumer.stop()
        assert desk.outcomes[CONFIRMED, "handled"] == 0
        gate.set()
    assert desk.outcomes[CONFIRMED, "handled"] == 1
    await connection.js.publish(CONFIRMED, b"two")
    await eventually(lambda: _is_unsettled(connection, 1))
    assert desk.payloads == [b"one"]


@pytest.mark.usefixtures("streams")
async def test_a_durable_that_an_operator_deleted_is_made_again(connection: Connection, desk: Desk) -> None:
    async with consuming(connection, desk):
        await connection.js.publish(CONFIRMED, b"one")
        await eventually(lambda: desk.payloads == [b"one"])
        await connection.client.flush()
        await connection.js.delete_consumer(STREAM, DURABLE)
        await connection.js.publish(CONFIRMED, b"two")
        await eventually(lambda: b"two" in desk.payloads)


@pytest.mark.usefixtures("streams")
async def test_a_killed_server_delivers_the_rest_after_its_return(
    nats_server: NatsServer, connection: Connection, desk: Desk
) -> None:
    for number in range(200):
        await connection.js.publish(CONFIRMED, b"%d" % number)
    desk.answer = lambda _: nats_server.kill() if len(desk.deliveries) == 50 else None
    async with consuming(connection, desk, concurrency=8, ack_wait_seconds=2):
        await eventually(lambda: not connection.is_connected)
        await nats_server.start()
        await eventually(lambda: len(set(desk.payloads)) == 200)
        await eventually(lambda: _is_unsettled(connection, 0))


async def _is_unsettled(connection: Connection, count: int) -> bool:
    return await unsettled(connection) == count


async def test_consuming_begins_by_itself_when_the_stream_appears(connection: Connection, desk: Desk) -> None:
    async with consuming(connection, desk):
        await asyncio.sleep(0.05)
        await ensure_streams(connection.js)
        await connection.js.publish(CONFIRMED, b"one")
        await eventually(lambda: desk.payloads == [b"one"])


@pytest.mark.usefixtures("streams")
async def test_an_idle_consumer_sees_a_message_at_once(connection: Connection, desk: Desk) -> None:
    pulls: list[bytes] = []

    async def count(request: Msg) -> None:
        pulls.append(request.data)

    await connection.client.subscribe(f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{DURABLE}", cb=count)
    asked: list[int] = []
    desk.answer = lambda _: asked.append(len(pulls))
    async with consuming(connection, desk):
        await eventually(lambda: bool(pulls))
        idle = len(pulls)
        await eventually(lambda: len(pulls) > idle and b"no_wait" not in pulls[-1])
        waiting = len(pulls)
        await connection.js.publish(CONFIRMED, b"one")
        await eventually(lambda: bool(desk.deliveries))
    # It came with the request that was waiting already, and not with one made later.
    assert asked == [waiting]


@pytest.mark.usefixtures("streams")
async def test_a_delivery_names_the_incarnation_of_its_stream(connection: Connection, desk: Desk) -> None:
    created = (await connection.js.stream_info(STREAM)).created
    await connection.js.publish(CONFIRMED, b"one")
    async with consuming(connection, desk):
        await eventually(lambda: desk.payloads == [b"one"])
    assert created is not None
    assert desk.deliveries[0].incarnation == created.isoformat()
