"""Publishing outbox rows, against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from nats.js.api import StreamConfig

from services.domain.orders.events import CONFIRM_REQUESTED, ORDER_CREATED
from services.messaging.jetstream import Connection, ensure_streams
from services.messaging.outbox_relay import OutboxRelay, OutboxRow
from services.messaging.publisher import ATOMIC_FROM, JetStreamPublisher
from tests.support.nats_connection import connect
from tests.support.nats_server import NatsServer, eventually

STREAM = "ORDER_EVENTS"


def rows(count: int, *, first: int = 1) -> list[OutboxRow]:
    at = datetime(2026, 11, 1, tzinfo=UTC)
    return [
        OutboxRow(number, f"event-{number}", (CONFIRM_REQUESTED, ORDER_CREATED)[number % 2], b"%d" % number, "o", at)
        for number in range(first, first + count)
    ]


@pytest.fixture
async def publisher(connection: Connection) -> JetStreamPublisher:
    await ensure_streams(connection.js)
    return JetStreamPublisher(connection)


async def stored(connection: Connection, stream: str = STREAM) -> list[bytes]:
    state = (await connection.js.stream_info(stream)).state
    messages = [await connection.js.get_msg(stream, seq) for seq in range(1, state.last_seq + 1)]
    return [message.data or b"" for message in messages]


def payloads(*batches: Sequence[OutboxRow]) -> list[bytes]:
    return [row.payload for batch in batches for row in batch]


async def test_a_row_is_stored_with_its_event_id(connection: Connection, publisher: JetStreamPublisher) -> None:
    assert await publisher.publish(rows(1)) == {}
    message = await connection.js.get_msg(STREAM, 1, direct=True)
    assert (message.subject, message.data) == (ORDER_CREATED, b"1")
    assert (message.headers or {})["Nats-Msg-Id"] == "event-1"


async def test_a_row_that_is_published_again_is_stored_once(
    connection: Connection, publisher: JetStreamPublisher
) -> None:
    for _ in range(3):
        assert await publisher.publish(rows(2)) == {}
    assert await stored(connection) == [b"1", b"2"]


async def test_many_rows_go_as_one_batch_in_their_order(connection: Connection, publisher: JetStreamPublisher) -> None:
    warm_up, batch = rows(2), rows(500, first=3)
    await publisher.publish(warm_up)
    assert await publisher.publish(batch) == {}
    assert await stored(connection) == payloads(warm_up, batch)
    assert "Nats-Batch-Id" in ((await connection.js.get_msg(STREAM, 3, direct=True)).headers or {})


async def test_a_batch_that_holds_a_stored_row_falls_back_to_singles(
    connection: Connection, publisher: JetStreamPublisher
) -> None:
    warm_up, batch = rows(2), rows(ATOMIC_FROM + 8)
    await publisher.publish(warm_up)
    assert await publisher.publish(batch) == {}
    assert sorted(await stored(connection)) == sorted(payloads(batch))


async def test_a_stream_that_allows_no_batches_gets_singles(connection: Connection) -> None:
    await connection.js.add_stream(StreamConfig(name="SHOP", subjects=["order.>", CONFIRM_REQUESTED]))
    publisher = JetStreamPublisher(connection)
    await publisher.publish(rows(2))
    assert await publisher.publish(rows(ATOMIC_FROM, first=3)) == {}
    assert len(await stored(connection, "SHOP")) == ATOMIC_FROM + 2


async def test_rows_of_two_streams_never_share_a_batch(connection: Connection) -> None:
    await connection.js.add_stream(StreamConfig(name="SHOP", subjects=[ORDER_CREATED], allow_atomic=True))
    await ensure_streams(connection.js)
    publisher = JetStreamPublisher(connection)
    await publisher.publish(rows(2))
    assert await publisher.publish(rows(4 * ATOMIC_FROM, first=3)) == {}
    for stream in ("SHOP", STREAM):
        assert len(await stored(connection, stream)) == 2 * ATOMIC_FROM + 1
        assert "Nats-Batch-Id" in ((await connection.js.get_msg(stream, 2)).headers or {})


async def test_a_row_that_no_stream_stores_or_that_is_too_large_fails_alone(
    connection: Connection, publisher: JetStreamPublisher
) -> None:
    good, *_ = rows(1)
    at = good.created_at
    lost = OutboxRow(2, "event-2", "nobody.listens", b"", "o", at)
    huge = OutboxRow(3, "event-3", ORDER_CREATED, b"x" * 300_000, "o", at)
    failures = await publisher.publish([lost, good, huge])
    assert failures.keys() == {2, 3}
    assert "maximum payload" in failures[3]
    assert await stored(connection) == [b"1"]


async def test_a_full_stream_refuses_and_the_row_is_not_lost(connection: Connection) -> None:
    await connection.js.add_stream(StreamConfig(name="SMALL", subjects=["order.>"], max_msgs=1, discard="new"))
    publisher = JetStreamPublisher(connection)
    created = rows(3)[::2]
    failures = await publisher.publish(created)
    assert len(failures) == 1
    assert "maximum messages exceeded" in next(iter(failures.values()))


class InMemoryOutbox:
    """Rows that are due again half a second after they failed."""

    def __init__(self, count: int) -> None:
        self.waiting = {row.id: (0.0, row) for row in rows(count)}
        self.claimed: dict[int, OutboxRow] = {}
        self.published: set[int] = set()

    async def settle_and_claim(
        self, settled: Sequence[int], failed: Sequence[tuple[int, str]], limit: int
    ) -> list[OutboxRow]:
        now = asyncio.get_running_loop().time()
        for row_id in settled:
            self.published.add(self.claimed.pop(row_id).id)
        for row_id, _ in failed:
            self.waiting[row_id] = (now + 0.5, self.claimed.pop(row_id))
        due = [row for at, row in self.waiting.values() if at <= now][:limit]
        for row in due:
            self.claimed[row.id] = self.waiting.pop(row.id)[1]
        return due


@pytest.mark.parametrize("batch_size", [20, 200])
async def test_a_server_killed_in_the_middle_loses_and_doubles_nothing(
    nats_server: NatsServer, batch_size: int
) -> None:
    outbox, total = InMemoryOutbox(5000), 5000
    connection = await connect([nats_server.url], name="relay")
    await ensure_streams(connection.js)
    relay = OutboxRelay(
        outbox, JetStreamPublisher(connection, timeout_seconds=0.5), batch_size=batch_size, poll_seconds=0.05
    )
    running = asyncio.create_task(relay.run())
    for milestone in (800, 2500):
        await eventually(lambda milestone=milestone: len(outbox.published) >= milestone)
        nats_server.kill()
        await eventually(lambda: not connection.is_connected)
        await nats_server.start()
    await eventually(lambda: len(outbox.published) == total)
    relay.stop()
    await running
    assert sorted(await stored(connection), key=int) == payloads(rows(total))
    await connection.close()
