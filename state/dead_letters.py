"""Events that could not be handled, kept with their bytes and the reason until a person decides."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, select, update

from state.keyset import Key, Keyset, Slice
from state.tables import dead_letters

MAX_PAGE = 200
OPEN, REPLAYED, DISCARDED = "OPEN", "REPLAYED", "DISCARDED"
STATES = (OPEN, REPLAYED, DISCARDED)

_VARYING = re.compile(r"'[^']*'|\"[^\"]*\"|\S*\d\S*")
_CAUSE_LENGTH = 200


def cause_of(reason: str) -> str:
    """What reasons have in common when only ids, numbers and quoted values differ; at most 200 characters."""
    return _VARYING.sub("\u2026", " ".join(reason.split()))[:_CAUSE_LENGTH]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One event, exactly as it came."""

    id: str
    stream: str
    stream_seq: int
    subject: str
    order_id: str | None
    payload: bytes
    headers: dict[str, str]
    reason: str
    attempts: int
    state: str
    """OPEN, REPLAYED or DISCARDED."""
    created_at: datetime
    resolved_at: datetime | None = None
    resolved_by: str | None = None
    note: str | None = None
    replay_at: datetime | None = None
    """When it will be replayed, once somebody has asked for it."""
    replay_by: str | None = None
    replay_command: str | None = None


_COLUMNS = [dead_letters.c[name] for name in DeadLetter.__dataclass_fields__]


def add(connection: Connection, letter: DeadLetter) -> bool:
    """Keep a letter; False when the same message of the stream is kept already."""
    table = dead_letters
    same = (table.c.stream == letter.stream, table.c.stream_seq == letter.stream_seq)
    if connection.execute(select(table.c.id).where(*same)).first():
        return False
    row = {name: getattr(letter, name) for name in DeadLetter.__dataclass_fields__}
    connection.execute(insert(table), row | {"cause": cause_of(letter.reason)})
    return True


def get(connection: Connection, letter_id: str) -> DeadLetter | None:
    row = connection.execute(select(*_COLUMNS).where(dead_letters.c.id == letter_id)).one_or_none()
    return DeadLetter(*row) if row else None


def resolve(connection: Connection, letter_id: str, state: str, *, by: str, note: str | None, at: datetime) -> bool:
    """Settle an open letter; False when it is not open any more."""
    done = connection.execute(
        update(dead_letters)
        .where(dead_letters.c.id == letter_id, dead_letters.c.state == OPEN)
        .values(state=state, resolved_at=at, resolved_by=by, note=note, replay_at=None)
    )
    return done.rowcount == 1


def page(connection: Connection, *, state: str | None = OPEN, limit: int = MAX_PAGE) -> list[DeadLetter]:
    """Newest first."""
    statement = select(*_COLUMNS).order_by(dead_letters.c.created_at.desc())
    if state is not None:
        statement = statement.where(dead_letters.c.state == state)
    return [DeadLetter(*row) for row in connection.execute(statement.limit(min(limit, MAX_PAGE)))]


def search(
    connection: Connection,
    *,
    state: str = OPEN,
    subject: str | None = None,
    cause: str | None = None,
    order_id: str | None = None,
    limit: int,
    before: Key | None = None,
    after: Key | None = None,
) -> Slice:
    """Rows of DeadLetter, newest first by ``(created_at, id)``."""
    table = dead_letters
    driving = [table.c.state == state]
    if order_id:
        driving = [table.c.order_id == order_id]
    elif subject and cause is not None:
        driving += [table.c.subject == subject, table.c.cause == cause]

    residual = (lambda row: [row.state == state]) if order_id else None
    listed = Keyset(_COLUMNS, (table.c.created_at, table.c.id), driving, residual)
    return listed.page(connection, min(limit, MAX_PAGE + 1), before=before, after=after)


@dataclass(frozen=True, slots=True)
class Group:
    """Letters with the same subject and the same cause."""

    subject: str
    cause: str
    letters: int
    first_at: datetime
    last_at: datetime
    example: str
    """The reason of one of them."""


def groups(connection: Connection, *, state: str = OPEN, limit: int = 100) -> list[Group]:
    """The most frequent first."""
    table = dead_letters
    letters = func.count()
    statement = (
        select(table.c.subject, table.c.cause, letters, func.min(table.c.created_at), func.max(table.c.created_at))
        .where(table.c.state == state)
        .group_by(table.c.subject, table.c.cause)
        .order_by(letters.desc(), table.c.subject, table.c.cause)
        .limit(limit)
    )
    found = connection.execute(statement).all()
    return [Group(row[0], row[1], row[2], row[3], row[4], _example(connection, state, row[0], row[1])) for row in found]


def _example(connection: Connection, state: str, subject: str, cause: str) -> str:
    table = dead_letters
    same = (table.c.state == state, table.c.subject == subject, table.c.cause == cause)
    return connection.scalar(select(table.c.reason).where(*same).limit(1)) or cause


def ids_of(connection: Connection, subject: str, cause: str, limit: int) -> list[str]:
    """The open letters of a group, oldest first."""
    table = dead_letters
    same = (table.c.state == OPEN, table.c.subject == subject, table.c.cause == cause)
    return list(connection.scalars(select(table.c.id).where(*same).order_by(table.c.created_at).limit(limit)))


def ask_replay(
    connection: Connection, letter_ids: Sequence[str], due: Sequence[datetime], *, by: str, command: str
) -> int:
    """Have open letters replayed, each at its time; returns how many are still open."""
    asked = 0
    for letter_id, at in zip(letter_ids, due, strict=True):
        changed = connection.execute(
            update(dead_letters)
            .where(dead_letters.c.id == letter_id, dead_letters.c.state == OPEN)
            .values(replay_at=at, replay_by=by, replay_command=command)
        )
        asked += changed.rowcount
    return asked


def due_replays(connection: Connection, now: datetime, limit: int) -> list[DeadLetter]:
    """Letters whose replay is due, the longest due first."""
    due = select(*_COLUMNS).where(dead_letters.c.replay_at <= now)
    rows = connection.execute(due.order_by(dead_letters.c.replay_at).limit(limit))
    return [DeadLetter(*row) for row in rows]


def bring_forward(connection: Connection, last: datetime, to: datetime, limit: int) -> int:
    """Make due at ``to`` the replays that are due after ``last``; returns how many."""
    beyond = select(dead_letters.c.id).where(dead_letters.c.replay_at > last).limit(limit)
    ids = connection.scalars(beyond).all()
    if ids:
        connection.execute(update(dead_letters).where(dead_letters.c.id.in_(ids)).values(replay_at=to))
    return len(ids)


def note_failure(connection: Connection, letter_id: str, reason: str) -> None:
    """A replay failed: one more attempt, with its reason; it is not tried again by itself."""
    table = dead_letters
    values = {"attempts": table.c.attempts + 1, "reason": reason, "cause": cause_of(reason), "replay_at": None}
    connection.execute(update(table).where(table.c.id == letter_id, table.c.state == OPEN).values(values))


def prune(connection: Connection, resolved_before: datetime, limit: int) -> int:
    """Delete a small step of letters that were settled long ago; open ones are never deleted."""
    table = dead_letters
    old = select(table.c.id).where(table.c.resolved_at < resolved_before, table.c.state != OPEN).limit(limit)
    return connection.execute(delete(table).where(table.c.id.in_(connection.scalars(old).all()))).rowcount


def count_open(connection: Connection) -> int:
    statement = select(func.count()).select_from(dead_letters).where(dead_letters.c.state == OPEN)
    return connection.scalar(statement) or 0
