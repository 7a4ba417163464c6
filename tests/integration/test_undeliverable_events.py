"""Events that the broker can never take: they stop nothing, and wait for a person."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from nats.js.api import StreamConfig

from services.alerting.evaluator import present_gauges
from services.domain.orders.events import ORDER_CREATED
from services.messaging.jetstream import Connection
from services.messaging.outbox_relay import OutboxRelay, OutboxRow, SqlOutbox, Undeliverable
from services.messaging.publisher import ATOMIC_FROM, JetStreamPublisher
from state import outbox
from state.engine.database import Database
from tests.support.nats_server import NatsServer, eventually

START = datetime(2026, 11, 1, tzinfo=UTC)
SMALL = 1000
"""``max_msg_size`` of the operator's stream, in bytes."""


@pytest.fixture
async def small(connection: Connection) -> Connection:
    """A connection to a server with a stream that takes small messages only."""
    config = StreamConfig(name="SHOP", subjects=["order.>"], max_msg_size=SMALL, allow_atomic=True)
    await connection.js.add_stream(config)
    return connection


async def stored(connection: Connection) -> set[bytes]:
    state = (await connection.js.stream_info("SHOP")).state
    return {(await connection.js.get_msg("SHOP", seq)).data or b"" for seq in range(1, state.last_seq + 1)}


def row(number: int, payload: bytes) -> OutboxRow:
    return OutboxRow(number, f"event-{number}", ORDER_CREATED, payload, "order-1", START)


def store(database: Database, *payloads: bytes) -> Awaitable[None]:
    rows = [
        {
            "event_id": f"event-{number}",
            "subject": ORDER_CREATED,
            "order_id": f"order-{number}",
            "payload": payload,
            "created_at": START + timedelta(seconds=number),
        }
        for number, payload in enumerate(payloads)
    ]
    return database.write(lambda c: outbox.add(c, rows))


async def relaying(database: Database, connection: Connection, until: Callable[[], Awaitable[bool]]) -> OutboxRelay:
    """Run a relay until a condition holds; returns it, stopped."""
    relay = OutboxRelay(SqlOutbox(database), JetStreamPublisher(connection), poll_seconds=0.02)
    running = asyncio.create_task(relay.run())
    await eventually(until)
    relay.stop()
    await running
    return relay


async def test_an_event_too_large_for_the_stream_is_undeliverable_and_its_neighbours_are_published(
    database: Database, small: Connection
) -> None:
    large = b"x" * (SMALL + 1)
    await store(database, b"first", large, b"last")

    async def is_settled() -> bool:
        return (await database.read(outbox.pending))[0] == 0

    relay = await relaying(database, small, is_settled)
    assert await stored(small) == {b"first", b"last"}
    (event,) = await database.read(lambda c: outbox.undeliverable(c, 10))
    assert (event.event_id, event.size, event.attempts) == ("event-1", len(large), 1)
    assert event.reason
    assert relay.problem is None


async def test_what_is_undeliverable_is_published_after_the_operator_made_room(
    database: Database, small: Connection
) -> None:
    large = b"x" * (SMALL + 1)
    await store(database, large)

    async def is_undeliverable() -> bool:
        return await database.read(outbox.count_undeliverable) == 1

    await relaying(database, small, is_undeliverable)
    await small.js.update_stream(
        StreamConfig(name="SHOP", subjects=["order.>"], max_msg_size=2 * SMALL, allow_atomic=True)
    )
    (event,) = await database.read(lambda c: outbox.undeliverable(c, 10))
    await database.write(lambda c: outbox.retry(c, event.id))

    async def is_published() -> bool:
        return await stored(small) == {large}

    await relaying(database, small, is_published)
    assert await database.read(outbox.count_undeliverable) == 0
    assert (await database.read(outbox.pending))[0] == 0


async def test_a_batch_with_a_too_large_event_stores_the_others(small: Connection) -> None:
    publisher = JetStreamPublisher(small)
    assert await publisher.publish([row(1, b"1")]) == {}
    numbers = range(2, 2 + 2 * ATOMIC_FROM)
    middle = numbers[ATOMIC_FROM]
    rows = [row(number, b"x" * (SMALL + 1) if number == middle else b"%d" % number) for number in numbers]
    failures = await publisher.publish(rows)
    assert failures.keys() == {middle}
    assert isinstance(failures[middle], Undeliverable)
    assert await stored(small) == {b"%d" % number for number in (1, *numbers) if number != middle}


