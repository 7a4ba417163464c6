"""Relay and consumer with NATS at the end of a bad line: nothing is lost, and nothing takes effect twice."""

from __future__ import annotations

import asyncio
import gc
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime
from urllib.parse import urlsplit

import orjson
import pytest
from sqlalchemy import func, select

from services.base.identity import new_id
from services.domain.orders.events import CONFIRM_REQUESTED, CONFIRMED, LOW_STOCK, ORDER_CREATED
from services.messaging.consumer import Delivery, PullConsumer
from services.messaging.durable_consumer import ConsumerSettings
from services.messaging.envelope import decode
from services.messaging.jetstream import Connection, ConnectionState, ensure_streams
from services.messaging.outbox_relay import OutboxRelay, OutboxRow, SqlOutbox
from services.messaging.publisher import JetStreamPublisher
from state import deduplication, outbox
from state.engine.database import Database, opened
from state.tables import inbox as inbox_table
from state.tables import outbox as outbox_table
from tests.faults.proxy import TcpProxy
from tests.support.consumers import Handlers
from tests.support.nats_connection import connect
from tests.support.nats_server import NatsServer, eventually
from tests.support.orders_harness import OrdersHarness

pytestmark = pytest.mark.slow

PING_SECONDS = 1
TIMEOUT_SECONDS = 0.3
ACK_WAIT_SECONDS = 1.0
STREAM, DURABLE = "INVENTORY_EVENTS", "order-service"


@pytest.fixture
def proxy(nats_server: NatsServer) -> Iterator[TcpProxy]:
    with TcpProxy(urlsplit(nats_server.url).port or 0) as proxy:
        yield proxy


@pytest.fixture
async def direct(nats_server: NatsServer) -> AsyncIterator[Connection]:
    """A connection that no fault strikes."""
    connection = await connect([nats_server.url], name="direct")
    await ensure_streams(connection.js)
    yield connection
    await connection.close()


@pytest.fixture
async def struck(nats_server: NatsServer, direct: Connection, proxy: TcpProxy) -> AsyncIterator[Connection]:
    """The connection through the proxy, once the streams are there."""
    url = nats_server.url.replace(str(urlsplit(nats_server.url).port), str(proxy.port))
    connection = Connection([url], name="struck", ping_interval_seconds=PING_SECONDS, reconnect_wait_seconds=0.05)
    await connection.open(patience_seconds=5)
    yield connection
    await connection.close()
    with warnings.catch_warnings():
        # The client leaves the sockets of attempts that failed to the collector.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    with opened(sqlite_url) as database:
        yield database


@asynccontextmanager
async def relaying(database: Database, connection: Connection) -> AsyncIterator[OutboxRelay]:
    publisher = JetStreamPublisher(connection, timeout_seconds=TIMEOUT_SECONDS)
    relay = OutboxRelay(SqlOutbox(database), publisher, batch_size=50, poll_seconds=0.05)
    running = asyncio.create_task(relay.run())
    try:
        yield relay
    finally:
        relay.stop()
        async with asyncio.timeout(10):
            await running


