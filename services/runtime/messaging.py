"""Events of one worker: connection, streams, outbox relay, consumers and their status."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from services.base.clock import utc_now
from services.base.ids import new_id
from services.domain.orders import events
from services.domain.orders.model import OrderStatus
from services.messaging.dead_letters import DeadLetters
from services.messaging.jetstream import Connection as NatsConnection
from services.messaging.jetstream import ConnectionState
from services.messaging.outbox_relay import OutboxRelay, Publisher, PublishProblem, SqlOutbox
from services.messaging.publisher import JetStreamPublisher, TracedPublisher
from services.messaging.topology import Topology
from services.orders.context import OrdersContext
from services.orders.inventory_events import InventoryEvents
from services.runtime.boundaries import Parts, Seam
from services.runtime.event_consumers import EventConsumers
from services.unit_of_work import Recorded
from state import leases, orders, outbox
from state.engine.database import Database

logger = logging.getLogger("holdfast.events")

SENT_AGAIN = tuple(subject for subject in events.OUTGOING if subject != events.CONFIRM_REQUESTED)
"""Subjects that are published again. The sweeper repeats confirmation requests under new ids instead."""

KEPT = timedelta(days=1)
"""Events that were published longer than this before their stream was created count as delivered."""

STEP = 500
"""Rows in one transaction."""


class EventRecovery:
    """Publishes the events of a lost stream again; confirmation requests are repeated under new ids."""

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
        """Publish the lost events again; ``at`` is the creation time of the newest stream. Idempotent."""
        while await self._database.write(lambda c: outbox.send_again(c, SENT_AGAIN, at - KEPT, at, STEP)) == STEP:
            self._wake()
        # The answer may be lost too. The Inventory Service ignores a repeated id, so each request gets a new one.
        due_before = at + self._confirmation_timeout
        asked = await self._database.write(
            lambda c: orders.make_confirmations_due(c, OrderStatus.PLACED, due_before, self._clock())
        )
        if asked:
            logger.warning("confirmations_asked_again", extra={"orders": asked})
        self._wake()


class MessagingStatus:
    """The messaging status for the heartbeat and the readiness check."""

    def __init__(
        self, topology: Topology, relay: OutboxRelay, consumers: EventConsumers, clock: Callable[[], datetime]
    ) -> None:
        self._topology = topology
        self._relay = relay
        self._consumers = consumers
        self._clock = clock
        self._lags: list[dict[str, Any]] = []

    @property
    def streams_problem(self) -> PublishProblem | None:
        """Describes what is missing at the broker; None when every event has its stream."""
        return self._topology.problem

    @property
    def consumers_problem(self) -> str | None:
        """Describes which other installation shares or changed a consumer of this one; None without a conflict."""
        return self._consumers.problem

    @property
    def publish_problem(self) -> PublishProblem | None:
        """Why events are not published now; None when they are published."""
        return self._relay.problem

    async def sample(self) -> bool:
        """Read the lag of the consumers from NATS; one round of a Loop. Keeps the last lag without NATS."""
        at = self._clock().isoformat()
        self._lags = [{**asdict(lag), "at": at} for lag in await self._consumers.lags()] or self._lags
        return False

    def facts(self) -> dict[str, Any]:
        """The facts about events in the heartbeat."""
        problem = self.publish_problem
        return {
            "consumers": self._lags,
            "consumersProblem": self.consumers_problem,
            "relayProblem": problem.reason if problem else None,
            "relayTrouble": problem.kind if problem else None,
        }


@dataclass(frozen=True, slots=True)
class Messaging:
    """The messaging parts of a worker, connected to the database and not yet running."""

    nats: NatsConnection
    topology: Topology
    relay: OutboxRelay
    consumers: EventConsumers
    dead_letters: DeadLetters
    status: MessagingStatus


async def build_messaging(
    parts: Parts, context: OrdersContext, confirmation_timeout: timedelta, stack: AsyncExitStack
) -> Messaging:
    """Build the messaging parts; ``stack`` closes the connection.

    Commits of ``context`` wake the relay and the loop of parked events.
    """
    settings, database, clock, metrics = parts.settings, parts.database, parts.clock, parts.metrics
    relay_woken = asyncio.Event()

    def connection_changed(state: ConnectionState) -> None:
        if state is ConnectionState.CONNECTED:
            relay_woken.set()

    nats = parts.border(
        Seam.BROKER, NatsConnection(settings.nats_servers, name=parts.replica, on_change=connection_changed)
    )
    stack.push_async_callback(nats.close)
    recovery = EventRecovery(database, confirmation_timeout, relay_woken.set, clock)
    topology = Topology(nats, recovery.streams_made)
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
    inbound = InventoryEvents(context)
    dead_letters = DeadLetters(database, clock, new_id, inbound.handle)
    consumers = EventConsumers(
        nats,
        database,
        inbound,
        dead_letters,
        metrics,
        topology,
        settings.holdfast_installation,
        owner=await database.write(lambda c: leases.decided_once(c, "installation", new_id(), clock())),
        clock=clock,
        tracer=parts.tracer,
    )
    context.after_commit.extend([consumers.after_commit, partial(_wake_relay, relay)])
    return Messaging(nats, topology, relay, consumers, dead_letters, MessagingStatus(topology, relay, consumers, clock))


def _wake_relay(relay: OutboxRelay, recorded: Recorded) -> None:
    if recorded.stored_events:
        relay.wake()
