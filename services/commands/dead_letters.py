"""What people ask on the console to be done with dead letters. Source: console rules 2, 6 and 7."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from services.domain.errors import ValidationFailed
from services.messaging.dead_letters import DeadLetters
from state.commands import Command

Outcome = dict[str, Any]


class DeadLetterCommands:
    """Replays and discards of one dead letter; a group is replayed or discarded by a bulk job."""

    def __init__(self, dead_letters: DeadLetters) -> None:
        self._dead_letters = dead_letters

    @property
    def kinds(self) -> Mapping[str, Callable[[Command], Awaitable[Outcome]]]:
        return {
            "replay_dead_letter": self._replay,
            "discard_dead_letter": self._discard,
        }

    async def _replay(self, command: Command) -> Outcome:
        outcome = await self._dead_letters.handle_again(
            command.target_id, actor=command.actor, action_id=command.command_id
        )
        return {"title": "Replayed", "detail": f"handler: {outcome}", "code": None}

    async def _discard(self, command: Command) -> Outcome:
        note = _note(command)
        await self._dead_letters.discard(
            command.target_id, actor=command.actor, note=note, action_id=command.command_id
        )
        return {"title": "Discarded", "detail": None, "code": None}


def _note(command: Command) -> str:
    note = str(command.arguments.get("note", "")).strip()
    if not note:
        raise ValidationFailed("note: a letter is given up only with a reason.")
    return note
