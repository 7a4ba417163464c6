"""Past actions on failed release jobs, by cause, with their outcomes.

A job loses its cause when it is done or started again, so each action has a row of its own. An action is undecided
until its job ends. When the reservation has to be released again, the outcome becomes failed.
Source: requirements 11.2, 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection

from services.domain.calls import FailureClass
from services.domain.reviews import ResolutionOutcome
from state.engine import rows
from state.engine.rows import Rows
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
    """A ReleaseActionKind of services.domain.reviews."""
    actor: str
    at: datetime
    why: str | None
    outcome: str
    """A ResolutionOutcome."""


_ACTIONS = Rows(release_actions, PastReleaseAction, action="move")


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
    _ACTIONS.add(connection, PastReleaseAction(order_id, cause, action, actor, at, why, outcome))


def decide(connection: Connection, order_id: str, outcome: str) -> bool:
    """Store the outcome of the undecided action of an order; False when there was none."""
    return rows.change(connection, release_actions, *_undecided(order_id), outcome=outcome) > 0


def forget_undecided(connection: Connection, order_id: str) -> None:
    """Delete the undecided action of an order, because nothing was sent."""
    rows.remove(connection, release_actions, *_undecided(order_id))


def has_undecided(connection: Connection, order_id: str) -> bool:
    return rows.has_any(connection, release_actions, *_undecided(order_id))


def came_again(connection: Connection, order_id: str) -> None:
    """Mark lasting actions of the order as failed, because its reservation has to be released again."""
    lasting = _with_outcome(order_id, ResolutionOutcome.LASTED)
    rows.change(connection, release_actions, *lasting, outcome=ResolutionOutcome.FAILED)


def last_actions(connection: Connection, cause: str) -> list[PastReleaseAction]:
    """The last LAST actions on jobs with one cause, newest first."""
    newest = (release_actions.c.at.desc(), release_actions.c.id.desc())
    return _ACTIONS.some(connection, release_actions.c.cause == cause, order=newest, limit=LAST)


def _undecided(order_id: str) -> tuple[ColumnElement[bool], ...]:
    return _with_outcome(order_id, ResolutionOutcome.UNDECIDED)


def _with_outcome(order_id: str, outcome: str) -> tuple[ColumnElement[bool], ...]:
    return release_actions.c.order_id == order_id, release_actions.c.outcome == outcome
