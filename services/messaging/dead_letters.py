"""Events for a person: dead letters, which could not be handled, and undeliverable events of the outbox.

A dead letter is stored with its bytes; a replay runs the handler again.
Source: contract 5, last paragraph; docs/adr/0004.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import Connection

from services.domain.errors import InvalidState, NotFound, existing
from services.domain.external import INT64, MAX_ID_LENGTH, NotAllowed, cut_text, identifier, read_json, whole_number
from services.domain.orders.changes import ACTION, TimelineEntry
from services.messaging.envelope import MAX_EVENT_BYTES, IncomingEvent, Message, PoisonEvent, decode_message
from state import audit, dead_letters, orders, outbox
from state.audit import AuditEntry
from state.dead_letters import DISCARDED, OPEN, REPLAYED, DeadLetter
from state.engine.database import Database
from state.outbox import UndeliverableEvent

KIND = "outbox-event"
"""Kind of the target of an action on an undeliverable event."""

UNDELIVERABLE, PENDING = "UNDELIVERABLE", "PENDING"

MAX_REASON = 2000
"""Characters of a stored reason."""

MAX_HEADERS, MAX_HEADER = 50, 500
"""Headers of a message that are stored, and characters of each."""


class DeadLetterChanged(InvalidState):
    """The dead letter changed since the person read it; nothing was done."""


class ReplayFailed(InvalidState):
    """The handler failed on the stored bytes again; the dead letter stays open with the new reason."""


@dataclass(frozen=True, slots=True)
class _Resolution:
    """An action of an actor on an event."""

    state: str
    """State of the event afterwards."""
    actor: str
    reason: str | None
    action_id: str | None


@dataclass(slots=True)
class DeadLetters:
    """Stores dead letters, and lets people replay or discard them."""

    database: Database
    clock: Callable[[], datetime]
    new_id: Callable[[], str]
    handle: Callable[[IncomingEvent], Awaitable[str]]

    async def keep(self, message: Message, reason: str, *, attempts: int) -> None:
        """Store a message, once per place in its stream.

        The payload is stored unchanged; headers and reason are cut.
        """
        dead_letter = DeadLetter(
            id=self.new_id(),
            stream=message.stream,
            stream_seq=message.stream_seq,
            subject=cut_text(message.subject, MAX_ID_LENGTH),
            order_id=order_id_in(message.payload),
            payload=message.payload,
            headers=bounded_headers(message.headers),
            reason=cut_text(reason, MAX_REASON),
            attempts=attempts,
            state=OPEN,
            created_at=self.clock(),
            incarnation=message.incarnation,
        )
        await self.database.write(lambda connection: dead_letters.add(connection, dead_letter))

    async def replay(self, dead_letter_id: str, *, actor: str) -> DeadLetter:
        """Run the handler on the stored bytes.

        Raises NotFound, ReplayFailed, and DeadLetterChanged when the dead letter is not open.
        """
        await self.handle_again(dead_letter_id, actor=actor)
        return await self._get(dead_letter_id)

    async def handle_again(
        self,
        dead_letter_id: str,
        *,
        actor: str,
        reason: str | None = None,
        seen: int | None = None,
        action_id: str | None = None,
    ) -> str:
        """Run the handler on the stored bytes; returns its outcome: handled, ignored or duplicate.

        ``seen`` is the number of attempts that the person saw; another number raises DeadLetterChanged. An
        ``action_id`` takes effect once: a repeated call returns or raises the first result.
        """
        known = await self._known(action_id)
        if known is not None:
            if known.result != "done":
                raise ReplayFailed(str((known.after or {}).get("failure", "")), {"id": dead_letter_id})
            return str((known.after or {}).get("outcome", ""))
        dead_letter = await self._open_dead_letter(dead_letter_id, seen)
        done = _Resolution(REPLAYED, actor, reason, action_id)
        try:
            outcome = await self.handle(decode_message(dead_letter))
        except PoisonEvent as error:
            await self._record_failure(dead_letter, done, str(error))
            raise ReplayFailed(f"The event cannot be handled: {error}", {"id": dead_letter_id}) from None
        except Exception as error:
            # A boundary: any error of the handler is recorded with the actor and returned to the caller.
            await self._record_failure(dead_letter, done, f"{type(error).__name__}: {error}")
            raise ReplayFailed(f"The handler failed again: {error}", {"id": dead_letter_id}) from error
        await self._settle(dead_letter, done, note=f"handler: {outcome}", outcome=outcome)
        return outcome

    async def discard(
        self, dead_letter_id: str, *, actor: str, note: str, seen: int | None = None, action_id: str | None = None
    ) -> DeadLetter:
        """Discard a dead letter with a reason; raises NotFound, and DeadLetterChanged when it is settled.

        ``seen`` and ``action_id`` are those of handle_again().
        """
        if await self._known(action_id) is None:
            dead_letter = await self._open_dead_letter(dead_letter_id, seen)
            await self._settle(dead_letter, _Resolution(DISCARDED, actor, note, action_id), note=note)
        return await self._get(dead_letter_id)

    async def _known(self, action_id: str | None) -> AuditEntry | None:
        if action_id is None:
            return None
        return await self.database.read(lambda connection: audit.find_action(connection, action_id))

    async def _open_dead_letter(self, dead_letter_id: str, seen: int | None) -> DeadLetter:
        dead_letter = await self._get(dead_letter_id)
        if dead_letter.state != OPEN:
            raise DeadLetterChanged(
                f"This dead letter is {dead_letter.state}.", {"id": dead_letter_id, "state": dead_letter.state}
            )
        if seen is not None and dead_letter.attempts != seen:
            message = f"It was tried again since: {dead_letter.attempts} attempts, {seen} when it was seen."
            raise DeadLetterChanged(message, {"id": dead_letter_id, "attempts": dead_letter.attempts})
        return dead_letter

    async def _settle(self, dead_letter: DeadLetter, done: _Resolution, *, note: str | None, **facts: Any) -> None:
        def transaction(connection: Connection) -> None:
            at = self.clock()
            if not dead_letters.resolve(connection, dead_letter.id, done.state, by=done.actor, note=note, at=at):
                raise DeadLetterChanged("Somebody else settled this dead letter.", {"id": dead_letter.id})
            audit.add(connection, _entry(dead_letter, done, at, "done", {"state": done.state, **facts}))

        await self.database.write(transaction)

    async def _record_failure(self, dead_letter: DeadLetter, done: _Resolution, failure: str) -> None:
        cut_failure = cut_text(failure, MAX_REASON)
        entry = _entry(dead_letter, done, self.clock(), "failed", {"state": OPEN, "failure": cut_failure})

        def transaction(connection: Connection) -> None:
            dead_letters.note_failure(connection, dead_letter.id, cut_failure)
            audit.add(connection, entry)

        await self.database.write(transaction)

    async def _get(self, dead_letter_id: str) -> DeadLetter:
        dead_letter = await self.database.read(lambda connection: dead_letters.get(connection, dead_letter_id))
        return existing(dead_letter, "dead-letter", dead_letter_id)


def _entry(dead_letter: DeadLetter, done: _Resolution, at: datetime, result: str, after: dict[str, Any]) -> AuditEntry:
    return AuditEntry(
        at=at,
        actor=done.actor,
        action="REPLAY_EVENT" if done.state == REPLAYED else "DISCARD_EVENT",
        target=f"dead-letter:{dead_letter.id}",
        order_id=dead_letter.order_id,
        reason=done.reason,
        before={"state": OPEN},
        after=after,
        result=result,
        action_id=done.action_id,
    )


def order_id_in(payload: bytes) -> str | None:
    """The order id in the event's bytes; None when it cannot be read."""
    try:
        body = read_json(payload, MAX_EVENT_BYTES)
        if not isinstance(body, dict):
            return None
        data = body.get("data")
        return identifier((data if isinstance(data, dict) else body).get("orderId"))
    except NotAllowed:
        return None


