"""The broker loses its streams, its consumers or its whole store while relay and consumer run."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select

from services.domain.orders.events import CONFIRMED, ORDER_CREATED
from services.messaging.consumer import Delivery, PullConsumer
from services.messaging.durable_consumer import ConsumerSettings
from services.messaging.jetstream import Connection, _config
from services.messaging.outbox_relay import OutboxRelay, SqlOutbox
from services.messaging.publisher import JetStreamPublisher
from services.messaging.topology import EventRecovery, Topology
from state import outbox
from state.engine.database import Database, opened
from state.tables import outbox as outbox_table
from tests.support.consumers import Handlers
from tests.support.nats_connection import connect
from tests.support.nats_server import NatsServer, eventually

pytestmark = pytest.mark.slow

STREAM, DURABLE = "INVENTORY_EVENTS", "order-service"


@pytest.fixture
async def connection(nats_server: NatsServer) -> AsyncIterator[Connection]:
    connection = await connect([nats_server.url], name="forgetful")
    yield connection
    await connection.close()


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    with opened(sqlite_url) as database:
        yield database


class Site:
    """A relay and a consumer on one topology."""

    def __init__(self, connection: Connection, database: Database) -> None:
        self.topology = Topology(connection, EventRecovery(database, timedelta(seconds=30), self._wake).streams_made)
        publisher = JetStreamPublisher(connection, timeout_seconds=0.5, recover=self.topology.recover)
        self.relay = OutboxRelay(SqlOutbox(database), publisher, poll_seconds=0.05)
        self.handled: list[Delivery] = []
        self.dead: list[tuple[Delivery, str]] = []
        self.consumer = PullConsumer(
            connection,
            ConsumerSettings(stream=STREAM, durable=DURABLE, subjects=[CONFIRMED]),
            Handlers(self._handle, self._keep_dead_letter, recover=self.topology.recover),
        )

    def _wake(self) -> None:
        self.relay.wake()

    async def _handle(self, delivery: Delivery) -> None:
        self.handled.append(delivery)

    async def _keep_dead_letter(self, delivery: Delivery, reason: str) -> None:
        self.dead.append((delivery, reason))

    def payloads(self) -> list[bytes]:
        return [delivery.payload for delivery in self.handled]


@asynccontextmanager
async def site(connection: Connection, database: Database) -> AsyncIterator[Site]:
    site = Site(connection, database)
    await site.topology.ensure()
    running = asyncio.gather(site.relay.run(), site.consumer.run())
    yield site
    site.relay.stop()
    site.consumer.stop()
    async with asyncio.timeout(10):
        await running


async def store(database: Database, name: str) -> None:
    row = {"event_id": name, "subject": ORDER_CREATED, "order_id": "o", "payload": name.encode()}
    await database.write(lambda c: outbox.add(c, [{**row, "created_at": datetime.now(UTC)}]))


def nothing_waits(database: Database) -> Callable[[], object]:
    async def ask() -> bool:
        pending = select(func.count()).where(outbox_table.c.published_at.is_(None))
        return await database.read(lambda c: c.scalar(pending)) == 0

    return ask


def ids_in_stream(connection: Connection, wanted: set[str]) -> Callable[[], object]:
    async def ask() -> bool:
        try:
            state = (await connection.js.stream_info("ORDER_EVENTS")).state
            found = [await connection.js.get_msg("ORDER_EVENTS", n, direct=True) for n in range(1, state.last_seq + 1)]
        except Exception:
            return False
        return {(message.headers or {})["Nats-Msg-Id"] for message in found} == wanted

    return ask


def answered(connection: Connection, site: Site, payload: bytes) -> Callable[[], object]:
    """Sends an event until it has been handled."""

    async def ask() -> bool:
        try:
            await connection.js.publish(CONFIRMED, payload, timeout=0.2, headers={"Nats-Msg-Id": payload.decode()})
        except Exception:
            return False
        return payload in site.payloads()

    return ask


async def test_streams_that_were_deleted_are_made_again_and_what_they_took_is_sent_again(connection, database):
    async with site(connection, database) as here:
        await store(database, "first")
        await eventually(nothing_waits(database))
        await eventually(answered(connection, here, b"before"))
        first = here.handled[0].incarnation
        for stream in ("ORDER_EVENTS", STREAM):
            await connection.js.delete_stream(stream)
        await store(database, "second")
        await eventually(ids_in_stream(connection, {"first", "second"}))
        await eventually(answered(connection, here, b"after"))
        assert here.handled[-1].incarnation != first
        assert here.topology.problem is None


async def test_a_consumer_that_was_deleted_is_made_again(connection, database):
    async with site(connection, database) as here:
        await eventually(answered(connection, here, b"before"))
        await connection.js.delete_consumer(STREAM, DURABLE)
        await eventually(answered(connection, here, b"after"))


async def test_a_store_that_was_wiped_is_filled_again(nats_server, connection, database, tmp_path):
    async with site(connection, database) as here:
        await store(database, "first")
        await eventually(nothing_waits(database))
        nats_server.kill()
        shutil.rmtree(tmp_path / "nats" / "js")
        await store(database, "second")
        await nats_server.start()
        await eventually(ids_in_stream(connection, {"first", "second"}))
        await eventually(answered(connection, here, b"after"))


async def test_missing_streams_are_noticed_without_traffic_and_reported_while_they_cannot_be_made(connection, database):
    topology = Topology(connection, EventRecovery(database, timedelta(seconds=30), lambda: None).streams_made)
    assert topology.problem is not None
    await topology.watch()
    assert topology.problem is None
    await connection.js.delete_stream("ORDER_EVENTS")
    await topology.watch()
    assert topology.problem is None
    assert (await connection.js.stream_info("ORDER_EVENTS")).config.name == "ORDER_EVENTS"


@pytest.mark.parametrize("status", ["404", "408", "409", "503", "100"])
async def test_events_with_a_status_header_become_dead_letters_and_stop_nothing(connection, database, status):
    async with site(connection, database) as here:
        for number in range(100):
            await connection.client.publish(CONFIRMED, b"%d" % number, headers={"Status": status})
        await eventually(answered(connection, here, b"honest"))
        await eventually(lambda: len({dead_letter.stream_seq for dead_letter, _ in here.dead}) == 100)
        assert here.payloads() == [b"honest"]


async def test_a_stream_without_atomic_batches_shows_each_message_once(connection, database):
    seen: list[str] = []

    async def note(message) -> None:
        seen.append(message.headers["Nats-Msg-Id"])

    await connection.js.add_stream(_config("ORDER_EVENTS", ["order.>"], 1).evolve(allow_atomic=False))
    await connection.client.subscribe(ORDER_CREATED, cb=note)
    async with site(connection, database):
        await store(database, "warm")
        await eventually(nothing_waits(database))
        at = datetime.now(UTC)
        rows = [
            {"event_id": f"e{n}", "subject": ORDER_CREATED, "order_id": "o", "payload": b"x", "created_at": at}
            for n in range(64)
        ]
        await database.write(lambda c: outbox.add(c, rows))
        await eventually(nothing_waits(database))
    await connection.client.flush()
    assert sorted(seen) == sorted({"warm", *(f"e{n}" for n in range(64))})