class Effects:
    """A handler whose one effect is an inbox row, counted with every call."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.calls = 0
        self.duplicates = 0

    async def handle(self, delivery: Delivery) -> None:
        event_id = delivery.headers["Nats-Msg-Id"]
        at = datetime.now(UTC)
        is_new = await self._database.write(lambda c: deduplication.add(c, event_id, delivery.subject, None, at))
        self.calls += 1
        self.duplicates += not is_new


@asynccontextmanager
async def consuming(connection: Connection, handle) -> AsyncIterator[None]:
    consumer = PullConsumer(
        connection,
        ConsumerSettings(
            stream=STREAM,
            durable=DURABLE,
            subjects=[CONFIRMED, LOW_STOCK],
            ack_wait_seconds=ACK_WAIT_SECONDS,
            delays_seconds=(0.05,),
        ),
        Handlers(handle),
    )
    running = asyncio.create_task(consumer.run())
    try:
        yield
    finally:
        consumer.stop()
        async with asyncio.timeout(10):
            await running


async def store(database: Database, count: int, *, first: int = 0) -> None:
    at = datetime.now(UTC)
    rows = [
        {
            "event_id": f"event-{number}",
            "subject": (CONFIRM_REQUESTED, ORDER_CREATED)[number % 2],
            "order_id": "o",
            "payload": b"%d" % number,
            "created_at": at,
        }
        for number in range(first, first + count)
    ]
    await database.write(lambda connection: outbox.add(connection, rows))


async def unsent(database: Database) -> int:
    pending = select(func.count()).where(outbox_table.c.published_at.is_(None))
    return await database.read(lambda connection: connection.scalar(pending) or 0)


async def stored_ids(direct: Connection, stream: str = "ORDER_EVENTS") -> list[str]:
    state = (await direct.js.stream_info(stream)).state
    found = [await direct.js.get_msg(stream, seq, direct=True) for seq in range(1, state.last_seq + 1)]
    return [(message.headers or {})["Nats-Msg-Id"] for message in found]


async def everything_is_sent_once(database: Database, direct: Connection, count: int) -> None:
    async def nothing_waits() -> bool:
        return await unsent(database) == 0

    await eventually(nothing_waits)
    assert sorted(await stored_ids(direct)) == sorted(f"event-{number}" for number in range(count))


# ----------------------------------------------------------------------- the relay


async def test_a_relay_whose_connection_is_cut_again_and_again_sends_everything_once(database, struck, direct, proxy):
    changes: list[ConnectionState] = []
    struck._on_change = changes.append
    async with relaying(database, struck) as relay:
        for number in range(10):
            await eventually(lambda: struck.is_connected)
            await store(database, 60, first=60 * number)
            relay.wake()
            await asyncio.sleep(0)
            proxy.cut()
            await eventually(lambda number=number: changes.count(ConnectionState.DISCONNECTED) == number + 1)
        await everything_is_sent_once(database, direct, 600)


async def test_events_wait_while_the_server_refuses_and_leave_when_it_is_back(database, struck, direct, proxy):
    async with relaying(database, struck) as relay:
        with proxy.refusing():
            await store(database, 40)
            relay.wake()
            await eventually(lambda: not struck.is_connected)
            assert await stored_ids(direct) == []
            assert await unsent(database) == 40
        await everything_is_sent_once(database, direct, 40)


async def test_a_silent_link_is_noticed_by_pings_and_replaced(database, struck, direct, proxy):
    effects = Effects(database)
    async with relaying(database, struck) as relay, consuming(struck, effects.handle):
        await store(database, 5)
        await publish(direct, 5)
        relay.wake()
        await everything_is_sent_once(database, direct, 5)
        await eventually(lambda: effects.calls >= 5)
        began = time.monotonic()
        with proxy.stalled():
            await store(database, 5, first=5)
            await publish(direct, 5, first=5)
            relay.wake()
            await eventually(lambda: not struck.is_connected)
            # Two pings without an answer, and the third that is not sent any more.
            assert time.monotonic() - began < 3 * PING_SECONDS + 1
        await everything_is_sent_once(database, direct, 10)
        await eventually(lambda: effects.calls - effects.duplicates == 10)
        await everything_took_effect_once(database, direct, 10)


async def test_events_whose_acknowledgements_are_lost_are_sent_again_and_stored_once(database, struck, direct, proxy):
    async with relaying(database, struck) as relay:
        with proxy.losing("answers"):
            await store(database, 20)
            relay.wake()

            async def all_stored() -> bool:
                return (await direct.js.stream_info("ORDER_EVENTS")).state.messages == 20

            await eventually(all_stored)
            assert await unsent(database) == 20
        await everything_is_sent_once(database, direct, 20)


async def test_an_event_that_is_published_again_is_known_to_be_a_duplicate(struck, direct, proxy):
    publisher = JetStreamPublisher(struck, timeout_seconds=TIMEOUT_SECONDS)
    row = OutboxRow(1, "event-1", ORDER_CREATED, b"1", "o", datetime.now(UTC))
    with proxy.losing("answers"):
        assert (await publisher.publish([row])).keys() == {1}
    assert await stored_ids(direct) == ["event-1"]
    await eventually(lambda: struck.is_connected)

    async def goes_through() -> bool:
        return await publisher.publish([row]) == {}

    await eventually(goes_through)
    ack = await struck.js.publish(ORDER_CREATED, b"1", headers={"Nats-Msg-Id": "event-1"})
    assert ack.duplicate is True
    assert await stored_ids(direct) == ["event-1"]


# -------------------------------------------------------------------- the consumer


async def publish(direct: Connection, count: int, *, first: int = 0) -> None:
    for number in range(first, first + count):
        await direct.js.publish(LOW_STOCK, b"{}", headers={"Nats-Msg-Id": f"low-{number}"})


async def everything_took_effect_once(database: Database, direct: Connection, count: int) -> None:
    async def all_settled() -> bool:
        info = await direct.js.consumer_info(STREAM, DURABLE)
        return (info.num_ack_pending or 0) + (info.num_pending or 0) == 0

    await eventually(all_settled)
    rows = select(func.count()).select_from(inbox_table)
    assert await database.read(lambda connection: connection.scalar(rows)) == count


@pytest.mark.parametrize("fault", ["cut", "refused"])
async def test_a_consumer_goes_on_after_a_fault_and_misses_nothing(database, struck, direct, proxy, fault):
    effects = Effects(database)
    async with consuming(struck, effects.handle):
        await publish(direct, 30)
        await eventually(lambda: effects.calls >= 10)
        if fault == "cut":
            proxy.cut()
            await publish(direct, 30, first=30)
        else:
            with proxy.refusing():
                await publish(direct, 30, first=30)
                await eventually(lambda: not struck.is_connected)
        await eventually(lambda: effects.calls - effects.duplicates == 60)
        await everything_took_effect_once(database, direct, 60)


async def test_acknowledgements_that_are_lost_bring_redeliveries_that_the_inbox_absorbs(
    database, struck, direct, proxy
):
    effects = Effects(database)
    await publish(direct, 10)
    with ExitStack() as fault:

        async def handle(delivery: Delivery) -> None:
            await effects.handle(delivery)
            if effects.calls == 1:
                # The effect is durable; from here on nothing we say arrives.
                fault.enter_context(proxy.losing("requests"))

        async with consuming(struck, handle):
            await eventually(lambda: proxy.lost_bytes > 0)
            fault.close()
            await eventually(lambda: effects.duplicates >= 1)
            await everything_took_effect_once(database, direct, 10)


async def test_an_order_is_confirmed_once_however_often_its_event_comes(shop: OrdersHarness, struck, direct, proxy):
    order = await shop.place()
    outcomes: list[str] = []

    async def settled() -> bool:
        return (await direct.js.consumer_info(STREAM, DURABLE)).num_ack_pending == 0

    data = {"orderId": order.order_id, "reservationId": order.reservation_id}
    payload = orjson.dumps({"id": new_id(), "type": CONFIRMED, "data": data})
    with ExitStack() as fault:

        async def handle(delivery: Delivery) -> None:
            event = decode(delivery.payload, subject=delivery.subject, headers=delivery.headers, fallback_id="none")
            outcome = await shop.inbound.handle(event)
            if not outcomes:
                # The effect is durable, and the acknowledgement will not arrive.
                fault.enter_context(proxy.losing("requests"))
            outcomes.append(outcome)

        async with consuming(struck, handle):
            await direct.js.publish(CONFIRMED, payload)
            await eventually(lambda: proxy.lost_bytes > 0)
            fault.close()
            await eventually(lambda: len(outcomes) > 1)
            assert await shop.open_reasons(order.order_id) == []
            await eventually(settled)
    assert outcomes[0] == "handled"
    assert set(outcomes[1:]) == {"duplicate"}
    assert (await shop.order(order.order_id)).status == "CONFIRMED"
    assert (await shop.titles(order.order_id)).count("Inventory confirmed") == 1


# ------------------------------------------------------------------------- both ways


async def test_through_every_fault_in_turn_nothing_is_lost_and_nothing_doubled(database, struck, direct, proxy):
    effects = Effects(database)
    faults = [proxy.refusing, lambda: proxy.losing("answers"), lambda: proxy.losing("requests")]
    changes: list[ConnectionState] = []
    struck._on_change = changes.append
    lost_before = 0

    def is_felt() -> bool:
        return not struck.is_connected or proxy.lost_bytes > lost_before

    async with relaying(database, struck) as relay, consuming(struck, effects.handle):
        for turn, fault in enumerate(faults):
            await eventually(lambda: struck.is_connected)
            lost_before, ended_before = proxy.lost_bytes, changes.count(ConnectionState.DISCONNECTED)
            await store(database, 100, first=100 * turn)
            relay.wake()
            await publish(direct, 50, first=50 * turn)
            with fault():
                await eventually(is_felt)
            proxy.cut()
            await eventually(lambda before=ended_before: changes.count(ConnectionState.DISCONNECTED) > before)
        await everything_is_sent_once(database, direct, 300)
        await eventually(lambda: effects.calls - effects.duplicates == 150)
        await everything_took_effect_once(database, direct, 150)
