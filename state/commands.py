"""Stored commands: the console stores them, a worker runs them, and the outcome is kept.

The id of a command is its idempotency key: a known id is not stored again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, cast

from sqlalchemy import ColumnElement, Connection, ScalarSelect, literal, or_, select, text, union_all

from services.domain.commands import QUEUED, UNFINISHED, CommandState, Outcome
from state.engine import rows
from state.engine.rows import Rows
from state.tables import commands

MAX_TARGETS = 200
"""Targets of one query; SQLite allows 500 parts in a compound query."""


@dataclass(frozen=True, slots=True)
class Command:
    """One stored request of one actor."""

    command_id: str
    kind: str
    """A CommandKind; a row of a newer version may hold another one."""
    target_id: str
    arguments: dict[str, Any]
    actor: str
    state: str
    """A CommandState."""
    created_at: datetime
    finished_at: datetime | None = None
    outcome: Outcome | None = None
    undo_until: datetime | None = None
    """No worker runs the command before this time, and it can be undone until then; None: it runs at once."""
    role: str = "operator"
    """The role of the actor when the command was stored."""
    attempts: int = 0
    """How often the command was claimed."""

    @property
    def was_queued(self) -> bool:
        """True when an open circuit breaker has ever delayed the command."""
        return self.outcome is not None and self.outcome.code == QUEUED

    @property
    def is_queued(self) -> bool:
        """True while the command waits for a circuit breaker."""
        return self.state == CommandState.STORED and self.was_queued

    @property
    def is_unfinished(self) -> bool:
        return self.state in UNFINISHED


_COMMANDS = Rows(commands, Command, undo_until="not_before")


def _command(command: Command) -> Command:
    return replace(command, outcome=Outcome.read(command.outcome))


def store(connection: Connection, command: Command) -> None:
    """Store a command; nothing happens when its id is already stored."""
    outcome = command.outcome.stored() if command.outcome else None
    rows.insert_new(connection, commands, _COMMANDS.values(command) | {"outcome": outcome})


def claim(
    connection: Connection,
    now: datetime,
    until: datetime,
    limit: int,
    *,
    by: str = "",
    only: Collection[str] | None = None,
    never: Collection[str] = (),
) -> list[Command]:
    """Claim waiting commands and commands whose claim has expired, oldest first.

    ``by`` names the claim; with this name, keep() and finish() detect that the claim is lost. ``only`` and ``never``
    filter by kind.
    """
    ids = rows.claim(
        connection,
        commands,
        *_waiting(now, only, never),
        order=[commands.c.created_at],
        limit=limit,
        state=CommandState.RUNNING,
        claimed_until=until,
        claimed_by=by,
        attempts=commands.c.attempts + 1,
    )
    if not ids:
        return []
    return _some(connection, commands.c.command_id.in_(ids), order=[commands.c.created_at], limit=len(ids))


def keep(connection: Connection, command_id: str, by: str, until: datetime, outcome: Outcome | None = None) -> bool:
    """Extend a claim to ``until``, with a provisional outcome; False when the claim is lost."""
    provisional = {"outcome": outcome.stored()} if outcome else {}
    return rows.change(connection, commands, *_claimed(command_id, by), claimed_until=until, **provisional) == 1


def any_waiting(
    connection: Connection, now: datetime, *, only: Collection[str] | None = None, never: Collection[str] = ()
) -> bool:
    """Whether claim() would find a command; cheap enough for several calls per second."""
    return rows.has_any(connection, commands, *_waiting(now, only, never))


def _waiting(now: datetime, only: Collection[str] | None, never: Collection[str]) -> list[ColumnElement[bool]]:
    conditions = [
        # The condition of the partial index ix_commands_waiting, verbatim, so that finished commands are not read.
        cast("ColumnElement[bool]", text("commands.state IN ('STORED', 'RUNNING')")),
        or_(commands.c.state == CommandState.STORED, commands.c.claimed_until < now),
        or_(commands.c.not_before.is_(None), commands.c.not_before <= now),
    ]
    if never:
        conditions.append(commands.c.kind.not_in(never))
    if only is not None:
        conditions.append(commands.c.kind.in_(only))
    return conditions


def withdraw(connection: Connection, command_id: str, outcome: Outcome, at: datetime) -> Command | None:
    """Withdraw a delayed command; None when it does not exist or no longer waits.

    A concurrent claim and a withdrawal cannot both succeed: both need the state STORED, and the database serialises
    the two changes.
    """
    is_held = (commands.c.state == CommandState.STORED, commands.c.not_before.is_not(None))
    end = {"state": CommandState.WITHDRAWN, "outcome": outcome.stored(), "finished_at": at}
    done = rows.change(connection, commands, commands.c.command_id == command_id, *is_held, **end)
    return get(connection, command_id) if done else None


def postpone(
    connection: Connection,
    command_id: str,
    by: str,
    until: datetime,
    arguments: dict[str, Any],
    outcome: Outcome,
) -> bool:
    """Delay a running command to ``until``, with new arguments; False when the claim is lost.

    The command can be undone until then. Its attempts start at 0 again, because this attempt did not fail.
    """
    unclaimed = {"state": CommandState.STORED, "claimed_until": None, "claimed_by": None, "attempts": 0}
    values = {"not_before": until, "arguments": arguments, "outcome": outcome.stored()}
    return rows.change(connection, commands, *_claimed(command_id, by), **unclaimed, **values) == 1


def finish(
    connection: Connection,
    command_id: str,
    state: str,
    outcome: Outcome,
    at: datetime,
    *,
    by: str | None = None,
) -> bool:
    """Store the end of a command; False when ``by`` names a claim that is lost."""
    mine = _claimed(command_id, by) if by is not None else (commands.c.command_id == command_id,)
    end = {"state": state, "outcome": outcome.stored(), "finished_at": at}
    return rows.change(connection, commands, *mine, **end) == 1


def _claimed(command_id: str, by: str) -> tuple[ColumnElement[bool], ...]:
    return commands.c.command_id == command_id, commands.c.state == CommandState.RUNNING, commands.c.claimed_by == by


def get(connection: Connection, command_id: str) -> Command | None:
    found = _COMMANDS.one(connection, commands.c.command_id == command_id)
    return _command(found) if found else None


def latest(connection: Connection, *, target_id: str | None = None, limit: int = 20) -> list[Command]:
    """Commands of one target or of all, newest first."""
    of_target = [] if target_id is None else [commands.c.target_id == target_id]
    return _some(connection, *of_target, order=[commands.c.created_at.desc()], limit=limit)


def _some(connection: Connection, *conditions: Any, order: Sequence[Any], limit: int) -> list[Command]:
    return [_command(found) for found in _COMMANDS.some(connection, *conditions, order=order, limit=limit)]


def latest_of(connection: Connection, target_ids: Sequence[str], kinds: Sequence[str] = ()) -> dict[str, Command]:
    """The newest command per target, of all kinds or of some; reads one row per target and kind."""
    found: dict[str, Command] = {}
    for start in range(0, len(target_ids), MAX_TARGETS):
        for command in _newest(connection, target_ids[start : start + MAX_TARGETS], kinds):
            known = found.get(command.target_id)
            if known is None or (known.created_at, known.command_id) < (command.created_at, command.command_id):
                found[command.target_id] = command
    return found


def _newest(connection: Connection, target_ids: Sequence[str], kinds: Sequence[str]) -> list[Command]:
    # A subquery per target reads one index row; a window function would read all commands of the target.
    wanted = union_all(*(select(literal(target_id).label("target_id")) for target_id in target_ids)).subquery()
    newest = [select(_newest_id(wanted.c.target_id, kind)).select_from(wanted) for kind in (kinds or (None,))]
    chosen = or_(*(commands.c.command_id.in_(ids) for ids in newest))
    return _some(connection, chosen, order=(), limit=len(newest) * len(target_ids))


def _newest_id(target_id: ColumnElement[str], kind: str | None) -> ScalarSelect[str]:
    # Without an alias, SQLAlchemy would correlate the table with the enclosing query.
    one = commands.alias("one")
    of_target = select(one.c.command_id).where(one.c.target_id == target_id)
    of_kind = of_target if kind is None else of_target.where(one.c.kind == kind)
    return of_kind.order_by(one.c.created_at.desc(), one.c.command_id.desc()).limit(1).scalar_subquery()
