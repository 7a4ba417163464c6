"""Consumers of a real NATS server: one whose handler is set by the test, and one that parks events."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
from sqlalchemy import func, select

from services.domain.orders.events import CONFIRMATION_FAILED, CONFIRMED
from services.messaging.consumer import Delivery, PullConsumer
from services.messaging.envelope import NotYet, decode, place_in_stream
from services.messaging.jetstream import Connection
from services.messaging.parked_events import EventParking
from services.orders.inventory_events import EARLY
from state import dead_letters
from state.tables import parked_events as table

STREAM, DURABLE = "INVENTORY_EVENTS", "order-service"


class Desk:
    """Records the deliveries of a consumer; the test sets the answers."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.dead: list[tuple[Delivery, str]] = []
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.answer: Callable[[Delivery], None] = lambda _: None
        self.bury: Callable[[Delivery], None] = lambda _: None

    async def handle(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)
        self.answer(delivery)

    async def dead_letter(self, delivery: Delivery, reason: str) -> None:
        self.bury(delivery)
        self.dead.append((delivery, reason))

    def count(self, subject: str, outcome: str) -> None:
        self.outcomes[subject, outcome] += 1

    @property
    def payloads(self) -> list[bytes]:
        return [delivery.payload for delivery in self.deliveries]


@asynccontextmanager
async def consuming(connection: Connection, desk: Any, **options: Any) -> AsyncIterator[PullConsumer]:
    consumer = PullConsumer(
        connection,
        **{
            "stream": STREAM,
            "durable": DURABLE,
            "subjects": [CONFIRMED, CONFIRMATION_FAILED],
            "handle": desk.handle,
            "dead_letter": desk.dead_letter,
            "on_outcome": desk.count,
            "delays_seconds": (0.05,),
            **options,
        },
    )
    running = asyncio.create_task(consumer.run())
    yield consumer
    consumer.stop()
    async with asyncio.timeout(10):
        await running


def fail(*_: Any) -> None:
    raise RuntimeError("no luck")


class ParkingWorld:
    """A shop with its parking; ``ends`` has the outcome of each delivery, in their order."""

    def __init__(self, shop, **options):
        self.shop = shop
        self.fails = lambda event: False
        self.ends: list[tuple[str, str]] = []
        self.parking = EventParking(
            shop.real_database, shop.clock, shop.dead_letters, self.apply_event, early=EARLY,
            on_outcome=lambda subject, outcome: self.ends.append((subject, outcome)), randomness=lambda: 0.5, **options,
        )  # fmt: skip

    async def apply_event(self, event):
        if self.fails(event):
            raise RuntimeError("no luck")
        return await self.shop.inbound.handle(event)

    async def apply(self, delivery: Delivery) -> None:
        place = place_in_stream(delivery.stream, delivery.incarnation, delivery.stream_seq)
        event = decode(delivery.payload, subject=delivery.subject, headers=delivery.headers, fallback_id=place)
        try:
            self.ends.append((event.data["orderId"], await self.apply_event(event)))
        except NotYet as error:
            await self.parking.wait_for_order(delivery, str(error))
            self.ends.append((event.data["orderId"], "parked"))

    async def bury(self, delivery, reason):
        await self.shop.dead_letters.keep(
            stream=delivery.stream, incarnation=delivery.incarnation, stream_seq=delivery.stream_seq,
            subject=delivery.subject, payload=delivery.payload, headers=delivery.headers, reason=reason, attempts=1,
        )  # fmt: skip

    @asynccontextmanager
    async def consuming(self, connection):
        consumer = PullConsumer(
            connection, stream=STREAM, durable="order-service", subjects=[CONFIRMED], handle=self.apply,
            dead_letter=self.bury, set_aside=self.parking.set_aside,
        )  # fmt: skip
        running = asyncio.create_task(consumer.run())
        yield
        consumer.stop()
        await running

    async def parked(self):
        return await self.shop.real_database.read(lambda c: c.scalar(select(func.count()).select_from(table)))

    async def dead_letters(self):
        return await self.shop.real_database.read(dead_letters.page)


def delivery(order_id="later", reservation_id="reservation-1", seq=1, **more):
    payload = orjson.dumps({"orderId": order_id, "reservationId": reservation_id, **more})
    return Delivery(CONFIRMED, payload, {}, STREAM, seq, 1, False, "2026-01-01T00:00:00+00:00")
