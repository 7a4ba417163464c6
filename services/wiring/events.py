"""What ties the events to the database: the relay's outbox, the consumers, and what the heartbeat says of both."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import asdict
from typing import Any

from services.clock import utc_now
from services.domain import events
from services.loops import Loop
from services.messaging.consumer import Delivery, Handler, Lag, PullConsumer
from services.messaging.dead_letters import DeadLetterOffice
from services.messaging.envelope import NotYet, decode, place_in_stream
from services.messaging.jetstream import Connection as NatsConnection
from services.messaging.jetstream import by_stream, streams_when_possible
from services.messaging.parking import EventParking
from services.messaging.relay import OutboxRelay, OutboxRow
from services.monitoring.metrics import Metrics
from services.orders.inbound import EARLY, InventoryEvents
from services.traceparent import HEADER, begin
from state import outbox
from state.database import Database

DURABLE = "order-service"


class MessagingFacts:
    """What the heartbeat says of the events: how far the consumers are behind, and what hinders the relay."""

    def __init__(self) -> None:
        self.relay: OutboxRelay | None = None
        self.consuming: Consuming | None = None
        self._lags: list[dict[str, Any]] = []

    async def sample(self) -> bool:
        """Ask NATS how far the consumers are; one round of a Loop. While it is away the last answer stays."""
        if self.consuming is not None:
            at = utc_now().isoformat()
            self._lags = [{**asdict(lag), "at": at} for lag in await self.consuming.lags()] or self._lags
        return False

    def facts(self) -> dict[str, Any]:
        return {"consumers": self._lags, "relayProblem": self.relay.problem if self.relay else None}


class SqlOutbox:
    """The relay's port over the outbox table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def settle_and_claim(self, settled: Any, failed: Any, limit: int) -> list[OutboxRow]:
        rows = await self._database.write(
            lambda c: outbox.settle_and_claim(c, list(settled), list(failed), limit, utc_now())
        )
        return [OutboxRow(*row) for row in rows]


class Consuming:
    """The consumers of inventory events: opens the connection, finds the streams, runs one consumer per stream."""

    def __init__(
        self,
        nats: NatsConnection,
        database: Database,
        inbound: InventoryEvents,
        office: DeadLetterOffice,
        metrics: Metrics,
    ) -> None:
        self._nats = nats
        self._inbound = inbound
        self._office = office
        self._parking = EventParking(
            database, utc_now, office, inbound.handle, early=EARLY, on_outcome=metrics.event_consumed
        )
        self.parked = Loop("parked_events", self._parking.run_round, pause_seconds=0.5)
        """Works off what is parked."""
        self._metrics = metrics
        self._consumers: list[PullConsumer] = []
        self._starting: asyncio.Future[dict[str, str]] | None = None
        self._stopping = False
        self.handle: Handler = self._handle
        """What each delivery is given to."""

    async def run(self) -> None:
        """Consume until stop(); waits for NATS for as long as it takes."""
        self._starting = asyncio.ensure_future(self._start())
        try:
            placement = await self._starting
        except asyncio.CancelledError:
            if self._stopping:
                return
            raise
        groups = by_stream(placement, events.INCOMING)
        self._consumers = [self._consumer(stream, subjects) for stream, subjects in groups.items()]
        await asyncio.gather(*(consumer.run() for consumer in self._consumers))

    def stop(self) -> None:
        self._stopping = True
        if self._starting is not None:
            self._starting.cancel()
        for consumer in self._consumers:
            consumer.stop()

    def order_moved(self, order_id: str) -> None:
        """An order has changed: what waited for it is handled now."""
        if self._parking.order_moved(order_id):
            self.parked.wake()

    async def lags(self) -> list[Lag]:
        """How far the consumers of all replicas are behind; none while NATS does not say."""
        return [lag for consumer in self._consumers if (lag := await consumer.lag()) is not None]

    async def _start(self) -> dict[str, str]:
        await self._nats.open()
        return await streams_when_possible(self._nats)

    def _consumer(self, stream: str, subjects: list[str]) -> PullConsumer:
        return PullConsumer(
            self._nats,
            stream=stream,
            durable=DURABLE,
            subjects=subjects,
            handle=self.handle,
            dead_letter=self._bury,
            set_aside=self._parking.set_aside,
            on_outcome=self._count,
        )

    def _handle(self, delivery: Delivery) -> Awaitable[None]:
        # The sender's trace is taken on as it came; every delivery runs in a task of its own.
        begin(delivery.headers.get(HEADER))
        return self.apply(delivery)

    async def apply(self, delivery: Delivery) -> None:
        """Read an event and let it take effect, or park it until its order is here; raises PoisonEvent."""
        event = decode(
            delivery.payload,
            subject=delivery.subject,
            headers=delivery.headers,
            fallback_id=place_in_stream(delivery.stream, delivery.incarnation, delivery.stream_seq),
        )
        try:
            outcome = await self._inbound.handle(event)
        except NotYet as error:
            await self._parking.wait_for_order(delivery, str(error))
            outcome = "parked"
        self._metrics.event_consumed(event.type, outcome)

    async def _bury(self, delivery: Delivery, reason: str) -> None:
        await self._office.keep(
            stream=delivery.stream,
            stream_seq=delivery.stream_seq,
            subject=delivery.subject,
            payload=delivery.payload,
            headers=delivery.headers,
            reason=reason,
            attempts=delivery.num_delivered,
            incarnation=delivery.incarnation,
        )

    def _count(self, subject: str, outcome: str) -> None:
        # Handled deliveries are counted above, where their effect is known.
        if outcome != "handled":
            self._metrics.event_consumed(subject, outcome)
