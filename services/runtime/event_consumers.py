"""The consumers of inventory events of one worker: they decode, handle, park and dead-letter events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial

from services.base.context import HEADER, begin
from services.base.loops import Loop
from services.base.settings import USUAL_INSTALLATION
from services.domain.orders import events
from services.messaging.consumer import Delivery, Handler, PullConsumer, traced_handler
from services.messaging.dead_letters import DeadLetters
from services.messaging.durable_consumer import Lag
from services.messaging.envelope import NotYet, decode, place_in_stream
from services.messaging.jetstream import INSTALLATION, by_stream
from services.messaging.jetstream import Connection as NatsConnection
from services.messaging.parked_events import EventParking
from services.messaging.topology import Topology
from services.metrics.registry import Metrics
from services.orders.inventory_events import EARLY, InventoryEvents
from services.tracing.port import Tracer
from services.unit_of_work import Recorded
from state import deduplication, orders
from state.engine.database import Database

EARLIER_DURABLE = "order-service"
"""Earlier name of the durable consumer, without the installation."""


class EventConsumers:
    """Opens the connection, finds the streams of the inventory events and runs one consumer per stream."""

    def __init__(
        self,
        nats: NatsConnection,
        database: Database,
        inbound: InventoryEvents,
        dead_letters: DeadLetters,
        metrics: Metrics,
        topology: Topology,
        installation: str,
        owner: str,
        clock: Callable[[], datetime],
        tracer: Tracer | None,
    ) -> None:
        """``owner`` is the identity of the database, ``installation`` the setting HOLDFAST_INSTALLATION."""
        self._database = database
        self._installation = installation
        self._durable = f"{EARLIER_DURABLE}-{installation}"
        self._succeeds = EARLIER_DURABLE if installation == USUAL_INSTALLATION else None
        self._owner = owner
        self._nats = nats
        self._inbound = inbound
        self._dead_letters = dead_letters
        self._parking = EventParking(
            database,
            clock,
            dead_letters,
            inbound.handle,
            early=EARLY,
            on_outcome=metrics.event_consumed,
            on_failure=partial(metrics.background_failed, "parked_events"),
        )
        self.parked = Loop("parked_events", self._parking.run_round, pause_seconds=0.5)
        """Handles parked events."""
        self._metrics = metrics
        self._topology = topology
        self._groups: dict[str, list[str]] = {}
        self._consumers: list[PullConsumer] = []
        self._starting: asyncio.Future[None] | None = None
        self._stopping = False
        self._handle: Handler = self._handle_untraced
        if tracer is not None:
            self._handle = traced_handler(self._apply, tracer, self._traceparent_of)

    async def run(self) -> None:
        """Consume until stop(); waits for NATS without limit."""
        self._starting = asyncio.ensure_future(self._start())
        try:
            await self._starting
        except asyncio.CancelledError:
            if self._stopping:
                return
            raise
        while not self._stopping and not self._nats.is_closed:
            # Consumers end when the subjects have moved to other streams; they are started again for these streams.
            self._groups = by_stream(self._topology.placement, events.INCOMING)
            self._consumers = [self._consumer(stream, subjects) for stream, subjects in self._groups.items()]
            await asyncio.gather(*(consumer.run() for consumer in self._consumers))

    def stop(self) -> None:
        self._stopping = True
        if self._starting is not None:
            self._starting.cancel()
        for consumer in self._consumers:
            consumer.stop()

    @property
    def problem(self) -> str | None:
        """Describes which other installation shares or changed a consumer of this one; None without a conflict."""
        return next((consumer.problem for consumer in self._consumers if consumer.problem), None)

    def after_commit(self, recorded: Recorded) -> None:
        """Handle the parked events of an order that has changed its status."""
        if recorded.became and self._parking.order_moved(recorded.order.order_id):
            self.parked.wake()

    async def lags(self) -> list[Lag]:
        """Lag of the consumers, shared by all replicas; empty while NATS does not answer."""
        self._follow_streams()
        return [lag for consumer in self._consumers if (lag := await consumer.lag()) is not None]

    async def _start(self) -> None:
        await self._nats.open()
        await self._topology.watch()
        while not self._topology.placement:
            await asyncio.sleep(0.5)
            await self._topology.watch()

    async def _recover(self) -> None:
        await self._topology.recover()
        self._follow_streams()

    def _follow_streams(self) -> None:
        """Restart the consumers if the streams now store other events than before."""
        if self._groups and by_stream(self._topology.placement, events.INCOMING) != self._groups:
            for consumer in self._consumers:
                consumer.stop()

    def _consumer(self, stream: str, subjects: list[str]) -> PullConsumer:
        return PullConsumer(
            self._nats,
            stream=stream,
            durable=self._durable,
            owner=self._owner,
            succeeds=self._succeeds,
            subjects=subjects,
            handle=self._handle,
            dead_letter=self._bury,
            set_aside=self._parking.set_aside,
            on_outcome=self._count,
            on_failure=partial(self._metrics.background_failed, "consuming"),
            recover=self._recover,
        )

    def _handle_untraced(self, delivery: Delivery) -> Awaitable[None]:
        # Continues the trace of the sender; each delivery runs in its own task.
        begin(delivery.headers.get(HEADER))
        return self._apply(delivery)

    async def _apply(self, delivery: Delivery) -> None:
        """Decode and handle an event, or park it until its order is stored; raises PoisonEvent.

        An event of another installation about an unknown order is ignored, because that installation handles it.
        """
        event = decode(
            delivery.payload,
            subject=delivery.subject,
            headers=delivery.headers,
            fallback_id=place_in_stream(delivery.stream, delivery.incarnation, delivery.stream_seq),
        )
        try:
            outcome = await self._inbound.handle(event)
        except NotYet as error:
            if delivery.headers.get(INSTALLATION, self._installation) == self._installation:
                await self._parking.wait_for_order(delivery, str(error))
                outcome = "parked"
            else:
                outcome = deduplication.IGNORED
        self._metrics.event_consumed(event.type, outcome)

    async def _traceparent_of(self, order_id: str) -> str | None:
        return await self._database.read(lambda connection: orders.traceparent(connection, order_id))

    async def _bury(self, delivery: Delivery, reason: str) -> None:
        await self._dead_letters.keep(
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
        # _apply counts handled deliveries, because it has their outcome.
        if outcome != "handled":
            self._metrics.event_consumed(subject, outcome)
