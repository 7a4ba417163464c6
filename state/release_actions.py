"""What was done about release jobs that had failed, and what came of it: the memory of their causes.

A job forgets its cause when it is done or begins anew, so what was done is kept in a row of its own. A move is
undecided until its job ends; a hold that has to be released again was not released for good.
Source: console, "what none of them has" 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update

from services.domain.past_resolutions import FAILED, HELD, UNDECIDED
from services.domain.release_causes import BREAKER_OPEN, NOT_TRIED
from state.tables import release_moves

LAST = 50
"""Moves remembered of one cause."""

TEACHES_NOTHING = (None, NOT_TRIED, BREAKER_OPEN)
"""The other service has said nothing about such a job."""


@dataclass(frozen=True, slots=True)
class ReleaseMove:
    """One thing that was done about one failed job."""

    order_id: str
    cause: str
    move: str
    """A ReleaseMoveKind of services.domain.past_resolutions."""
    actor: str
    at: datetime
    why: str | None
    outcome: str
    """HELD, FAILED or UNDECIDED."""


_COLUMNS = [release_moves.c[name] for name in ReleaseMove.__dataclass_fields__]


def add(
    connection: Connection,
    order_id: str,
    cause: str | None,
    move: str,
    actor: str,
    at: datetime,
    *,
    why: str | None = None,
    outcome: str = UNDECIDED,
) -> None:
    """Remember a move on a job with that cause; one that was still undecided did not hold."""
    decide(connection, order_id, FAILED)
    if cause is None or cause in TEACHES_NOTHING:
        return
    row = ReleaseMove(order_id, cause, move, actor, at, why, outcome)
    connection.execute(insert(release_moves), {name: getattr(row, name) for name in ReleaseMove.__dataclass_fields__})


def decide(connection: Connection, order_id: str, outcome: str) -> bool:
    """What came of the undecided move of an order; False when there was none."""
    return _change(connection, order_id, UNDECIDED, outcome)


def forget_undecided(connection: Connection, order_id: str) -> None:
    """Nothing was sent: the move has not been made."""
    undecided = (release_moves.c.order_id == order_id, release_moves.c.outcome == UNDECIDED)
    connection.execute(delete(release_moves).where(*undecided))


def has_undecided(connection: Connection, order_id: str) -> bool:
    undecided = select(release_moves.c.id).where(
        release_moves.c.order_id == order_id, release_moves.c.outcome == UNDECIDED
    )
    return connection.execute(undecided.limit(1)).first() is not None


def came_again(connection: Connection, order_id: str) -> None:
    """There is something to release for the order once more: what had held did not hold for good."""
    _change(connection, order_id, HELD, FAILED)


def last_moves(connection: Connection, cause: str) -> list[ReleaseMove]:
    """The last LAST moves on jobs with one cause, newest first."""
    statement = select(*_COLUMNS).where(release_moves.c.cause == cause)
    newest = statement.order_by(release_moves.c.at.desc(), release_moves.c.id.desc()).limit(LAST)
    return [ReleaseMove(*row) for row in connection.execute(newest)]


def prune(connection: Connection, before: datetime, limit: int) -> int:
    """Delete a small step of old moves; returns how many went."""
    ids = connection.scalars(select(release_moves.c.id).where(release_moves.c.at < before).limit(limit)).all()
    return connection.execute(delete(release_moves).where(release_moves.c.id.in_(ids))).rowcount


def _change(connection: Connection, order_id: str, now: str, then: str) -> bool:
    rows = (release_moves.c.order_id == order_id, release_moves.c.outcome == now)
    return connection.execute(update(release_moves).where(*rows).values(outcome=then)).rowcount > 0
