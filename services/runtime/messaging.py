"""Events of one worker: connection, streams, outbox relay, consumers and their status."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from services.base.context import HEADER, begin, received
from services.base.identity import new_id
from services.base.loops import Loop
from services.base.settings import USUAL_INSTALLATION
from services.domain.orders import events
from services.messaging.consumer import Delivery, DeliveryHandler, Outcome, PullConsumer
from services.messaging.dead_letters import DeadLetters, order_id_in
from services.messaging.durable_consumer import ConsumerSettings
from services.messaging.envelope import NotYet, decode_message
from services.messaging.jetstream import INSTALLATION, Connection, by_stream
from services.messaging.outbox_relay import OutboxRelay, Publisher, SqlOutbox, worst_kind
from services.messaging.parked_events import EventParking
from services.messaging.publisher import JetStreamPublisher, TracedPublisher
from services.messaging.topology import EventRecovery, Topology
from services.orders.inventory_events import EARLY, InventoryEvents
from services.runtime.parts import Parts, Seam
from services.tracing.port import Tracer
from services.unit_of_work import Recorded
from state import deduplication, orders, replicas

EARLIER_DURABLE = "order-service"
"""Earlier name of the durable consumer, without the installation."""


@dataclass(frozen=True, slots=True)
class Messaging:
    """The messaging parts of a worker, connected to the database and not yet running."""

    nats: Connection
    topology: Topology
    relay: OutboxRelay
    consumers: EventConsumers
    dead_letters: DeadLetters

    @property
    def loops(self) -> list[Loop]:
        """The background loops; the relay and the consumers run until they are stopped."""
        return [
            self.consumers.parked,
            Loop("topology", self.topology.watch, pause_seconds=1.0),
            Loop("consumer_lag", self.consumers.sample_lags, pause_seconds=5.0),
        ]

    def facts(self) -> dict[str, Any]:
        """The facts about events in the heartbeat."""
        problem = self.relay.problem
        return {
            "natsConnected": self.nats.is_connected,
            "consumers": self.consumers.lags,
            "consumersProblem": self.consumers.problem,
            "relayProblem": problem.reason if problem else None,
            "relayTrouble": problem.kind if problem else None,
        }

    def readiness(self) -> dict[str, bool | str]:
        """Whether events are stored and published, and the reason when they are not."""
        problems = [problem for problem in (self.topology.problem, self.relay.problem) if problem is not None]
        found: dict[str, bool | str] = {
            "nats": self.nats.is_connected,
            "streams": self.topology.problem is None,
            "publishing": self.relay.problem is None,
        }
        if kind := worst_kind(problems):
            found |= {"trouble": kind.value, "reason": problems[0].reason}
        if self.consumers.problem:
            # Both installations still handle a part of the events, so this installation stays ready.
            found["warning"] = self.consumers.problem
        return found


async def build_messaging(parts: Parts, stack: AsyncExitStack) -> Messaging:
    """Build the messaging parts; ``stack`` closes the connection.

    Commits of the context wake the relay and the loop of parked events.
    """
    settings, database, clock, metrics = parts.settings, parts.database, parts.clock, parts.metrics
    relay_woken = asyncio.Event()
    nats = parts.border(
        Seam.BROKER,
        Connection(settings.nats_servers, name=parts.replica, on_change=lambda _: relay_woken.set()),
    )
    stack.push_async_callback(nats.close)
    confirmation_timeout = timedelta(seconds=settings.confirmation_timeout_seconds)
    topology = Topology(nats, EventRecovery(database, confirmation_timeout, relay_woken.set, clock).streams_made)
    publisher: Publisher = parts.border(
        Seam.PUBLISHER,
        JetStreamPublisher(nats, recover=topology.recover, installation=settings.holdfast_installation),
    )
    relay = OutboxRelay(
        SqlOutbox(database, clock),
        TracedPublisher(publisher, parts.tracer) if parts.tracer else publisher,
        on_published=metrics.event_published,
        on_failure=partial(metrics.background_failed, "relay"),
        woken=relay_woken,
    )
    inbound = InventoryEvents(parts.context)
    dead_letters = DeadLetters(database, clock, new_id, inbound.handle)
    owner = await database.write(lambda c: replicas.decided_once(c, "installation", new_id(), clock()))
    consumers = EventConsumers(parts, nats, topology, inbound, dead_letters, owner)

    def after_commit(recorded: Recorded) -> None:
        consumers.after_commit(recorded)
        if recorded.stored_events:
            relay.wake()

    parts.context.after_commit.append(after_commit)
    return Messaging(nats, topology, relay, consumers, dead_letters)


class EventConsumers(DeliveryHandler):
    """Opens the connection, finds the streams of the inventory events and runs one consumer per stream.

    The consumers decode, handle, park and dead-letter events.
    """

    def __init__(
        self,
        parts: Parts,
        nats: Connection,
        topology: Topology,
        inbound: InventoryEvents,
        dead_letters: DeadLetters,
        owner: str,
    ) -> None:
        """``owner`` is the identity of the database."""
        self._database = parts.database
        self._metrics = parts.metrics
        self._clock = parts.clock
        self._installation = parts.settings.holdfast_installation
        self._owner = owner
        self._nats = nats
        self._inbound = inbound
        self._dead_letters = dead_letters
        self._parking = EventParking(
            parts.database,
            parts.clock,
            dead_letters,
            inbound.handle,
            early=EARLY,
            on_outcome=parts.metrics.event_consumed,
            on_failure=partial(parts.metrics.background_failed, "parked_events"),
        )
        self.parked = Loop("parked_events", self._parking.run_round, pause_seconds=0.5)
        """Handles parked events."""
        self.lags: list[dict[str, Any]] = []
        """Lag of each consumer at the last time when NATS answered; shared by all replicas."""
        self._topology = topology
        self._groups: dict[str, list[str]] = {}
        self._consumers: list[PullConsumer] = []
        self._starting: asyncio.Future[Mapping[str, str]] | None = None
        self._stopping = False
        self._tracer = parts.tracer

    async def run(self) -> None:
        """Consume until stop(); waits for NATS without limit."""
        self._starting = asyncio.ensure_future(self._topology.open())
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

    async def sample_lags(self) -> bool:
        """Read the lags from NATS; one round of a Loop."""
        self._follow_streams()
        at = self._clock().isoformat()
        lags = [lag for consumer in self._consumers if (lag := await consumer.lag()) is not None]
        self.lags = [{**asdict(lag), "at": at} for lag in lags] or self.lags
        return False

    def _follow_streams(self) -> None:
        """Restart the consumers if the streams now store other events than before."""
        if self._groups and by_stream(self._topology.placement, events.INCOMING) != self._groups:
            for consumer in self._consumers:
                consumer.stop()

    def _consumer(self, stream: str, subjects: list[str]) -> PullConsumer:
        settings = ConsumerSettings(
            stream=stream,
            durable=f"{EARLIER_DURABLE}-{self._installation}",
            subjects=subjects,
            owner=self._owner,
            succeeds=EARLIER_DURABLE if self._installation == USUAL_INSTALLATION else None,
        )
        return PullConsumer(self._nats, settings, self)

    def handle(self, delivery: Delivery) -> Awaitable[None]:
        """Handle the event in the trace of its sender, else in that of its order; raises PoisonEvent."""
        if self._tracer is not None:
            return traced(self._tracer, delivery, self._apply, self._traceparent_of)
        # Each delivery runs in its own task.
        begin(delivery.headers.get(HEADER))
        return self._apply(delivery)

    async def recover(self) -> None:
        await self._topology.recover()
        self._follow_streams()

    async def set_aside(self, delivery: Delivery, reason: str) -> bool:
        return await self._parking.set_aside(delivery, reason)

    async def dead_letter(self, delivery: Delivery, reason: str) -> None:
        await self._dead_letters.keep(delivery, reason, attempts=delivery.num_delivered)

    def count(self, subject: str, outcome: Outcome) -> None:
        # _apply counts handled deliveries, because it has their outcome.
        if outcome != "handled":
            self._metrics.event_consumed(subject, outcome)

    def failed(self) -> None:
        self._metrics.background_failed("consuming")

    async def _apply(self, delivery: Delivery) -> None:
        """Decode and handle an event, or park it until its order is stored; raises PoisonEvent.

        An event of another installation about an unknown order is ignored, because that installation handles it.
        """
        event = decode_message(delivery)
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


async def traced(
    tracer: Tracer,
    delivery: Delivery,
    handle: Callable[[Delivery], Awaitable[None]],
    traceparent_of: Callable[[str], Awaitable[str | None]],
) -> None:
    """Handle the delivery in a span of the trace that its header names, else of the order's own trace."""
    order_id = order_id_in(delivery.payload)
    parent = received(delivery.headers.get(HEADER))
    if parent is None and order_id is not None:
        parent = await traceparent_of(order_id)
    with tracer.handling(delivery.subject, delivery.stream_seq, order_id, parent):
        await handle(delivery)
