"""What people ask on the console to be done with dead letters. Source: console rules 2, 6 and 7."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from services.domain.errors import ValidationFailed
from services.messaging.dead_letters import REPLAYS_PER_SECOND, DeadLetterOffice
from state.commands import Command

MAX_GROUP = 200
"""Letters of one command."""

Outcome = dict[str, Any]


class LetterCommands:
    """Replays and discards, one letter or a group whose ids were shown."""

    def __init__(self, office: DeadLetterOffice) -> None:
        self._office = office

    @property
    def kinds(self) -> Mapping[str, Callable[[Command], Awaitable[Outcome]]]:
        return {
            "replay_dead_letter": self._replay,
            "replay_dead_letters": self._replay_group,
            "discard_dead_letter": self._discard,
            "discard_dead_letters": self._discard_group,
        }

    async def _replay(self, command: Command) -> Outcome:
        letter = await self._office.replay(command.target_id, actor=command.actor)
        return {"title": "Replayed", "detail": letter.note, "code": None}

    async def _replay_group(self, command: Command) -> Outcome:
        ids = _ids(command)
        asked = await self._office.replay_later(ids, actor=command.actor, command_id=command.command_id)
        return {
            "title": f"{asked} of {len(ids)} wait for their replay",
            "detail": f"{REPLAYS_PER_SECOND} a second at most; the others are settled already",
            "code": None,
        }

    async def _discard(self, command: Command) -> Outcome:
        await self._office.discard(command.target_id, actor=command.actor, note=_note(command))
        return {"title": "Discarded", "detail": None, "code": None}

    async def _discard_group(self, command: Command) -> Outcome:
        ids = _ids(command)
        settled = await self._office.discard_all(ids, actor=command.actor, note=_note(command))
        return {"title": f"{settled} of {len(ids)} discarded", "detail": None, "code": None}


def _ids(command: Command) -> list[str]:
    ids = [str(letter_id) for letter_id in command.arguments["ids"]]
    if not 1 <= len(ids) <= MAX_GROUP:
        raise ValidationFailed(f"ids: {len(ids)} letters; allowed: 1 to {MAX_GROUP}.")
    return ids


def _note(command: Command) -> str:
    note = str(command.arguments.get("note", "")).strip()
    if not note:
        raise ValidationFailed("note: a letter is given up only with a reason.")
    return note
