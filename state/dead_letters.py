"""Events that could not be handled, kept with their bytes and the reason until a person decides."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, insert, select, update

from state.tables import dead_letters

MAX_PAGE = 200
OPEN, REPLAYED, DISCARDED = "OPEN", "REPLAYED", "DISCARDED"


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


_COLUMNS = [dead_letters.c[name] for name in DeadLetter.__dataclass_fields__]


def add(connection: Connection, letter: DeadLetter) -> bool:
    """Keep a letter; False when the same message of the stream is kept already."""
    table = dead_letters
    same = (table.c.stream == letter.stream, table.c.stream_seq == letter.stream_seq)
    if connection.execute(select(table.c.id).where(*same)).first():
        return False
    connection.execute(insert(table), {name: getattr(letter, name) for name in DeadLetter.__dataclass_fields__})
    return True


def get(connection: Connection, letter_id: str) -> DeadLetter | None:
    row = connection.execute(select(*_COLUMNS).where(dead_letters.c.id == letter_id)).one_or_none()
    return DeadLetter(*row) if row else None


def resolve(connection: Connection, letter_id: str, state: str, *, by: str, note: str | None, at: datetime) -> bool:
    """Settle an open letter; False when it is not open any more."""
    done = connection.execute(
        update(dead_letters)
        .where(dead_letters.c.id == letter_id, dead_letters.c.state == OPEN)
        .values(state=state, resolved_at=at, resolved_by=by, note=note)
    )
    return done.rowcount == 1


def page(connection: Connection, *, state: str | None = OPEN, limit: int = MAX_PAGE) -> list[DeadLetter]:
    """Newest first."""
    statement = select(*_COLUMNS).order_by(dead_letters.c.created_at.desc())
    if state is not None:
        statement = statement.where(dead_letters.c.state == state)
    return [DeadLetter(*row) for row in connection.execute(statement.limit(min(limit, MAX_PAGE)))]


def groups(
    connection: Connection, *, state: str = OPEN, limit: int = 100
) -> list[tuple[str, str, int, datetime, datetime]]:
    """``(subject, reason, letters, first_at, last_at)`` of letters with the same cause, the most frequent first."""
    table = dead_letters
    letters = func.count()
    statement = (
        select(table.c.subject, table.c.reason, letters, func.min(table.c.created_at), func.max(table.c.created_at))
        .where(table.c.state == state)
        .group_by(table.c.subject, table.c.reason)
        .order_by(letters.desc(), table.c.subject, table.c.reason)
        .limit(limit)
    )
    return [(row[0], row[1], row[2], row[3], row[4]) for row in connection.execute(statement)]


def count_open(connection: Connection) -> int:
    statement = select(func.count()).select_from(dead_letters).where(dead_letters.c.state == OPEN)
    return connection.scalar(statement) or 0
