"""What people ask on the console to be done with events that cannot be published. Source: console rules 2 and 8."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from services.commands.undeliverable import KIND, UndeliverableEvents
from services.domain.errors import NotFound, ValidationFailed
from services.domain.external import INT64, NotAllowed, whole_number
from state.commands import Command

Outcome = dict[str, Any]


class OutboxCommands:
    """Publishes one undeliverable event again, or gives it up; run twice, a command takes effect once."""

    def __init__(self, events: UndeliverableEvents) -> None:
        self._events = events

    @property
    def kinds(self) -> Mapping[str, Callable[[Command], Awaitable[Outcome]]]:
        return {"retry_outgoing_event": self._retry, "discard_outgoing_event": self._discard}

    async def _retry(self, command: Command) -> Outcome:
        if not await self._events.is_done(command.command_id):
            note = _note(command) or None
            await self._events.retry(_row_id(command), actor=command.actor, reason=note, action_id=command.command_id)
        return {"title": "Waits to be published", "detail": None, "code": None}

    async def _discard(self, command: Command) -> Outcome:
        note = _note(command)
        if not note:
            raise ValidationFailed("note: an event is given up only with a reason.")
        if not await self._events.is_done(command.command_id):
            await self._events.discard(_row_id(command), actor=command.actor, reason=note, action_id=command.command_id)
        return {"title": "Given up", "detail": None, "code": None}


def _note(command: Command) -> str:
    return str(command.arguments.get("note", "")).strip()


def _row_id(command: Command) -> int:
    try:
        return whole_number(command.target_id, 1, INT64[1])
    except NotAllowed:
        raise NotFound(KIND, command.target_id) from None
