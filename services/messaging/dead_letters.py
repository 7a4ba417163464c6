"""Stores events that could not be handled, with their bytes; a replay runs the handler again.

Source: contract 5, last paragraph; docs/adr/0004.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import Connection

from services.domain.errors import InvalidState, NotFound
from services.domain.external import MAX_ID_LENGTH, NotAllowed, cut_text, identifier, read_json
from services.messaging.envelope import MAX_EVENT_BYTES, IncomingEvent, PoisonEvent, decode, place_in_stream
from state import audit, dead_letters
from state.audit import AuditEntry
from state.dead_letters import DISCARDED, OPEN, REPLAYED, DeadLetter
from state.engine.database import Database

MAX_REASON = 2000
"""Characters of a stored reason."""

MAX_HEADERS, MAX_HEADER = 50, 500
"""Headers of a message that are stored, and characters of each."""


class DeadLetterChanged(InvalidState):
    """The dead letter changed since the person read it; nothing was done."""


class ReplayFailed(InvalidState):
    """The handler failed on the stored bytes again; the dead letter stays open with the new reason."""


class DeadLetters:
    """Stores dead letters, and lets people replay or discard them."""

    def __init__(
        self,
        database: Database,
        clock: Callable[[], datetime],
        new_id: Callable[[], str],
        handle: Callable[[IncomingEvent], Awaitable[str]],
    ) -> None:
        self._database = database
        self._clock = clock
        self._new_id = new_id
        self._handle = handle

    async def keep(
        self,
        *,
        stream: str,
        stream_seq: int,
        subject: str,
        payload: bytes,
        headers: Mapping[str, str],
        reason: str,
        attempts: int,
        incarnation: str = "",
    ) -> None:
        """Store a message, once per place in its stream; ``incarnation`` is the creation time of the stream.

        The payload is stored unchanged; headers and reason are cut.
        """
        dead_letter = DeadLetter(
            id=self._new_id(),
            stream=stream,
            stream_seq=stream_seq,
            subject=cut_text(subject, MAX_ID_LENGTH),
            order_id=order_id_in(payload),
            payload=payload,
            headers=bounded_headers(headers),
            reason=cut_text(reason, MAX_REASON),
            attempts=attempts,
            state=OPEN,
            created_at=self._clock(),
            incarnation=incarnation,
        )
        await self._database.write(lambda connection: dead_letters.add(connection, dead_letter))

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
            event = decode(
                dead_letter.payload,
                subject=dead_letter.subject,
                headers=dead_letter.headers,
                fallback_id=place_in_stream(dead_letter.stream, dead_letter.incarnation, dead_letter.stream_seq),
            )
            outcome = await self._handle(event)
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
        return await self._database.read(lambda connection: audit.find_action(connection, action_id))

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
            at = self._clock()
            if not dead_letters.resolve(connection, dead_letter.id, done.state, by=done.actor, note=note, at=at):
                raise DeadLetterChanged("Somebody else settled this dead letter.", {"id": dead_letter.id})
            audit.add(connection, done.entry(dead_letter, at, "done", {"state": done.state, **facts}))

        await self._database.write(transaction)

    async def _record_failure(self, dead_letter: DeadLetter, done: _Resolution, failure: str) -> None:
        cut_failure = cut_text(failure, MAX_REASON)
        entry = done.entry(dead_letter, self._clock(), "failed", {"state": OPEN, "failure": cut_failure})

        def transaction(connection: Connection) -> None:
            dead_letters.note_failure(connection, dead_letter.id, cut_failure)
            audit.add(connection, entry)

        await self._database.write(transaction)

    async def _get(self, dead_letter_id: str) -> DeadLetter:
        dead_letter = await self._database.read(lambda connection: dead_letters.get(connection, dead_letter_id))
        if dead_letter is None:
            raise NotFound("dead-letter", dead_letter_id)
        return dead_letter


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


@dataclass(frozen=True, slots=True)
class _Resolution:
    """A replay or discard of a dead letter by an actor."""

    state: str
    """State of the dead letter afterwards."""
    actor: str
    reason: str | None
    action_id: str | None

    def entry(self, dead_letter: DeadLetter, at: datetime, result: str, after: dict[str, Any]) -> AuditEntry:
        return AuditEntry(
            at=at,
            actor=self.actor,
            action="REPLAY_EVENT" if self.state == REPLAYED else "DISCARD_EVENT",
            target=f"dead-letter:{dead_letter.id}",
            order_id=dead_letter.order_id,
            reason=self.reason,
            before={"state": OPEN},
            after=after,
            result=result,
            action_id=self.action_id,
        )
