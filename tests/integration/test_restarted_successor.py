"""A durable that took over the position of an earlier one is found again by the next start."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

from services.domain.orders.events import CONFIRMED
from services.messaging.consumer import PullConsumer
from services.messaging.durable_consumer import ConsumerSettings
from services.messaging.jetstream import ensure_streams
from tests.support.consumers import Handlers
from tests.support.nats_server import eventually

STREAM = "INVENTORY_EVENTS"


@asynccontextmanager
async def reading(connection, durable, **options):
    handled: list[bytes] = []

    async def handle(delivery):
        handled.append(delivery.payload)

    settings = ConsumerSettings(stream=STREAM, durable=durable, subjects=[CONFIRMED], **options)
    consumer = PullConsumer(connection, settings, Handlers(handle))
    running = asyncio.create_task(consumer.run())
    yield handled
    consumer.stop()
    await running


async def test_a_durable_that_took_over_goes_on_after_a_restart(connection):
    await ensure_streams(connection.js)
    async with reading(connection, "order-service") as handled:
        await connection.js.publish(CONFIRMED, b"before")
        await eventually(lambda: handled == [b"before"])
        await eventually(lambda: _is_settled(connection, "order-service"))
    for payload in (b"first start", b"second start"):
        async with reading(connection, "order-service-default", succeeds="order-service", owner="us") as handled:
            await connection.js.publish(CONFIRMED, payload)
            await eventually(lambda handled=handled, payload=payload: handled == [payload])
            await eventually(lambda: _is_settled(connection, "order-service-default"))


async def _is_settled(connection, durable):
    info = await connection.js.consumer_info(STREAM, durable)
    return not info.num_ack_pending and not info.num_pending
