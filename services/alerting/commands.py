"""What people ask for on the console's Alerts page. Source: console rules 2 and 8."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from services.alerting.actions import AlertActions
from services.alerting.labels import matchers_of
from services.domain.arguments import reading_arguments
from state.commands import Command

Outcome = dict[str, Any]


def alert_commands(actions: AlertActions) -> dict[str, Callable[[Command], Awaitable[Outcome]]]:
    """The kinds of commands about alerts and what executes them; each may be run twice."""

    async def acknowledge(command: Command) -> Outcome:
        note = str(command.arguments.get("note", ""))
        alert = await actions.acknowledge(
            command.target_id, note=note, actor=command.actor, action_id=command.command_id
        )
        return _outcome("Acknowledged", alert.name)

    async def silence(command: Command) -> Outcome:
        given = command.arguments
        with reading_arguments():
            matchers, reason = matchers_of(given["matchers"]), str(given["reason"])
            ends_in = timedelta(milliseconds=int(given["expiresIn"]))
        made = await actions.silence(
            matchers,
            ends_in=ends_in,
            reason=reason,
            actor=command.actor,
            action_id=command.command_id,
        )
        return _outcome("Silenced", ", ".join(map(str, matchers_of(made.matchers))))

    async def end(command: Command) -> Outcome:
        await actions.end_silence(command.target_id, actor=command.actor, action_id=command.command_id)
        return _outcome("Silence ended")

    return {"acknowledge_alert": acknowledge, "silence_alert": silence, "end_silence": end}


def _outcome(title: str, detail: str | None = None) -> Outcome:
    return {"title": title, "detail": detail, "code": None}
