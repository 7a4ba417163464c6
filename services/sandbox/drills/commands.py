"""What people ask for on the Sandbox page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from services.domain.arguments import reading_arguments
from services.domain.errors import ValidationFailed
from services.sandbox.drills.runner import DrillRunner
from state.commands import Command

Outcome = dict[str, Any]


class DrillCommands:
    """Starts and stops drills, and sets the rate of the traffic."""

    def __init__(self, runner: DrillRunner) -> None:
        self._runner = runner

    @property
    def kinds(self) -> Mapping[str, Callable[[Command], Awaitable[Outcome]]]:
        return {"start_drill": self._start, "stop_drill": self._stop, "set_traffic": self._set_traffic}

    async def _start(self, command: Command) -> Outcome:
        given = command.arguments
        with reading_arguments():
            seconds, reason = int(given["seconds"]), str(given["reason"])
            level = None if given.get("level") is None else float(given["level"])
        drill = await self._runner.start(
            command.target_id,
            seconds=seconds,
            level=level,
            reason=reason,
            actor=command.actor,
            drill_id=command.command_id,
        )
        return {"title": "Drill started", "detail": f"faults last {drill.seconds} s", "code": None}

    async def _stop(self, command: Command) -> Outcome:
        await self._runner.stop(command.target_id, actor=command.actor)
        return {"title": "The faults end now", "detail": None, "code": None}

    async def _set_traffic(self, command: Command) -> Outcome:
        with reading_arguments():
            rate = float(command.arguments["ordersPerSecond"])
        await self._runner.set_traffic(rate, actor=command.actor)
        return {"title": f"{rate:g} orders a second asked for", "detail": None, "code": None}


class NoDrills:
    """Replaces DrillCommands where a real Inventory Service is in use: refuses every command."""

    @property
    def kinds(self) -> Mapping[str, Callable[[Command], Awaitable[Outcome]]]:
        return dict.fromkeys(("start_drill", "stop_drill", "set_traffic"), _refuse)


async def _refuse(_: Command) -> Outcome:
    raise ValidationFailed("Drills are for the sandbox; a real Inventory Service is in use.")
