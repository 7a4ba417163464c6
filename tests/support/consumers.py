"""Consumers of a real NATS server: handlers made of functions of a test, and a shop that parks events."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
from sqlalchemy import func, select

from services.domain.calls import Randomness
from services.domain.orders.events import CONFIRMATION_FAILED, CONFIRMED
from services.messaging.consumer import Delivery, DeliveryHandler, Outcome, PullConsumer
from services.messaging.durable_consumer import ConsumerSettings
from services.messaging.envelope import NotYet, decode_message
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
        self.keep_dead_letter: Callable[[Delivery], None] = lambda _: None

    async def handle(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)
        self.answer(delivery)

    async def dead_letter(self, delivery: Delivery, reason: str) -> None:
        self.keep_dead_letter(delivery)
        self.dead.append((delivery, reason))

    def count(self, subject: str, outcome: str) -> None:
        self.outcomes[subject, outcome] += 1

    @property
    def payloads(self) -> list[bytes]:
        return [delivery.payload for delivery in self.deliveries]


Handle = Callable[[Delivery], Awaitable[None]]


async def no_dead_letter(delivery: Delivery, reason: str) -> None:
    raise AssertionError(f"{delivery.subject} was given up: {reason}")


class Handlers(DeliveryHandler):
    """A DeliveryHandler of functions; a dead letter fails the test unless a function takes it."""

    def __init__(
        self,
        handle: Handle,
        dead_letter: Callable[[Delivery, str], Awaitable[None]] = no_dead_letter,
        set_aside: Callable[[Delivery, str], Awaitable[bool]] | None = None,
        recover: Callable[[], Awaitable[None]] | None = None,
        count: Callable[[str, Outcome], None] = lambda _subject, _outcome: None,
    ) -> None:
        self._handle, self._dead_letter, self._count = handle, dead_letter, count
        self._set_aside, self._recover = set_aside, recover

    def handle(self, delivery: Delivery) -> Awaitable[None]:
        return self._handle(delivery)

    async def dead_letter(self, delivery: Delivery, reason: str) -> None:
        await self._dead_letter(delivery, reason)

    async def set_aside(self, delivery: Delivery, reason: str) -> bool:
        return self._set_aside is not None and await self._set_aside(delivery, reason)

    async def recover(self) -> None:
        if self._recover is not None:
            await self._recover()

    def count(self, subject: str, outcome: Outcome) -> None:
        self._count(subject, outcome)


@asynccontextmanager
async def consuming(
    connection: Connection,
    desk: Desk,
    *,
    handle: Handle | None = None,
    dead_letter: Callable[[Delivery, str], Awaitable[None]] | None = None,
    set_aside: Callable[[Delivery, str], Awaitable[bool]] | None = None,
    randomness: Randomness = random.random,
    **settings: Any,
) -> AsyncIterator[PullConsumer]:
    usual = {"subjects": [CONFIRMED, CONFIRMATION_FAILED], "delays_seconds": (0.05,)}
    consumer = PullConsumer(
        connection,
        ConsumerSettings(stream=STREAM, durable=DURABLE, **(usual | settings)),
        Handlers(handle or desk.handle, dead_letter or desk.dead_letter, set_aside, count=desk.count),
        randomness,
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
        event = decode_message(delivery)
        try:
            self.ends.append((event.data["orderId"], await self.apply_event(event)))
        except NotYet as error:
            await self.parking.wait_for_order(delivery, str(error))
            self.ends.append((event.data["orderId"], "parked"))

    async def keep_dead_letter(self, delivery, reason):
        await self.shop.dead_letters.keep(delivery, reason, attempts=1)

    @asynccontextmanager
    async def consuming(self, connection):
        consumer = PullConsumer(
            connection,
            ConsumerSettings(stream=STREAM, durable=DURABLE, subjects=[CONFIRMED]),
            Handlers(self.apply, self.keep_dead_letter, self.parking.set_aside),
        )
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
