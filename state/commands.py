"""What people asked for on the console: stored first, executed by a worker, outcome kept.

The command's id is its idempotency key: storing it twice is storing it once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import ColumnElement, Connection, and_, delete, or_, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from state.tables import commands

STORED, RUNNING, DONE, REFUSED = "STORED", "RUNNING", "DONE", "REFUSED"


@dataclass(frozen=True, slots=True)
class Command:
    """One click of one person."""

    command_id: str
    kind: str
    target_id: str
    arguments: dict[str, Any]
    actor: str
    state: str
    """STORED, RUNNING, DONE or REFUSED."""
    created_at: datetime
    finished_at: datetime | None = None
    outcome: dict[str, Any] | None = None


_COLUMNS = [commands.c[name] for name in Command.__dataclass_fields__]


def store(connection: Connection, command: Command) -> None:
    """Store a command; nothing happens when its id is stored already."""
    row = {name: getattr(command, name) for name in Command.__dataclass_fields__}
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    connection.execute(dialect.insert(commands).on_conflict_do_nothing(index_elements=["command_id"]), row)


def claim(connection: Connection, now: datetime, until: datetime, limit: int) -> list[Command]:
    """Take waiting commands, oldest first; also those whose worker died while running them."""
    waiting = (
        select(commands.c.command_id)
        .where(*_waiting(now))
        .order_by(commands.c.created_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = connection.scalars(waiting).all()
    if not ids:
        return []
    connection.execute(
        update(commands).where(commands.c.command_id.in_(ids)).values(state=RUNNING, claimed_until=until)
    )
    rows = connection.execute(select(*_COLUMNS).where(commands.c.command_id.in_(ids)).order_by(commands.c.created_at))
    return [Command(*row) for row in rows]


def any_waiting(connection: Connection, now: datetime) -> bool:
    """Whether claim() would find something; cheap enough to ask several times a second."""
    waiting = select(commands.c.command_id).where(*_waiting(now))
    return connection.execute(waiting.order_by(commands.c.created_at).limit(1)).first() is not None


def _waiting(now: datetime) -> tuple[ColumnElement[bool], ...]:
    # The first condition, word for word that of the index ix_commands_waiting, keeps finished commands unread.
    unfinished = text("commands.state IN ('STORED', 'RUNNING')")
    is_free = or_(commands.c.state == STORED, and_(commands.c.state == RUNNING, commands.c.claimed_until < now))
    return cast("ColumnElement[bool]", unfinished), is_free


def bring_forward(connection: Connection, last: datetime, to: datetime, limit: int) -> int:
    """End at ``to`` the claims that last until after ``last``; returns how many commands."""
    is_beyond = (text("commands.state IN ('STORED', 'RUNNING')"), commands.c.claimed_until > last)
    ids = connection.scalars(select(commands.c.command_id).where(*is_beyond).limit(limit)).all()
    if ids:
        ended = to - timedelta(milliseconds=1)
        connection.execute(update(commands).where(commands.c.command_id.in_(ids)).values(claimed_until=ended))
    return len(ids)


def finish(connection: Connection, command_id: str, state: str, outcome: dict[str, Any], at: datetime) -> None:
    values = {"state": state, "outcome": outcome, "finished_at": at}
    connection.execute(update(commands).where(commands.c.command_id == command_id).values(values))


def get(connection: Connection, command_id: str) -> Command | None:
    row = connection.execute(select(*_COLUMNS).where(commands.c.command_id == command_id)).one_or_none()
    return Command(*row) if row else None


def latest(connection: Connection, *, target_id: str | None = None, limit: int = 20) -> list[Command]:
    """Newest first, of one target or of all."""
    statement = select(*_COLUMNS)
    if target_id is not None:
        statement = statement.where(commands.c.target_id == target_id)
    rows = connection.execute(statement.order_by(commands.c.created_at.desc()).limit(limit))
    return [Command(*row) for row in rows]


def latest_of(connection: Connection, target_ids: list[str]) -> dict[str, Command]:
    """The newest command per target."""
    statement = select(*_COLUMNS).where(commands.c.target_id.in_(target_ids)).order_by(commands.c.created_at)
    return {row.target_id: Command(*row) for row in connection.execute(statement)}


def prune(connection: Connection, finished_before: datetime, limit: int) -> int:
    old = select(commands.c.command_id).where(
        commands.c.created_at < finished_before, commands.c.finished_at.is_not(None)
    )
    ids = connection.scalars(old.limit(limit)).all()
    return connection.execute(delete(commands).where(commands.c.command_id.in_(ids))).rowcount