@pytest.mark.parametrize("spare", [-1, 0, 1, 40, 120, 200])
@pytest.mark.parametrize("count", [1, 2 * ATOMIC_FROM])
async def test_no_event_at_the_servers_limit_costs_the_connection(
    nats_server: NatsServer, connection: Connection, spare: int, count: int
) -> None:
    """The server counts the headers; sent one byte too much, it ends the connection."""
    await connection.js.add_stream(StreamConfig(name="SHOP", subjects=["order.>"], allow_atomic=True))
    publisher, client = JetStreamPublisher(connection), connection.client
    assert await publisher.publish([row(10_000, b"warm")]) == {}
    head = len(b"NATS/1.0\r\nNats-Msg-Id: event-1\r\n\r\n")
    edge = row(1, b"x" * (client.max_payload - head - spare))
    failures = await publisher.publish([edge, *(row(number, b"%d" % number) for number in range(2, count + 1))])
    assert set(failures) == (set() if spare >= 0 else {1})
    assert all(isinstance(reason, Undeliverable) for reason in failures.values())
    await client.flush()
    assert connection.client is client
    assert client.stats["reconnects"] == 0
    assert (await connection.js.stream_info("SHOP")).state.messages == 1 + count - len(failures)


async def test_what_is_undeliverable_is_not_claimed_nor_counted_as_waiting(database: Database) -> None:
    await store(database, b"large", b"other")
    first, second = await database.write(lambda c: outbox.settle_and_claim(c, [], [], 5, START))
    await database.write(
        lambda c: outbox.settle_and_claim(
            c, [], [(second.id, "refused")], 0, START, undeliverable=[(first.id, "too large")]
        )
    )
    later = START + timedelta(days=1)
    assert await database.read(outbox.pending) == (1, START + timedelta(seconds=1))
    assert await database.read(outbox.count_undeliverable) == 1
    assert [c.id for c in await database.write(lambda c: outbox.settle_and_claim(c, [], [], 5, later))] == [second.id]
    gauges = await database.read(lambda c: present_gauges(c, later))
    assert gauges["outbox_undeliverable"] == [({}, 1.0)]
    assert gauges["outbox_oldest_age_seconds"] == [({}, (later - START).total_seconds() - 1)]


async def test_retried_it_waits_again_and_discarded_it_is_gone(database: Database) -> None:
    await store(database, b"one", b"two")
    one, two = await database.write(lambda c: outbox.settle_and_claim(c, [], [], 5, START))
    never = [(one.id, "too large"), (two.id, "too large")]
    await database.write(lambda c: outbox.settle_and_claim(c, [], [], 0, START, undeliverable=never))
    await database.write(lambda c: outbox.retry(c, one.id))
    await database.write(lambda c: outbox.discard(c, two.id))
    assert [c.id for c in await database.write(lambda c: outbox.settle_and_claim(c, [], [], 5, START))] == [one.id]
    assert await database.read(outbox.count_undeliverable) == 0
    assert not await database.read(lambda c: outbox.has(c, two.id))


async def test_neither_a_late_retry_nor_a_late_discard_touches_what_was_published(database: Database) -> None:
    await store(database, b"one")
    (one,) = await database.write(lambda c: outbox.settle_and_claim(c, [], [], 5, START))
    never = [(one.id, "too large")]
    await database.write(lambda c: outbox.settle_and_claim(c, [], [], 0, START, undeliverable=never))
    # Another replica had claimed it, too, and its publishing went well.
    await database.write(lambda c: outbox.settle_and_claim(c, [one.id], [], 0, START))
    assert await database.read(outbox.count_undeliverable) == 0
    await database.write(lambda c: outbox.settle_and_claim(c, [], [], 0, START, undeliverable=never))
    assert await database.read(outbox.count_undeliverable) == 0
    await database.write(lambda c: outbox.retry(c, one.id))
    await database.write(lambda c: outbox.discard(c, one.id))
    assert await database.read(lambda c: outbox.has(c, one.id))
    assert await database.write(lambda c: outbox.settle_and_claim(c, [], [], 5, START + timedelta(days=1))) == []
