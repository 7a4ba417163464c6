"""Events that could not be handled: kept with their bytes, replayed by running the handler again.

Source: contract section 5, last paragraph; design 6.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

import orjson
from sqlalchemy import Connection

from services.domain.errors import InvalidState, NotFound
from services.messaging.envelope import IncomingEvent, PoisonEvent, decode
from state import audit, dead_letters
from state.audit import AuditEntry
from state.correlation import correlated
from state.database import Database
from state.dead_letters import DISCARDED, OPEN, REPLAYED, DeadLetter

REPLAYS_PER_SECOND = 10
"""Of a group: handlers of replayed events must not crowd out those of new ones."""

AT_ONCE = 20


class DeadLetterOffice:
    """Keeps letters, and lets people replay or discard them."""

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
    ) -> None:
        """Store a message exactly as it came; once per place in its stream."""
        letter = DeadLetter(
            id=self._new_id(),
            stream=stream,
            stream_seq=stream_seq,
            subject=subject,
            order_id=order_id_in(payload),
            payload=payload,
            headers=dict(headers),
            reason=storable(reason),
            attempts=attempts,
            state=OPEN,
            created_at=self._clock(),
        )
        await self._database.write(lambda connection: dead_letters.add(connection, letter))

    async def replay(self, letter_id: str, *, actor: str) -> DeadLetter:
        """Run the handler on the stored bytes; raises InvalidState when it fails again, NotFound."""
        letter = await self._open_letter(letter_id)
        try:
            event = decode(
                letter.payload,
                subject=letter.subject,
                headers=letter.headers,
                fallback_id=f"{letter.stream}:{letter.stream_seq}",
            )
            outcome = await self._handle(event)
        except PoisonEvent as error:
            await self._record_failure(letter, actor, str(error))
            raise InvalidState(f"The event cannot be handled: {error}", {"id": letter_id}) from None
        except Exception as error:
            # A boundary: whatever the handler does, the person who asked for it is recorded and told.
            await self._record_failure(letter, actor, f"{type(error).__name__}: {error}")
            raise InvalidState(f"The handler failed again: {error}", {"id": letter_id}) from error
        return await self._settle(letter, REPLAYED, actor, f"handler: {outcome}")

    async def discard(self, letter_id: str, *, actor: str, note: str) -> DeadLetter:
        """Give a letter up, with the reason; raises InvalidState when it is settled already, NotFound."""
        letter = await self._open_letter(letter_id)
        return await self._settle(letter, DISCARDED, actor, note)

    async def discard_all(self, letter_ids: Sequence[str], *, actor: str, note: str) -> int:
        """Give up those of the letters that are still open, all at once; returns how many there were."""
        letters = [await self._get(letter_id) for letter_id in letter_ids]

        def transaction(connection: Connection) -> int:
            at = self._clock()
            settled = [
                letter
                for letter in letters
                if dead_letters.resolve(connection, letter.id, DISCARDED, by=actor, note=note, at=at)
            ]
            for letter in settled:
                audit.add(connection, _audit(letter, DISCARDED, actor, note, at, result="done"))
            return len(settled)

        return await self._database.write(transaction)

    async def replay_later(self, letter_ids: Sequence[str], *, actor: str, command_id: str) -> int:
        """Have letters replayed one after another, REPLAYS_PER_SECOND at most; returns how many are still open."""
        at = self._clock()
        due = [at + timedelta(seconds=number / REPLAYS_PER_SECOND) for number in range(len(letter_ids))]
        return await self._database.write(
            lambda connection: dead_letters.ask_replay(connection, letter_ids, due, by=actor, command=command_id)
        )

    async def replay_due(self) -> bool:
        """Replay what is due, each once; one round of a Loop: whether more may be due."""
        letters = await self._database.read(
            lambda connection: dead_letters.due_replays(connection, self._clock(), AT_ONCE)
        )
        for letter in letters:
            with correlated(letter.replay_command or letter.id), suppress(InvalidState):
                # What fails again is noted on the letter.
                await self.replay(letter.id, actor=letter.replay_by or "system")
        return len(letters) == AT_ONCE

    async def _open_letter(self, letter_id: str) -> DeadLetter:
        letter = await self._get(letter_id)
        if letter.state != OPEN:
            raise InvalidState(f"This dead letter is {letter.state}.", {"id": letter_id, "state": letter.state})
        return letter

    async def _settle(self, letter: DeadLetter, state: str, actor: str, note: str) -> DeadLetter:
        def transaction(connection: Connection) -> None:
            at = self._clock()
            if not dead_letters.resolve(connection, letter.id, state, by=actor, note=note, at=at):
                raise InvalidState("Somebody else settled this dead letter.", {"id": letter.id})
            audit.add(connection, _audit(letter, state, actor, note, at, result="done"))

        await self._database.write(transaction)
        return await self._get(letter.id)

    async def _record_failure(self, letter: DeadLetter, actor: str, reason: str) -> None:
        entry = _audit(letter, REPLAYED, actor, storable(reason), self._clock(), result="failed")

        def transaction(connection: Connection) -> None:
            dead_letters.note_failure(connection, letter.id, storable(reason))
            audit.add(connection, entry)

        await self._database.write(transaction)

    async def _get(self, letter_id: str) -> DeadLetter:
        letter = await self._database.read(lambda connection: dead_letters.get(connection, letter_id))
        if letter is None:
            raise NotFound("dead-letter", letter_id)
        return letter


def order_id_in(payload: bytes) -> str | None:
    """The order that an event is about, as far as its bytes can be read."""
    try:
        body = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(body, dict):
        return None
    data = body.get("data")
    order_id = (data if isinstance(data, dict) else body).get("orderId")
    return storable(order_id)[:128] if isinstance(order_id, str) else None


def storable(text: str) -> str:
    """Text without the NUL characters that PostgreSQL refuses: a letter must never be lost for them."""
    return text.replace("\x00", "\\x00")


def _audit(letter: DeadLetter, state: str, actor: str, reason: str, at: datetime, *, result: str) -> AuditEntry:
    return AuditEntry(
        at=at,
        actor=actor,
        action="REPLAY_EVENT" if state == REPLAYED else "DISCARD_EVENT",
        target=f"dead-letter:{letter.id}",
        order_id=letter.order_id,
        reason=reason,
        before={"state": OPEN},
        after={"state": state if result == "done" else OPEN},
        result=result,
        action_id=None,
    )
