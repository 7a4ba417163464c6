"""Database access of the console's topics: cached reads, writes, stored commands, undo, permissions.

CONSOLE_ROLE is the default role; CONSOLE_PEOPLE lists other roles for users who log in. A typed name never gets
the role of a listed name. Source: requirements 11.1, rule 10; docs/adr/0016.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection

from services.console.cache import Reading, ReadingCache
from services.domain.commands import COMMANDS, CommandState, Outcome
from services.domain.roles import ADMIN, NONE, OPERATE
from services.unit_of_work import action_entry
from state import audit, commands, orders, reviews
from state.audit import AuditEntry
from state.commands import Command

T = TypeVar("T")

LIVE_TTL = 1.0
"""Seconds for which every page shares a reading of live data."""
TRENDS_TTL = 2.5
"""Seconds for which every page shares a reading of data that changes slowly or costs more."""


class NotPermitted(Exception):
    """The actor may not do that; the message gives the reason."""


@dataclass(frozen=True, slots=True)
class People:
    """Roles by name of the user."""

    default: str
    listed: Mapping[str, str] = field(default_factory=dict)

    def role_of(self, actor: str) -> str:
        """The role that is stored with an actor's commands."""
        return self.listed.get(actor, self.default)

    def is_listed(self, name: str) -> bool:
        """True when the name belongs to a user who logs in; no other user may type it."""
        return name in self.listed

    def may_look(self, actor: str) -> bool:
        return self.role_of(actor) != NONE

    def is_admin(self, actor: str) -> bool:
        return self.role_of(actor) == ADMIN

    def why_not_act(self, actor: str) -> str | None:
        """Why this actor may not store commands; None when the actor may."""
        role = self.role_of(actor)
        return None if role in OPERATE else f"Your role here is {role}: an operator may do this."


class Database(Protocol):
    """The part of state.engine.source.Source that is used here."""

    def read(self, query: Callable[[Connection], T], /) -> T: ...

    def write(self, transaction: Callable[[Connection], T], /) -> T: ...


@dataclass(frozen=True, slots=True)
class Access:
    """Reads and writes of the console's topics."""

    database: Database
    cache: ReadingCache
    people: People
    now: Callable[[], datetime]
    """The console's time, aware UTC."""

    def read(self, key: Hashable, ttl_seconds: float, query: Callable[[Connection], T | None]) -> Reading[T]:
        """Read through the cache: the query of a key runs at most once in ``ttl_seconds`` for all pages."""
        reading: Reading[Any] = self.cache.get(key, ttl_seconds, lambda: self.database.read(query))
        return reading

    def read_now(self, query: Callable[[Connection], T]) -> T:
        """Read past the cache, for files and dialogs. Raises SourceUnavailable."""
        return self.database.read(query)

    def write(self, actor: str, transaction: Callable[[Connection], T]) -> T:
        """Write on behalf of an actor and expire the cache. Raises NotPermitted or SourceUnavailable."""
        if reason := self.people.why_not_act(actor):
            raise NotPermitted(reason)
        written = self.database.write(transaction)
        self.cache.expire()
        return written

    def store_command(
        self,
        kind: str,
        target_id: str,
        arguments: Mapping[str, Any],
        *,
        actor: str,
        command_id: str,
        undo_for: timedelta | None = None,
    ) -> Command:
        """Store a command for the worker; a ``command_id`` that is already stored is not stored again.

        ``undo_for`` delays the command, so that it can be undone until then. Returns the command as it is
        stored. Raises NotPermitted or SourceUnavailable, and then nothing was stored.
        """
        if kind not in COMMANDS:
            raise ValueError(f"unknown command {kind!r}")
        now = self.now()
        command = Command(
            command_id,
            kind,
            storable(target_id),
            storable(arguments),
            actor,
            CommandState.STORED,
            now,
            undo_until=now + undo_for if undo_for else None,
            role=self.people.role_of(actor),
        )

        def store(connection: Connection) -> Command:
            commands.store(connection, command)
            return commands.get(connection, command_id) or command

        return self.write(actor, store)

    def withdraw(self, command: Command, *, actor: str) -> bool:
        """Withdraw a delayed command; False when a worker has run it. Raises SourceUnavailable, NotPermitted."""

        def take(connection: Connection) -> bool:
            at = self.now()
            outcome = Outcome(f"Taken back by {actor}")
            taken = commands.withdraw(connection, command.command_id, outcome, at)
            if taken is None:
                return False
            _record_undo(connection, taken, actor, at)
            return True

        return self.write(actor, take)


class Topic:
    """What the pages read and write of one topic."""

    def __init__(self, access: Access) -> None:
        self._access = access


def _record_undo(connection: Connection, command: Command, actor: str, at: datetime) -> None:
    """Record the undo on the order's timeline and in the audit log, in the same transaction."""
    action = str(command.arguments.get("action") or command.kind).upper()
    target, order_id = _undo_target(connection, command)
    given = command.arguments
    if order_id:
        entry = action_entry(at, f"Taken back before it ran: {action}", actor, given.get("note") or given.get("reason"))
        orders.add_timeline(connection, order_id, [entry])
    audit.add(
        connection,
        AuditEntry(
            at=at,
            actor=actor,
            action="UNDO",
            target=target,
            order_id=order_id,
            reason=f"{action} asked for by {command.actor}",
            before={"command": command.command_id, "state": CommandState.STORED},
            after={"command": command.command_id, "state": CommandState.WITHDRAWN},
        ),
    )


def _undo_target(connection: Connection, command: Command) -> tuple[str, str | None]:
    """The audit target of a command, and the id of its order if it is known."""
    definition = COMMANDS[command.kind]
    if definition.is_named_by_order:
        order = orders.get(connection, command.target_id)
        order_id = order.order_id if order else None
    else:
        review = reviews.get(connection, command.target_id)
        order_id = review.order_id if review else None
    return f"{definition.target}:{command.target_id}", order_id


_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""PostgreSQL stores no NUL, and no database stores half of a surrogate pair."""


def storable(value: Any) -> Any:
    """A JSON value with U+FFFD for each character that a database rejects; tuples become lists."""
    if isinstance(value, str):
        return _UNSTORABLE.sub("\ufffd", value)
    if isinstance(value, Mapping):
        return {storable(name): storable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]
    return value
