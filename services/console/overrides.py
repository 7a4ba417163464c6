"""Breaker overrides on the console: the active ones, and the commands to start and to end one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from services.console.access import LIVE_TTL, Access
from services.console.cache import Reading
from services.domain.commands import CommandKind
from state import breakers, commands
from state.breakers import BreakerOverride
from state.commands import Command


class Overrides:
    """Reads and commands of the Breakers page and the banner."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def running(self) -> Reading[Mapping[str, BreakerOverride]]:
        """The overrides that have not expired, by breaker."""
        return self._access.read("overrides", LIVE_TTL, lambda c: breakers.active_overrides(c, self._access.now()))

    def asked(self, breakers: tuple[str, ...]) -> Reading[Mapping[str, Command]]:
        """The last command on each breaker."""
        return self._access.read(
            ("overrides asked", breakers), LIVE_TTL, lambda c: commands.latest_of(c, list(breakers))
        )

    def start(
        self, breaker: str, state: str, reason: str, expires_in: timedelta, *, actor: str, command_id: str
    ) -> Command:
        """Store the command to override a breaker on every replica."""
        milliseconds = expires_in // timedelta(milliseconds=1)
        arguments = {"state": state, "reason": reason, "expiresIn": milliseconds}
        return self._access.store_command(
            CommandKind.START_OVERRIDE, breaker, arguments, actor=actor, command_id=command_id
        )

    def end(self, override: BreakerOverride, *, actor: str, command_id: str) -> Command:
        """Store the command to end an override now."""
        return self._access.store_command(
            CommandKind.END_OVERRIDE, override.breaker, {}, actor=actor, command_id=command_id
        )