def bounded_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The first headers of a message, each cut to a length that lists can show."""
    first = islice(headers.items(), MAX_HEADERS)
    return {cut_text(name, MAX_ID_LENGTH): cut_text(value, MAX_HEADER) for name, value in first}


class UndeliverableEvents:
    """Publishes again or discards outgoing events that the broker can never accept.

    Each action is one transaction with an audit entry and a timeline entry of the order.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def is_done(self, action_id: str) -> bool:
        """True when the action with this id was carried out."""
        return await self._database.read(lambda connection: audit.find_action(connection, action_id)) is not None

    async def retry(
        self, row_id: str, *, actor: str, reason: str | None, action_id: str | None = None
    ) -> UndeliverableEvent:
        """Publish the event again. Raises NotFound, InvalidState."""
        return await self._resolve(row_id, _Resolution(PENDING, actor, reason, action_id))

    async def discard(
        self, row_id: str, *, actor: str, reason: str, action_id: str | None = None
    ) -> UndeliverableEvent:
        """Discard the event: no consumer receives it. Raises NotFound, InvalidState."""
        return await self._resolve(row_id, _Resolution(DISCARDED, actor, reason, action_id))

    async def _resolve(self, row_id: str, done: _Resolution) -> UndeliverableEvent:
        is_retry = done.state == PENDING

        def transaction(connection: Connection) -> UndeliverableEvent:
            at, event = self._clock(), _undeliverable(connection, row_id)
            (outbox.retry if is_retry else outbox.discard)(connection, event.id)
            entry = AuditEntry(
                at=at,
                actor=done.actor,
                action="RETRY_OUTGOING_EVENT" if is_retry else "DISCARD_OUTGOING_EVENT",
                target=f"{KIND}:{event.id}",
                order_id=event.order_id,
                reason=done.reason,
                before={"state": UNDELIVERABLE, "eventId": event.event_id, "reason": event.reason},
                after={"state": done.state},
                action_id=done.action_id,
            )
            audit.add(connection, entry)
            title = f"Event {event.subject} {'is published again' if is_retry else 'was given up'}"
            details = {"note": done.reason} if done.reason else {}
            orders.add_timeline(connection, event.order_id, [TimelineEntry(at, ACTION, title, details, done.actor)])
            return event

        return await self._database.write(transaction)


def _undeliverable(connection: Connection, written: str) -> UndeliverableEvent:
    try:
        row_id = whole_number(written, 1, INT64[1])
    except NotAllowed:
        raise NotFound(KIND, written) from None
    event = outbox.get_undeliverable(connection, row_id)
    if event is not None:
        return event
    if outbox.has(connection, row_id):
        raise InvalidState("This event is published or waits to be published.", {"outboxEventId": str(row_id)})
    raise NotFound(KIND, str(row_id))
