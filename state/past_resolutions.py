"""Past resolutions: how the last cases of a cause were resolved, and how their orders ended. Bounded by LAST."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, exists, select

from state.engine.rows import Rows
from state.tables import audit_log, orders, reviews

LAST = 50
"""Maximum number of cases of one cause."""
MAX_ACTIONS = 500


@dataclass(frozen=True, slots=True)
class PastCase:
    """A resolved case with the later state of its order."""

    review_id: str
    order_id: str
    resolution: str
    resolved_by: str
    resolved_at: datetime
    resolution_reason: str | None
    note: str | None
    order_status: str
    came_again: bool
    """Whether another case was opened for the order afterwards."""


@dataclass(frozen=True, slots=True)
class PastAction:
    """One action of a person on a case."""

    review_id: str
    action: str
    actor: str
    at: datetime


def last_cases(connection: Connection, reason: str, cause: str) -> list[PastCase]:
    """The last LAST resolved cases of one cause, newest first."""
    past = reviews
    later = reviews.alias("later")
    came_again = exists().where(
        later.c.order_id == past.c.order_id,
        later.c.opened_at >= past.c.resolved_at,
        later.c.review_id != past.c.review_id,
    )
    cases = Rows(past, PastCase, order_status=orders.c.status, came_again=came_again.label("came_again"))
    statement = (
        select(*cases.columns)
        .join(orders, orders.c.order_id == past.c.order_id)
        .where(past.c.reason == reason, past.c.cause == cause, past.c.resolved_at.is_not(None))
        .order_by(past.c.resolved_at.desc())
        .limit(LAST)
    )
    return cases.read(connection, statement)


def actions_on(connection: Connection, cases: Sequence[PastCase], actions: Sequence[str]) -> list[PastAction]:
    """The actions of people on these cases, oldest first."""
    by_target = {f"review:{case.review_id}": case.review_id for case in cases}
    if not by_target:
        return []
    table = audit_log
    statement = (
        select(table.c.target, table.c.action, table.c.actor, table.c.at)
        .where(
            table.c.order_id.in_([case.order_id for case in cases]),
            table.c.target.in_(by_target),
            table.c.action.in_(actions),
        )
        .order_by(table.c.at.desc(), table.c.id.desc())
        .limit(MAX_ACTIONS)
    )
    rows = connection.execute(statement).all()
    return [PastAction(by_target[target], action, actor, at) for target, action, actor, at in reversed(rows)]
