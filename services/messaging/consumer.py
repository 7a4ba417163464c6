"""Durable pull consumers: every event is handled, retried with growing delays, or dead-lettered.

This is the one place where messages are acknowledged, refused and terminated.
Source: contract 5; docs/adr/0004.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Literal

import nats.errors
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError

from services.domain.calls import Randomness
from services.messaging.durable_consumer import ConsumerSettings, Durable, Excused, Lag, redelivery_delay_seconds
from services.messaging.envelope import PoisonEvent
from services.messaging.jetstream import STATUS, UNREADABLE, Connection, stream_incarnation
from services.messaging.pull import PullInbox
from state.engine.transactions import is_of_database

log = logging.getLogger(__name__)

HANDLING_SHARE = 0.8
"""The part of ack_wait that a handler may take. After ack_wait the server delivers the message again."""

STATUS_DIGITS = 3
"""Digits of a status code in the Status header of the server's own messages."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One delivery of one message."""

    subject: str
    payload: bytes
    headers: dict[str, str]
    stream: str
    stream_seq: int
    """Sequence number in the stream; the same at every redelivery."""
    num_delivered: int = 1
    """Number of this delivery; 1 at the first one."""
    is_last_attempt: bool = False
    """Whether a failure of this attempt makes the event a dead letter."""
    incarnation: str = ""
    """Creation time of the stream, ISO 8601. A recreated stream numbers its messages from 1 again."""

    @property
    def place(self) -> tuple[str, int]:
        """Identity of the message among all messages of the stream, also after the stream is recreated."""
        return self.incarnation, self.stream_seq


Outcome = Literal["handled", "parked", "retried", "dead_lettered"]


class DeliveryHandler(ABC):
    """What a PullConsumer calls for its deliveries."""

    @abstractmethod
    def handle(self, delivery: Delivery) -> Awaitable[None]:
        """Handle a delivery and return when the effects are durable.

        Raises PoisonEvent when the event can never be handled; after any other exception it is called again.
        """

    @abstractmethod
    async def dead_letter(self, delivery: Delivery, reason: str) -> None:
        """Store the delivery durably. After an exception, it is called again for the same delivery."""

    async def set_aside(self, delivery: Delivery, reason: str) -> bool:
        """Park a delivery whose handler failed, to be retried later; False when there is no room for it."""
        return False

    async def recover(self) -> None:
        """Recreate missing streams; never raises."""
        return

    def count(self, subject: str, outcome: Outcome) -> None:
        """Count the outcome of a delivery."""
        return

    def failed(self) -> None:
        """Count an unexpected error of fetching messages, or of settling one delivery."""
        return


