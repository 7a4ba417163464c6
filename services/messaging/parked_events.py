"""Parks events in the database whose order is not stored yet or whose handler failed, and retries them.

In the stream, such events would be redelivered repeatedly and occupy the places of other events. In the database they
cost nothing until they are due. See docs/adr/0024.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Collection
from dataclasses import KW_ONLY, dataclass
from datetime import datetime, timedelta

from services.domain.calls import Randomness
from services.domain.external import cut_text, id_key
from services.messaging.consumer import Delivery
from services.messaging.dead_letters import MAX_REASON, DeadLetters, bounded_headers, order_id_in
from services.messaging.durable_consumer import redelivery_delay_seconds
from services.messaging.envelope import IncomingEvent, NotYet, PoisonEvent, decode_message
from state import parked_events
from state.engine.database import Database
from state.engine.transactions import is_of_database
from state.parked_events import HANDLER_FAILED, MAX_PARKED, UNKNOWN_ORDER, ParkedEvent

logger = logging.getLogger("holdfast.parking")

WAIT_FOR_ORDER = timedelta(hours=1)
"""How long an event waits for its order before it becomes a dead letter."""

ATTEMPTS = 8
"""Number of failed attempts after which an event becomes a dead letter."""

MAX_PAYLOAD = 64 * 1024
"""Largest event in bytes that may be parked. Together with MAX_PARKED it bounds the table."""

MAX_EVENTS_PER_ROUND = 50

LOOK = timedelta(seconds=5)
"""How often the database is checked for orders that other replicas placed."""


@dataclass
class EventParking:
    """Parks events, and runs the handler again when their order is stored or their next attempt is due."""

    database: Database
    clock: Callable[[], datetime]
    dead_letters: DeadLetters
    handle: Callable[[IncomingEvent], Awaitable[str]]
    _: KW_ONLY
    early: Collection[str]
    """Statuses of an order for which an event keeps waiting."""
    on_outcome: Callable[[str, str], None] = lambda _subject, _outcome: None
    """Called with subject and outcome."""
    on_failure: Callable[[], None] = lambda: None
    """Called for an event that could neither be settled nor delayed."""
    randomness: Randomness = random.random
    limit: int = MAX_PARKED

    def __post_init__(self) -> None:
        self._may_wait = True
        self._moved: set[str] = set()
        self._next_check: datetime | None = None

    async def wait_for_order(self, delivery: Delivery, reason: str) -> None:
        """Park an event until its order is stored; raises PoisonEvent when there is no room."""
        if not await self._park(delivery, UNKNOWN_ORDER, reason, attempts=0, delay=WAIT_FOR_ORDER):
            raise PoisonEvent(f"{reason}; too much waits already")

    async def set_aside(self, delivery: Delivery, reason: str) -> bool:
        """Park an event whose handler failed until its next attempt; False when there is no room."""
        return await self._park(delivery, HANDLER_FAILED, reason, attempts=1, delay=self._delay(1))

    def order_moved(self, order_id: str) -> bool:
        """Note a change of the order, for the next round; returns whether an event may wait for the order."""
        if self._may_wait:
            self._moved.add(order_id)
        return self._may_wait

    async def run_round(self) -> bool:
        """Handle events that are due; returns whether more may be due."""
        now = self.clock()
        moved, self._moved = self._moved, set()
        is_check_due = self._next_check is None or now >= self._next_check
        ready = await self.database.read(lambda c: parked_events.due(c, now, MAX_EVENTS_PER_ROUND))
        if moved:
            ready += await self.database.read(
                lambda c: parked_events.of_placed_orders(c, self.early, MAX_EVENTS_PER_ROUND, moved)
            )
        if is_check_due:
            self._next_check = now + LOOK
            ready += await self.database.read(
                lambda c: parked_events.of_placed_orders(c, self.early, MAX_EVENTS_PER_ROUND)
            )
            self._may_wait = await self.database.read(parked_events.has_any)
        for event in ready:
            try:
                await self._try(event)
            except Exception as error:
                # A boundary: an event that cannot be delayed does not block the others.
                logger.warning("parked_event_not_settled", extra=_facts(event), exc_info=error)
                self.on_failure()
        return len(ready) >= MAX_EVENTS_PER_ROUND

    async def _park(self, delivery: Delivery, cause: str, reason: str, *, attempts: int, delay: timedelta) -> bool:
        if len(delivery.payload) > MAX_PAYLOAD:
            return False
        now, order_id = self.clock(), order_id_in(delivery.payload)
        event = ParkedEvent(
            stream=delivery.stream,
            incarnation=delivery.incarnation,
            stream_seq=delivery.stream_seq,
            subject=delivery.subject,
            order_id=None if order_id is None else id_key(order_id),
            payload=delivery.payload,
            headers=bounded_headers(delivery.headers),
            cause=cause,
            reason=cut_text(reason, MAX_REASON),
            attempts=attempts,
            parked_at=now,
            due_at=now + delay,
        )
        self._may_wait = True
        return await self.database.write(lambda connection: parked_events.add(connection, event, self.limit))

    async def _try(self, event: ParkedEvent) -> None:
        try:
            outcome = await self.handle(decode_message(event))
        except PoisonEvent as error:
            await self._give_up(event, str(error))
        except NotYet as error:
            await self._wait_on(event, f"{type(error).__name__}: {error}")
        except Exception as error:  # noqa: BLE001
            # A boundary: after any error of the handler the event is retried or dead-lettered.
            await self._failed(event, f"{type(error).__name__}: {error}", counts=not is_of_database(error))
        else:
            await self.database.write(lambda connection: parked_events.remove(connection, event))
            self.on_outcome(event.subject, outcome)

    async def _wait_on(self, event: ParkedEvent, reason: str) -> None:
        """Park an event of an unknown order for the rest of WAIT_FOR_ORDER."""
        until = event.parked_at + WAIT_FOR_ORDER
        if until <= self.clock():
            await self._give_up(event, reason)
        elif event.cause != UNKNOWN_ORDER:
            shown, made = cut_text(reason, MAX_REASON), event.attempts
            await self.database.write(lambda c: parked_events.put_off(c, event, UNKNOWN_ORDER, shown, made, until))

    async def _failed(self, event: ParkedEvent, reason: str, *, counts: bool) -> None:
        attempts = event.attempts + counts
        if attempts >= ATTEMPTS:
            await self._give_up(event, reason)
            return
        shown, due_at = cut_text(reason, MAX_REASON), self.clock() + self._delay(max(attempts, 1))
        await self.database.write(lambda c: parked_events.put_off(c, event, HANDLER_FAILED, shown, attempts, due_at))
        logger.warning("event_retried", extra=_facts(event) | {"reason": shown})
        self.on_outcome(event.subject, "retried")

    async def _give_up(self, event: ParkedEvent, reason: str) -> None:
        await self.dead_letters.keep(event, reason, attempts=event.attempts + 1)
        await self.database.write(lambda connection: parked_events.remove(connection, event))
        logger.error("event_dead_lettered", extra=_facts(event) | {"reason": cut_text(reason, MAX_REASON)})
        self.on_outcome(event.subject, "dead_lettered")

    def _delay(self, attempts: int) -> timedelta:
        return timedelta(seconds=redelivery_delay_seconds(attempts, self.randomness))


def _facts(event: ParkedEvent) -> dict[str, object]:
    return {"subject": event.subject, "stream_seq": event.stream_seq, "attempts": event.attempts}
