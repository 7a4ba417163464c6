"""Past actions on failed release jobs, by cause, with their outcomes.

A job loses its cause when it is done or started again, so each action has a row of its own. An action is undecided
until its job ends. When the reservation has to be released again, the outcome becomes failed.
Source: requirements 11.2, 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update

from services.domain.failures import FailureClass
from services.domain.past_resolutions import ResolutionOutcome
from state.tables import release_actions

LAST = 50
"""Maximum number of actions of one cause."""

NO_ANSWER = (FailureClass.NOT_TRIED, FailureClass.BREAKER_OPEN)
"""Causes of jobs without an answer of the Inventory Service; an action on such a job is not stored."""


@dataclass(frozen=True, slots=True)
class PastReleaseAction:
    """One action on one failed job."""

    order_id: str
    cause: str
    action: str
    """A ReleaseActionKind of services.domain.past_resolutions."""
    actor: str
    at: datetime
    why: str | None
    outcome: str
    """A ResolutionOutcome."""


_COLUMNS = ("order_id", "cause", "move", "actor", "at", "why", "outcome")


def add(
    connection: Connection,
    order_id: str,
    cause: str,
    action: str,
    actor: str,
    at: datetime,
    *,
    why: str | None = None,
    outcome: str = ResolutionOutcome.UNDECIDED,
) -> None:
    """Store an action on a job with that cause; an earlier undecided action of the order becomes failed."""
    decide(connection, order_id, ResolutionOutcome.FAILED)
    if cause in NO_ANSWER:
        return
    row = (order_id, cause, action, actor, at, why, outcome)
    connection.execute(insert(release_actions), dict(zip(_COLUMNS, row, strict=True)))


def decide(connection: Connection, order_id: str, outcome: str) -> bool:
    """Store the outcome of the undecided action of an order; False when there was none."""
    return _change(connection, order_id, ResolutionOutcome.UNDECIDED, outcome)


def forget_undecided(connection: Connection, order_id: str) -> None:
    """Delete the undecided action of an order, because nothing was sent."""
    undecided = (release_actions.c.order_id == order_id, release_actions.c.outcome == ResolutionOutcome.UNDECIDED)
    connection.execute(delete(release_actions).where(*undecided))


def has_undecided(connection: Connection, order_id: str) -> bool:
    undecided = select(release_actions.c.id).where(
        release_actions.c.order_id == order_id, release_actions.c.outcome == ResolutionOutcome.UNDECIDED
    )
    return connection.execute(undecided.limit(1)).first() is not None


def came_again(connection: Connection, order_id: str) -> None:
    """Mark lasting actions of the order as failed, because its reservation has to be released again."""
    _change(connection, order_id, ResolutionOutcome.LASTED, ResolutionOutcome.FAILED)


def last_actions(connection: Connection, cause: str) -> list[PastReleaseAction]:
    """The last LAST actions on jobs with one cause, newest first."""
    statement = select(*(release_actions.c[name] for name in _COLUMNS)).where(release_actions.c.cause == cause)
    newest = statement.order_by(release_actions.c.at.desc(), release_actions.c.id.desc()).limit(LAST)
    return [PastReleaseAction(*row) for row in connection.execute(newest)]


def _change(connection: Connection, order_id: str, now: str, then: str) -> bool:
    rows = (release_actions.c.order_id == order_id, release_actions.c.outcome == now)
    return connection.execute(update(release_actions).where(*rows).values(outcome=then)).rowcount > 0