class PullConsumer:
    """Passes the messages of some subjects of one stream to a handler; all replicas share the durable consumer.

    The server redelivers a message without limit (``max_deliver`` is unlimited); this class counts the attempts.
    So a crash during the last attempt, or dead letters that cannot be written while the database is unavailable,
    lead to another delivery and not to a lost event.
    """

    def __init__(
        self,
        connection: Connection,
        settings: ConsumerSettings,
        handler: DeliveryHandler,
        randomness: Randomness = random.random,
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._durable = Durable(connection, settings)
        self._handler = handler
        self._randomness = randomness
        self._stopping = asyncio.Event()
        self._freed = asyncio.Event()
        self._running = 0
        self._excused = Excused()

    @property
    def problem(self) -> str | None:
        """A conflicting user of the durable consumer or a foreign change of its settings; None without either."""
        return self._durable.problem

    def stop(self) -> None:
        """Stop fetching; run() returns when the running handlers are done, within two seconds when idle."""
        self._stopping.set()

    async def lag(self) -> Lag | None:
        """How far the consumer is behind; None when the server does not report it."""
        return await self._durable.look()

    async def run(self) -> None:
        """Consume until stop() or until the connection is closed; continues after every failure of the server."""
        async with asyncio.TaskGroup() as handlers:
            while not self._stopping.is_set() and not self._connection.is_closed:
                try:
                    await self._consume(handlers)
                except Exception as error:
                    # A boundary: consuming continues after any error of the server or the client library.
                    reason = str(error) or type(error).__name__
                    is_known = isinstance(error, nats.errors.Error | OSError | TimeoutError)
                    extra = {"durable": self._durable.name, "reason": reason}
                    log.warning("consumer_interrupted", extra=extra, exc_info=not is_known)
                    if not is_known:
                        self._handler.failed()
                    await self._pause(0.5)

    async def _consume(self, handlers: asyncio.TaskGroup) -> None:
        if not self._connection.is_connected:
            await self._pause(0.1)
            return
        await self._ensure_durable()
        incarnation = await stream_incarnation(self._connection.js, self._settings.stream)
        inbox = PullInbox(self._connection.client, self._settings.stream, self._durable.name)
        await inbox.open()
        try:
            while not self._stopping.is_set() and self._connection.is_connected:
                room = 0 if inbox.is_open else await self._room()
                for message in await inbox.fetch(room):
                    self._running += 1
                    handlers.create_task(self._settle(message, incarnation))
        finally:
            with contextlib.suppress(nats.errors.Error):
                await inbox.close()

    async def _ensure_durable(self) -> None:
        """Create or correct the durable consumer; recreate its stream when the stream is missing."""
        try:
            await self._durable.ensure()
        except NotFoundError:
            await self._handler.recover()
            raise

    async def _room(self) -> int:
        """Return how many messages to fetch.

        Waits until a quarter of the places is free, since small fetches cost the most per message.
        """
        while (free := self._settings.concurrency - self._running) < max(1, self._settings.concurrency // 4):
            self._freed.clear()
            await self._freed.wait()
        return free

    async def _settle(self, message: Msg, incarnation: str) -> None:
        """Acknowledge, refuse or terminate one message, only after its effects are durable."""
        try:
            await self._settle_delivery(message, self._delivery(message, incarnation))
        except Exception:
            # A boundary: a delivery that cannot be read or settled does not affect the others; ack_wait redelivers it.
            log.exception("delivery_failed", extra={"durable": self._durable.name, "subject": message.subject})
            self._handler.failed()
        finally:
            self._running -= 1
            self._freed.set()

    def _delivery(self, message: Msg, incarnation: str) -> Delivery:
        metadata = message.metadata
        excused = self._excused.count((incarnation, metadata.sequence.stream))
        return Delivery(
            subject=message.subject,
            payload=message.data,
            headers=dict(message.headers or {}),
            stream=metadata.stream,
            stream_seq=metadata.sequence.stream,
            num_delivered=metadata.num_delivered,
            is_last_attempt=metadata.num_delivered - excused >= self._settings.attempts,
            incarnation=incarnation,
        )

    async def _settle_delivery(self, message: Msg, delivery: Delivery) -> None:
        outcome = await self._attempt(delivery)
        if outcome != "retried":
            self._excused.forget(delivery.place)
        try:
            match outcome:
                case "handled" | "parked":
                    await message.ack()
                case "retried":
                    made, delays = delivery.num_delivered, self._settings.delays_seconds
                    await message.nak(delay=redelivery_delay_seconds(made, self._randomness, delays))
                case "dead_lettered":
                    await message.term()
        except nats.errors.Error as error:
            # The server redelivers an unsettled message after ack_wait; the inbox then detects the repeated event.
            log.warning("delivery_not_settled", extra=_facts(delivery) | {"reason": str(error)})
        self._handler.count(delivery.subject, outcome)

    async def _attempt(self, delivery: Delivery) -> Outcome:
        status = delivery.headers.get(STATUS, "")
        if status == UNREADABLE:
            return await self._store_dead_letter(delivery, "the headers cannot be read")
        if len(status) == STATUS_DIGITS and status.isdecimal():
            return await self._store_dead_letter(delivery, f"header Status: {status} is reserved for the protocol")
        try:
            async with asyncio.timeout(self._settings.ack_wait_seconds * HANDLING_SHARE):
                await self._handler.handle(delivery)
        except PoisonEvent as error:
            return await self._store_dead_letter(delivery, str(error))
        except Exception as error:  # noqa: BLE001 - a boundary: the delivery is retried or dead-lettered
            return await self._after_failure(delivery, error)
        return "handled"

    async def _after_failure(self, delivery: Delivery, error: Exception) -> Outcome:
        reason = f"{type(error).__name__}: {error}"
        if is_of_database(error):
            self._excused.add(delivery.place)
        # A parked event has all its attempts left. The database counts them, so a restart does not reset the count.
        elif await self._is_set_aside(delivery, reason):
            return "parked"
        elif delivery.is_last_attempt:
            return await self._store_dead_letter(delivery, reason)
        log.warning("event_retried", extra=_facts(delivery) | {"reason": reason}, exc_info=error)
        return "retried"

    async def _is_set_aside(self, delivery: Delivery, reason: str) -> bool:
        """Return whether the failed delivery was parked; in the stream it would occupy the place of another event."""
        try:
            return await self._handler.set_aside(delivery, reason)
        except Exception:
            log.warning("event_not_set_aside", extra=_facts(delivery), exc_info=True)
            return False

    async def _store_dead_letter(self, delivery: Delivery, reason: str) -> Outcome:
        try:
            await self._handler.dead_letter(delivery, reason)
        except Exception:
            log.exception("dead_letter_not_written", extra=_facts(delivery))
            return "retried"
        log.error("event_dead_lettered", extra=_facts(delivery) | {"reason": reason})
        return "dead_lettered"

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()


def _facts(delivery: Delivery) -> dict[str, object]:
    return {
        "event_id": delivery.headers.get("Nats-Msg-Id"),
        "subject": delivery.subject,
        "stream_seq": delivery.stream_seq,
        "num_delivered": delivery.num_delivered,
    }
