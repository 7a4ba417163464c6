"""What people ask on the console to be done with dead letters. Source: console rules 2, 6 and 7."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from services.domain.errors import ValidationFailed
from services.messaging.dead_letters import DeadLetterOffice
from state.commands import Command

Outcome = dict[str, Any]


class LetterCommands:
    """Replays and discards of one letter; those of a group are bulk operations, see letter_verbs."""

    def __init__(self, office: DeadLetterOffice) -> None:
        self._office = office

    @property
    def kinds(self) -> Mapping[str, Callable[[Command], Awaitable[Outcome]]]:
        return {
            "replay_dead_letter": self._replay,
            "discard_dead_letter": self._discard,
        }

    async def _replay(self, command: Command) -> Outcome:
        outcome = await self._office.handle_again(command.target_id, actor=command.actor, action_id=command.command_id)
        return {"title": "Replayed", "detail": f"handler: {outcome}", "code": None}

    async def _discard(self, command: Command) -> Outcome:
        note = _note(command)
        await self._office.discard(command.target_id, actor=command.actor, note=note, action_id=command.command_id)
        return {"title": "Discarded", "detail": None, "code": None}


def _note(command: Command) -> str:
    note = str(command.arguments.get("note", "")).strip()
    if not note:
        raise ValidationFailed("note: a letter is given up only with a reason.")
    return note
