"""Release jobs: the durable promise that a hold is given back, one per order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from state.tables import releases

MAX_PAGE = 200
PENDING, FAILED, DONE = "PENDING", "FAILED", "DONE"
STATES = (PENDING, FAILED, DONE)


@dataclass(frozen=True, slots=True)
class Release:
    """One release job."""

    order_id: str
    reason: str
    state: str
    attempts: int
    next_attempt_at: datetime | None
    last_error: str | None
    created_at: datetime
    updated_at: datetime
    version: int


_COLUMNS = [releases.c[name] for name in Release.__dataclass_fields__]


def start(connection: Connection, order_id: str, reason: str, at: datetime) -> None:
    """Create the job, or start it again with all its attempts, due at once."""
    fresh = {
        "reason": reason,
        "state": PENDING,
        "attempts": 0,
        "next_attempt_at": at,
        "last_error": None,
        "updated_at": at,
    }
    again = connection.execute(
        update(releases).where(releases.c.order_id == order_id).values(version=releases.c.version + 1, **fresh)
    )
    if not again.rowcount:
        connection.execute(insert(releases), {"order_id": order_id, "created_at": at, "version": 1, **fresh})


def claim_due(connection: Connection, now: datetime, until: datetime, limit: int) -> list[Release]:
    """Take jobs whose time has come; no other replica takes them before ``until``."""
    due = (
        select(releases.c.order_id)
        .where(releases.c.state == PENDING, releases.c.next_attempt_at <= now)
        .order_by(releases.c.next_attempt_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return _claim(connection, connection.scalars(due).all(), until)


def claim(connection: Connection, order_ids: Sequence[str], until: datetime) -> list[Release]:
    """Take the given jobs now, whatever their time, unless they are done."""
    wanted = (
        select(releases.c.order_id)
        .where(releases.c.order_id.in_(order_ids), releases.c.state != DONE)
        .with_for_update(skip_locked=True)
    )
    return _claim(connection, connection.scalars(wanted).all(), until)


def _claim(connection: Connection, ids: Sequence[str], until: datetime) -> list[Release]:
    if not ids:
        return []
    connection.execute(
        update(releases)
        .where(releases.c.order_id.in_(ids))
        .values(state=PENDING, next_attempt_at=until, version=releases.c.version + 1)
    )
    rows = connection.execute(select(*_COLUMNS).where(releases.c.order_id.in_(ids)))
    return [Release(*row) for row in rows]


def bring_forward(connection: Connection, last: datetime, to: datetime, limit: int) -> int:
    """Make due at ``to`` what is due after ``last``; returns how many jobs."""
    is_beyond = (releases.c.state == PENDING, releases.c.next_attempt_at > last)
    ids = connection.scalars(select(releases.c.order_id).where(*is_beyond).limit(limit)).all()
    if ids:
        change = update(releases).where(releases.c.order_id.in_(ids), *is_beyond).values(next_attempt_at=to)
        connection.execute(change)
    return len(ids)


def settle(connection: Connection, release: Release, at: datetime, **values: Any) -> bool:
    """Record how an attempt ended; False when the job was started again meanwhile."""
    done = connection.execute(
        update(releases)
        .where(releases.c.order_id == release.order_id, releases.c.version == release.version)
        .values(updated_at=at, version=release.version + 1, **values)
    )
    return done.rowcount == 1


def get(connection: Connection, order_id: str) -> Release | None:
    row = connection.execute(select(*_COLUMNS).where(releases.c.order_id == order_id)).one_or_none()
    return Release(*row) if row else None


def page(
    connection: Connection, *, states: Sequence[str] = STATES, limit: int = MAX_PAGE, offset: int = 0
) -> list[Release]:
    """Jobs, the most recently touched first."""
    statement = (
        select(*_COLUMNS)
        .where(releases.c.state.in_(states))
        .order_by(releases.c.updated_at.desc(), releases.c.order_id)
        .limit(min(limit, MAX_PAGE))
        .offset(offset)
    )
    return [Release(*row) for row in connection.execute(statement)]


def count_by_state(connection: Connection) -> dict[str, int]:
    statement = (
        select(releases.c.state, func.count()).where(releases.c.state.in_((PENDING, FAILED))).group_by(releases.c.state)
    )
    return dict(connection.execute(statement).all())
