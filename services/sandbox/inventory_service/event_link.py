"""The Inventory Service's connection to NATS: handles the orders' events, publishes its own from the outbox.

The service works without it: while NATS is down, HTTP continues and the outbox keeps the events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import insert

from services.base.context import HEADER, begin
from services.base.settings import USUAL_INSTALLATION
from services.http_server.envelope import Clock
from services.messaging.consumer import Delivery, DeliveryHandler, PullConsumer
from services.messaging.durable_consumer import ConsumerSettings
from services.messaging.envelope import decode_message
from services.messaging.jetstream import INSTALLATION, Connection, by_stream
from services.messaging.outbox_relay import OutboxRelay, ProblemKind, SqlOutbox
from services.messaging.publisher import JetStreamPublisher
from services.messaging.topology import Topology
from services.sandbox.inventory_service.events import SCHEMAS, handle
from services.sandbox.inventory_service.faults import Faults
from services.sandbox.inventory_service.tables import dead_letters
from state.engine.database import Database

EARLIER_DURABLE = "inventory-service-orders"
"""Name of the durable consumer in versions without installations."""

LOOK_SECONDS = 5.0
"""Seconds between two checks of the consumers."""

T = TypeVar("T")


class EventLink(DeliveryHandler):
    """One connection, the consumers of the orders' events, and the outbox relay."""

    def __init__(
        self, servers: Sequence[str], database: Database, clock: Clock, faults: Faults, installation: str
    ) -> None:
        """``installation`` is HOLDFAST_INSTALLATION of the orders that this service serves."""
        self._installation = installation
        self._database = database
        self._clock = clock
        self._faults = faults
        self._connection = Connection(servers, name="inventory-service", on_change=lambda _: self.wake())
        # Nothing is sent again: orders that wait for an answer lost with a stream request it again.
        self._topology = Topology(self._connection, _nothing_to_send_again)
        publisher = JetStreamPublisher(self._connection, recover=self._topology.recover, installation=installation)
        self._relay = OutboxRelay(SqlOutbox(database, clock), publisher)
        self._consumers: list[PullConsumer] = []
        self._stopping = asyncio.Event()

    @property
    def is_connected(self) -> bool:
        return self._connection.is_connected

    @property
    def is_publishing(self) -> bool:
        """Whether the broker accepted the latest published event; True if there was none."""
        problem = self._relay.problem
        return problem is None or problem.kind is not ProblemKind.BROKER

    def wake(self) -> None:
        """Publish now; call after each commit that may have stored events."""
        self._relay.wake()

    def stop(self) -> None:
        """Let run() finish its current work and return."""
        self._stopping.set()
        self._relay.stop()
        for consumer in self._consumers:
            consumer.stop()

    async def run(self) -> None:
        """Connect, however long that takes, then handle and publish until stop(). Run it once."""
        try:
            placement = await _unless(self._stopping, self._topology.open())
            if placement is not None:
                await self._work(placement)
        finally:
            await self._connection.close()

    async def _work(self, placement: Mapping[str, str]) -> None:
        self._consumers = [
            PullConsumer(self._connection, self._consumer_settings(stream, subjects), self)
            for stream, subjects in by_stream(placement, SCHEMAS).items()
        ]
        async with asyncio.TaskGroup() as parts:
            for consumer in self._consumers:
                parts.create_task(consumer.run())
            parts.create_task(self._relay.run())
            parts.create_task(self._look_after_consumers())

    def _consumer_settings(self, stream: str, subjects: list[str]) -> ConsumerSettings:
        return ConsumerSettings(
            stream=stream,
            durable=f"{EARLIER_DURABLE}-{self._installation}",
            subjects=subjects,
            succeeds=EARLIER_DURABLE if self._installation == USUAL_INSTALLATION else None,
        )

    async def recover(self) -> None:
        await self._topology.recover()

    async def _look_after_consumers(self) -> None:
        """Check the consumers every LOOK_SECONDS until stop(), and correct changed ones."""
        while not self._stopping.is_set():
            for consumer in self._consumers:
                await consumer.lag()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._stopping.wait()

    async def handle(self, delivery: Delivery) -> None:
        event = decode_message(delivery, SCHEMAS)
        # Events caused by this event belong to its trace.
        begin(delivery.headers.get(HEADER))
        is_silent = self._faults.settings.silentConfirmations
        is_foreign = delivery.headers.get(INSTALLATION, self._installation) != self._installation
        await self._database.write(
            lambda connection: handle(connection, event, self._clock(), is_silent=is_silent, is_foreign=is_foreign)
        )
        self.wake()

    async def dead_letter(self, delivery: Delivery, reason: str) -> None:
        row = {"at": self._clock(), "subject": delivery.subject, "reason": reason, "payload": delivery.payload}
        await self._database.write(lambda connection: connection.execute(insert(dead_letters), row))


async def _nothing_to_send_again(_: datetime) -> None:
    return


async def _unless(stopping: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """The result of the work, or None when ``stopping`` was set first."""
    working, waiting = asyncio.create_task(work), asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        waiting.cancel()
        await asyncio.gather(working, waiting, return_exceptions=True)
