"""What ties the events to the database: the relay's outbox, the consumers, and what the heartbeat says of both."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from services.base.clock import utc_now
from services.base.context import HEADER, begin
from services.base.loops import Loop
from services.base.settings import USUAL_INSTALLATION
from services.domain.orders import events
from services.domain.orders.model import OrderStatus
from services.messaging.consumer import Delivery, Handler, PullConsumer
from services.messaging.dead_letters import DeadLetters
from services.messaging.durable_consumer import Lag
from services.messaging.envelope import NotYet, decode, place_in_stream
from services.messaging.jetstream import INSTALLATION, by_stream
from services.messaging.jetstream import Connection as NatsConnection
from services.messaging.outbox_relay import OutboxRelay, OutboxRow, Undeliverable
from services.messaging.parked_events import EventParking
from services.messaging.publish_problem import PublishProblem
from services.messaging.topology import Topology
from services.metrics.registry import Metrics
from services.orders.inventory_events import EARLY, InventoryEvents
from state import inbox, orders, outbox
from state.engine.database import Database

logger = logging.getLogger("holdfast.events")

EARLIER_DURABLE = "order-service"
"""Name of the durable before it carried the installation."""

SENT_AGAIN = tuple(subject for subject in events.OUTGOING if subject != events.CONFIRM_REQUESTED)
"""Requests for confirmation are made anew by the sweeper."""

KEPT = timedelta(days=1)
"""Events published longer before their stream was made are taken as read."""

STEP = 500
"""Rows of one transaction."""


class MessagingFacts:
    """What the heartbeat says of the events: how far the consumers are behind, and what hinders the relay."""

    def __init__(self, clock: Callable[[], datetime] = utc_now) -> None:
        self._clock = clock
        self.relay: OutboxRelay | None = None
        self.consuming: Consuming | None = None
        self.topology: Topology | None = None
        self._lags: list[dict[str, Any]] = []

    def found(self, topology: Topology, relay: OutboxRelay, consuming: Consuming) -> None:
        """The parts to speak of, which are built after this."""
        self.topology, self.relay, self.consuming = topology, relay, consuming

    @property
    def streams_problem(self) -> PublishProblem | None:
        """Which streams are missing at the broker, or what hinders us after they were; None when nothing does."""
        return self.topology.problem if self.topology else None

    @property
    def consumers_problem(self) -> str | None:
        """Who shares or changed a consumer of ours; None when nobody does."""
        return self.consuming.problem if self.consuming else None

    @property
    def publish_problem(self) -> PublishProblem | None:
        """Why our events are not published now; None when they are."""
        return self.relay.problem if self.relay else None

    async def sample(self) -> bool:
        """Ask NATS how far the consumers are; one round of a Loop. While it is away the last answer stays."""
        if self.consuming is not None:
            at = self._clock().isoformat()
            self._lags = [{**asdict(lag), "at": at} for lag in await self.consuming.lags()] or self._lags
        return False

    def facts(self) -> dict[str, Any]:
        problem = self.publish_problem
        return {
            "consumers": self._lags,
            "consumersProblem": self.consumers_problem,
            "relayProblem": problem.reason if problem else None,
            "relayTrouble": problem.kind if problem else None,
        }


class SqlOutbox:
    """The relay's port over the outbox table."""

    def __init__(self, database: Database, clock: Callable[[], datetime] = utc_now) -> None:
        self._database = database
        self._clock = clock

    async def settle_and_claim(self, settled: Any, failed: Any, limit: int) -> list[OutboxRow]:
        never = [(row_id, str(reason)) for row_id, reason in failed if isinstance(reason, Undeliverable)]
        again = [(row_id, reason) for row_id, reason in failed if not isinstance(reason, Undeliverable)]
        rows = await self._database.write(
            lambda c: outbox.settle_and_claim(c, list(settled), again, limit, self._clock(), undeliverable=never)
        )
        return [OutboxRow(*row) for row in rows]


class LostEvents:
    """Has sent again what a stream took that is no more: events by their rows, requests under ids of their own."""

    def __init__(
        self,
        database: Database,
        confirmation_timeout: timedelta,
        wake: Callable[[], None],
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._clock = clock
        self._database = database
        self._confirmation_timeout = confirmation_timeout
        self._wake = wake

    async def streams_made(self, at: datetime) -> None:
        """The newest of our streams was made at this time; calling it again for the same one does nothing more."""
        while await self._database.write(lambda c: outbox.send_again(c, SENT_AGAIN, at - KEPT, at, STEP)) == STEP:
            self._wake()
        # An answer may be lost as well as the request: the Inventory Service knows the old id and would be silent.
        due_before = at + self._confirmation_timeout
        asked = await self._database.write(
            lambda c: orders.ask_confirmation_now(c, OrderStatus.PLACED, due_before, self._clock())
        )
        if asked:
            logger.warning("confirmations_asked_again", extra={"orders": asked})
        self._wake()


class Consuming:
    """The consumers of inventory events: opens the connection, finds the streams, runs one consumer per stream."""

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
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """``owner`` is the identity of the database, ``installation`` the setting HOLDFAST_INSTALLATION."""
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
        """Works off what is parked."""
        self._metrics = metrics
        self._topology = topology
        self._groups: dict[str, list[str]] = {}
        self._consumers: list[PullConsumer] = []
        self._starting: asyncio.Future[None] | None = None
        self._stopping = False
        self.handle: Handler = self._handle
        """What each delivery is given to."""

    async def run(self) -> None:
        """Consume until stop(); waits for NATS for as long as it takes."""
        self._starting = asyncio.ensure_future(self._start())
        try:
            await self._starting
        except asyncio.CancelledError:
            if self._stopping:
                return
            raise
        while not self._stopping and not self._nats.is_closed:
            # Consumers end when the subjects have moved to other streams, and begin anew there.
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
        """Who shares or changed a consumer of ours; None when nobody does."""
        return next((consumer.problem for consumer in self._consumers if consumer.problem), None)

    def order_moved(self, order_id: str) -> None:
        """An order has changed: what waited for it is handled now."""
        if self._parking.order_moved(order_id):
            self.parked.wake()

    async def lags(self) -> list[Lag]:
        """How far the consumers of all replicas are behind; none while NATS does not say."""
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
        """Have the consumers begin anew where the streams store other events than before."""
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
            handle=self.handle,
            dead_letter=self._bury,
            set_aside=self._parking.set_aside,
            on_outcome=self._count,
            on_failure=partial(self._metrics.background_failed, "consuming"),
            recover=self._recover,
        )

    def _handle(self, delivery: Delivery) -> Awaitable[None]:
        # The sender's trace is taken on as it came; every delivery runs in a task of its own.
        begin(delivery.headers.get(HEADER))
        return self.apply(delivery)

    async def apply(self, delivery: Delivery) -> None:
        """Read an event and let it take effect, or park it until its order is here; raises PoisonEvent.

        What another installation published about an order that is not here is for that installation.
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
                outcome = inbox.IGNORED
        self._metrics.event_consumed(event.type, outcome)

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
        # Handled deliveries are counted above, where their effect is known.
        if outcome != "handled":
            self._metrics.event_consumed(subject, outcome)
