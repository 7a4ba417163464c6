"""Durable pull consumers: every event is handled, retried with growing delays, or dead-lettered.

This is the one place where messages are acknowledged, refused and terminated.
Source: contract 5; docs/adr/0004.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import nats.errors
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError

from services.base.context import HEADER, received
from services.domain.calls import Randomness
from services.messaging.dead_letters import order_id_in
from services.messaging.durable_consumer import DELAYS_SECONDS, Durable, Excused, Lag, redelivery_delay_seconds
from services.messaging.envelope import PoisonEvent
from services.messaging.jetstream import STATUS, UNREADABLE, Connection, stream_incarnation
from services.messaging.pull import PullInbox
from services.tracing.port import Tracer
from state.engine.failures import is_of_database

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
    num_delivered: int
    """Number of this delivery; 1 at the first one."""
    is_last_attempt: bool
    """Whether a failure of this attempt makes the event a dead letter."""
    incarnation: str = ""
    """Creation time of the stream, ISO 8601. A recreated stream numbers its messages from 1 again."""

    @property
    def place(self) -> tuple[str, int]:
        """Identity of the message among all messages of the stream, also after the stream is recreated."""
        return self.incarnation, self.stream_seq


Outcome = Literal["handled", "parked", "retried", "dead_lettered"]
Handler = Callable[[Delivery], Awaitable[None]]
"""Handles a delivery and returns when the effects are durable.

Raises PoisonEvent when the event can never be handled; after any other exception the handler is called again.
"""
DeadLetter = Callable[[Delivery, str], Awaitable[None]]
"""Stores the delivery durably with the reason. After an exception, it is called again for the same delivery."""
SetAside = Callable[[Delivery, str], Awaitable[bool]]
"""Parks a delivery whose handler failed, to be retried later; False when there is no room for it."""
Recover = Callable[[], Awaitable[None]]
"""Recreates missing streams; never raises."""
OnOutcome = Callable[[str, Outcome], None]
"""Called with the subject and the outcome of a delivery."""
OnFailure = Callable[[], None]
"""Called when fetching messages, or settling one delivery, raised an unexpected error."""

TraceparentOf = Callable[[str], Awaitable[str | None]]
"""Returns the traceparent stored with an order, or None."""


class PullConsumer:
    """Passes the messages of some subjects of one stream to a handler; all replicas share the durable consumer.

    The server redelivers a message without limit (``max_deliver`` is unlimited); this class counts the attempts.
    So a crash during the last attempt, or dead letters that cannot be written while the database is unavailable,
    lead to another delivery and not to a lost event.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        stream: str,
        durable: str,
        subjects: Sequence[str],
        handle: Handler,
        dead_letter: DeadLetter,
        set_aside: SetAside | None = None,
        on_outcome: OnOutcome = lambda _subject, _outcome: None,
        on_failure: OnFailure = lambda: None,
        recover: Recover | None = None,
        owner: str = "",
        succeeds: str | None = None,
        concurrency: int = 64,
        attempts: int = 8,
        ack_wait_seconds: float = 30.0,
        delays_seconds: Sequence[float] = DELAYS_SECONDS,
        randomness: Randomness = random.random,
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._durable = Durable(
            connection,
            stream=stream,
            name=durable,
            subjects=subjects,
            ack_wait_seconds=ack_wait_seconds,
            owner=owner,
            succeeds=succeeds,
        )
        self._handle = handle
        self._dead_letter = dead_letter
        self._set_aside = set_aside
        self._on_outcome = on_outcome
        self._on_failure = on_failure
        self._recover = recover
        self._concurrency = concurrency
        self._attempts = attempts
        self._ack_wait_seconds = ack_wait_seconds
        self._delays_seconds = delays_seconds
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
                        self._on_failure()
                    await self._pause(0.5)

    async def _consume(self, handlers: asyncio.TaskGroup) -> None:
        if not self._connection.is_connected:
            await self._pause(0.1)
            return
        await self._ensure_durable()
        incarnation = await stream_incarnation(self._connection.js, self._stream)
        inbox = PullInbox(self._connection.client, self._stream, self._durable.name)
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
            if self._recover is not None:
                await self._recover()
            raise

    async def _room(self) -> int:
        """Return how many messages to fetch.

        Waits until a quarter of the places is free, since small fetches cost the most per message.
        """
        while (free := self._concurrency - self._running) < max(1, self._concurrency // 4):
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
            self._on_failure()
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
            is_last_attempt=metadata.num_delivered - excused >= self._attempts,
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
                    made = delivery.num_delivered
                    await message.nak(delay=redelivery_delay_seconds(made, self._randomness, self._delays_seconds))
                case "dead_lettered":
                    await message.term()
        except nats.errors.Error as error:
            # The server redelivers an unsettled message after ack_wait; the inbox then detects the repeated event.
            log.warning("delivery_not_settled", extra=_facts(delivery) | {"reason": str(error)})
        self._on_outcome(delivery.subject, outcome)

    async def _attempt(self, delivery: Delivery) -> Outcome:
        status = delivery.headers.get(STATUS, "")
        if status == UNREADABLE:
            return await self._store_dead_letter(delivery, "the headers cannot be read")
        if len(status) == STATUS_DIGITS and status.isdecimal():
            return await self._store_dead_letter(delivery, f"header Status: {status} is reserved for the protocol")
        try:
            async with asyncio.timeout(self._ack_wait_seconds * HANDLING_SHARE):
                await self._handle(delivery)
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
        if self._set_aside is None:
            return False
        try:
            return await self._set_aside(delivery, reason)
        except Exception:
            log.warning("event_not_set_aside", extra=_facts(delivery), exc_info=True)
            return False

    async def _store_dead_letter(self, delivery: Delivery, reason: str) -> Outcome:
        try:
            await self._dead_letter(delivery, reason)
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


def traced_handler(handle: Handler, tracer: Tracer, traceparent_of: TraceparentOf) -> Handler:
    """Run the handler in a span of the trace that the delivery's header names, else of the order's own trace."""

    async def traced(delivery: Delivery) -> None:
        order_id = order_id_in(delivery.payload)
        parent = received(delivery.headers.get(HEADER))
        if parent is None and order_id is not None:
            parent = await traceparent_of(order_id)
        with tracer.handling(delivery.subject, delivery.stream_seq, order_id, parent):
            await handle(delivery)

    return traced
