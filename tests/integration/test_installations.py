"""Two installations on one broker: each has consumers of its own, and one that shares another's says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from services.base.settings import Settings
from services.domain.errors import ConfigurationError
from services.domain.orders import events
from services.messaging.consumer import Delivery, PullConsumer
from services.messaging.durable_consumer import ConsumerSettings
from services.messaging.jetstream import INVENTORY_EVENTS, Connection, ensure_streams
from state import replicas
from state.engine.database import Database
from tests.support.consumers import Handlers
from tests.support.fakes import START
from tests.support.nats_server import eventually

SUBJECT = events.CONFIRMED
STREAM = INVENTORY_EVENTS.name


class Reader:
    """A consumer, and what it was given."""

    def __init__(self, connection: Connection, durable: str, owner: str, succeeds: str | None = None) -> None:
        self.payloads: list[bytes] = []
        self.consumer = PullConsumer(
            connection,
            ConsumerSettings(
                stream=INVENTORY_EVENTS.name, durable=durable, subjects=[SUBJECT], owner=owner, succeeds=succeeds
            ),
            Handlers(self._handle),
        )

    async def _handle(self, delivery: Delivery) -> None:
        self.payloads.append(delivery.payload)


@asynccontextmanager
async def reading(*readers: Reader) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(reader.consumer.run()) for reader in readers]
    try:
        yield
    finally:
        for reader in readers:
            reader.consumer.stop()
        await asyncio.gather(*tasks)


@pytest.fixture(autouse=True)
async def _streams(connection: Connection) -> None:
    await ensure_streams(connection.js)


async def publish(connection: Connection, *payloads: bytes) -> None:
    for payload in payloads:
        await connection.js.publish(SUBJECT, payload)


async def test_every_installation_gets_every_event(connection: Connection) -> None:
    one, other = Reader(connection, "order-service-one", "a"), Reader(connection, "order-service-other", "b")
    async with reading(one, other):
        await publish(connection, b"1", b"2", b"3")
        await eventually(lambda: len(one.payloads) == len(other.payloads) == 3)
    assert (one.consumer.problem, other.consumer.problem) == (None, None)


async def test_a_durable_that_another_database_uses_is_noticed_by_the_one_that_was_first(
    connection: Connection,
) -> None:
    first, second = Reader(connection, "order-service-default", "a"), Reader(connection, "order-service-default", "b")
    async with reading(first):
        await publish(connection, b"1")
        await eventually(lambda: first.payloads == [b"1"])
        assert await first.consumer.lag()
        assert first.consumer.problem is None
        async with reading(second):
            await eventually(lambda: second.consumer.problem is not None)
            await first.consumer.lag()
            assert first.consumer.problem == "consumer order-service-default belongs to installation b"
            # The database that came last is the one that goes on: the first may be a copy that was restored.
            await second.consumer.lag()
            assert second.consumer.problem is None


async def test_the_durable_of_an_earlier_name_is_succeeded_without_a_gap(connection: Connection) -> None:
    before = Reader(connection, "order-service", "")
    async with reading(before):
        await publish(connection, b"1", b"2")
        await eventually(lambda: before.payloads == [b"1", b"2"])
        await eventually(lambda: _is_settled(connection))
    await publish(connection, b"3")
    after = Reader(connection, "order-service-default", "a", succeeds="order-service")
    async with reading(after):
        await eventually(lambda: after.payloads == [b"3"])
    assert [known.name for known in await connection.js.consumers_info(STREAM)] == ["order-service-default"]


async def _is_settled(connection: Connection) -> bool:
    return (await connection.js.consumer_info(STREAM, "order-service")).ack_floor.stream_seq == 2


async def test_the_identity_of_a_database_is_decided_once(database: Database) -> None:
    one, other = [
        await database.write(lambda c, proposal=proposal: replicas.decided_once(c, "installation", proposal, START))
        for proposal in ("first", "second")
    ]
    assert (one, other) == ("first", "first")


@pytest.mark.parametrize("name", ["", "a b", "a.b", "x" * 33, "größe", "a*"])
def test_a_name_that_no_consumer_can_carry_stops_the_start(name: str) -> None:
    with pytest.raises(ConfigurationError, match="HOLDFAST_INSTALLATION"):
        Settings.load(holdfast_installation=name)
