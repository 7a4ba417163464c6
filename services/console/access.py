"""What a topic of the facade works with: shared readings, stored commands, the time."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection

from services.console.cache import Reading
from state.commands import Command

T = TypeVar("T")

LIVE_TTL = 1.0
"""Seconds for which a reading serves everybody who looks."""


class Read(Protocol):
    """Reads under a key, at most once in ``ttl_seconds`` for everybody."""

    def __call__(self, key: Hashable, ttl_seconds: float, query: Callable[[Connection], T]) -> Reading[T]: ...


class Store(Protocol):
    """Stores a command; raises SourceUnavailable, and then nothing was stored."""

    def __call__(
        self, kind: str, target_id: str, arguments: Mapping[str, Any], *, actor: str, command_id: str
    ) -> Command: ...


class Direct(Protocol):
    """Reads now and for one caller; raises SourceUnavailable."""

    def __call__(self, query: Callable[[Connection], T], /) -> T: ...


class Write(Protocol):
    """Writes in the name of a person who may; raises NotPermitted or SourceUnavailable."""

    def __call__(self, actor: str, transaction: Callable[[Connection], T], /) -> T: ...


@dataclass(frozen=True, slots=True)
class Access:
    """The facade as its topics see it."""

    read: Read
    ask: Direct
    """For files and dialogs, which want the present."""
    note: Write
    """Writes what belongs to the console alone."""
    store: Store
    now: Callable[[], datetime]
