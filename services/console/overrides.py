"""Forcing a breaker from the console: which overrides run, and asking for one or for its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from services.breakers.overrides import END_OVERRIDE, FORCED, LONGEST_OVERRIDE, SET_OVERRIDE
from services.console.cache import Reading, Readings
from state import commands, overrides
from state.commands import Command
from state.engine.source import Source
from state.overrides import BreakerOverride

__all__ = ["FORCED", "LONGEST_OVERRIDE", "BreakerOverride", "Overrides"]

TTL_SECONDS = 1.0
KINDS = (SET_OVERRIDE, END_OVERRIDE)

Store = Callable[..., Command]
"""Console.store_command."""


class Overrides:
    """What the Breakers page and the banner ask for."""

    def __init__(self, readings: Readings, database: Source, clock: Callable[[], datetime], store: Store) -> None:
        self._readings = readings
        self._database = database
        self._clock = clock
        self._store = store

    def running(self) -> Reading[Mapping[str, BreakerOverride]]:
        """The overrides that have not expired, by breaker."""
        return self._read("overrides", lambda c: overrides.active(c, self._clock()))

    def asked(self, breakers: tuple[str, ...]) -> Reading[Mapping[str, Command]]:
        """The last command on each breaker."""
        return self._read(("overrides asked", breakers), lambda c: commands.latest_of(c, list(breakers)))

    def start(
        self, breaker: str, state: str, reason: str, expires_in: timedelta, *, actor: str, command_id: str
    ) -> Command:
        """Lend a state to a breaker of every replica; it returns by itself."""
        milliseconds = expires_in // timedelta(milliseconds=1)
        arguments = {"state": state, "reason": reason, "expiresIn": milliseconds}
        return self._store(SET_OVERRIDE, breaker, arguments, actor=actor, command_id=command_id)

    def end(self, override: BreakerOverride, *, actor: str, command_id: str) -> Command:
        """Give an override back now."""
        return self._store(END_OVERRIDE, override.breaker, {}, actor=actor, command_id=command_id)

    def _read(self, key: Any, query: Callable[[Connection], Any]) -> Reading[Any]:
        return self._readings.get(key, TTL_SECONDS, lambda: self._database.read(query))
