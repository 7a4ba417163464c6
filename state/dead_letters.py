"""Dead letters: incoming events that could not be handled, stored with their bytes and the reason."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, LargeBinary, and_, func, insert, or_, select

from state.bulk_jobs import is_outside
from state.engine import rows
from state.engine.keyset import Keyset
from state.engine.rows import Rows
from state.tables import dead_letters

MAX_PAGE = 200
OPEN, REPLAYED, DISCARDED = "OPEN", "REPLAYED", "DISCARDED"
STATES = (OPEN, REPLAYED, DISCARDED)

CUT_BYTES = 2048
"""Bytes of a payload in lists; get() reads the whole payload."""

# Bounded repetitions: a failing match costs the same at every position, so the time grows linearly with the length.
_VARYING = re.compile(r"'[^']{0,200}'|\"[^\"]{0,200}\"|[^\s\d]{0,80}\d\S*")
_CAUSE_LENGTH = 200
_READ_LENGTH = 5 * _CAUSE_LENGTH


def cause_of(reason: str) -> str:
    """The reason without ids, numbers and quoted values, for grouping dead letters; at most 200 characters."""
    return _VARYING.sub("\u2026", " ".join(reason[:_READ_LENGTH].split()))[:_CAUSE_LENGTH]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One event with its original bytes; in lists with the first CUT_BYTES of its payload."""

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
    incarnation: str = ""
    """Creation time of the stream; empty for dead letters of a version that did not store it."""
    size: int = 0
    """Bytes of the whole payload."""


_SIZE = func.length(dead_letters.c.payload).label("size")
_BEGINNING = func.substr(dead_letters.c.payload, 1, CUT_BYTES, type_=LargeBinary).label("payload")
_WHOLE = Rows(dead_letters, DeadLetter, size=_SIZE)
_CUT = Rows(dead_letters, DeadLetter, size=_SIZE, payload=_BEGINNING)


def add(connection: Connection, dead_letter: DeadLetter) -> bool:
    """Store a dead letter; False when the same message of the stream is stored already."""
    row = _WHOLE.values(dead_letter) | {"cause": cause_of(dead_letter.reason)}
    place = (dead_letters.c[name] == row[name] for name in ("stream", "incarnation", "stream_seq"))
    if rows.has_any(connection, dead_letters, *place):
        return False
    connection.execute(insert(dead_letters), row)
    return True


def get(connection: Connection, dead_letter_id: str) -> DeadLetter | None:
    """A dead letter with its whole payload."""
    return _WHOLE.one(connection, dead_letters.c.id == dead_letter_id)


def resolve(
    connection: Connection, dead_letter_id: str, state: str, *, by: str, note: str | None, at: datetime
) -> bool:
    """Settle an open dead letter; False when it is not open."""
    end = {"state": state, "resolved_at": at, "resolved_by": by, "note": note}
    return rows.change(connection, dead_letters, *_is_open(dead_letter_id), **end) == 1


def _is_open(dead_letter_id: str) -> tuple[ColumnElement[bool], ...]:
    return dead_letters.c.id == dead_letter_id, dead_letters.c.state == OPEN


def page(connection: Connection, *, state: str | None = OPEN, limit: int = MAX_PAGE) -> list[DeadLetter]:
    """Dead letters, newest first, with cut payloads."""
    wanted = [] if state is None else [dead_letters.c.state == state]
    return _CUT.some(connection, *wanted, order=[dead_letters.c.created_at.desc()], limit=min(limit, MAX_PAGE))


def listed(
    *, state: str = OPEN, subject: str | None = None, cause: str | None = None, order_id: str | None = None
) -> Keyset:
    """Rows of DeadLetter, newest first by ``(created_at, id)``."""
    table = dead_letters
    driving = [table.c.state == state]
    if order_id:
        driving = [table.c.order_id == order_id]
    elif subject and cause is not None:
        driving += [table.c.subject == subject, table.c.cause == cause]

    residual = (lambda row: [row.state == state]) if order_id else None
    return Keyset(_CUT.columns, (table.c.created_at, table.c.id), driving, residual)


@dataclass(frozen=True, slots=True)
class Group:
    """Dead letters with the same subject and the same cause."""

    subject: str
    cause: str
    count: int
    first_at: datetime
    last_at: datetime
    example: str
    """The reason of one dead letter of the group."""


def groups(connection: Connection, *, state: str = OPEN, limit: int = 100) -> list[Group]:
    """Groups of dead letters, the largest first."""
    table = dead_letters
    count = func.count()
    statement = (
        select(table.c.subject, table.c.cause, count, func.min(table.c.created_at), func.max(table.c.created_at))
        .where(table.c.state == state)
        .group_by(table.c.subject, table.c.cause)
        .order_by(count.desc(), table.c.subject, table.c.cause)
        .limit(limit)
    )
    found = connection.execute(statement).all()
    return [Group(row[0], row[1], row[2], row[3], row[4], _example(connection, state, row[0], row[1])) for row in found]


def _example(connection: Connection, state: str, subject: str, cause: str) -> str:
    table = dead_letters
    same = (table.c.state == state, table.c.subject == subject, table.c.cause == cause)
    return connection.scalar(select(table.c.reason).where(*same).limit(1)) or cause


@dataclass(frozen=True, slots=True)
class Outline:
    """An open dead letter without its bytes, for previews."""

    id: str
    order_id: str | None
    attempts: int
    """Number of attempts. Attempts and state together are the version: only actions change them."""
    state: str
    reason: str


_OUTLINES = Rows(dead_letters, Outline)


def outlines(connection: Connection, subject: str, cause: str, limit: int) -> list[Outline]:
    """The open dead letters of a group, oldest first."""
    table = dead_letters
    same = (table.c.state == OPEN, table.c.subject == subject, table.c.cause == cause)
    return _OUTLINES.some(connection, *same, order=[table.c.created_at, table.c.id], limit=limit)


def versions(connection: Connection, dead_letter_ids: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Attempts and state of the given dead letters."""
    table = dead_letters
    return rows.versions(connection, table.c.id, table.c.attempts, table.c.state, dead_letter_ids)


def group_name(subject: str, cause: str) -> str:
    """The name of a group, as bulk jobs store it in their causes."""
    return f"{subject}: {cause}"


def count_opened_since(
    connection: Connection, names: Sequence[str], since: datetime, *, outside_job: str, limit: int
) -> int:
    """Count open dead letters of the named groups that were added after ``since``, without those of the bulk job."""
    table = dead_letters
    pairs = [(subject, cause) for subject, _, cause in (name.partition(": ") for name in names)]
    of_group = or_(*(and_(table.c.subject == subject, table.c.cause == cause) for subject, cause in pairs))
    opened = (table.c.state == OPEN, of_group, table.c.created_at > since)
    return rows.count(connection, table, *opened, is_outside(table.c.id, outside_job), up_to=limit)


def note_failure(connection: Connection, dead_letter_id: str, reason: str) -> None:
    """Record a failed replay: one more attempt, and its reason. It is not retried automatically."""
    failure = {"attempts": dead_letters.c.attempts + 1, "reason": reason, "cause": cause_of(reason)}
    rows.change(connection, dead_letters, *_is_open(dead_letter_id), **failure)


def count_open(connection: Connection) -> int:
    return rows.count(connection, dead_letters, dead_letters.c.state == OPEN)
