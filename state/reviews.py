"""Review cases, at most one open case for an order and a reason; past resolutions of a cause, with their outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, exists, func, insert, or_, select, update

from services.domain.calls import FailureClass
from services.domain.reviews import ReviewState
from state.bulk_jobs import is_outside
from state.engine import rows
from state.engine.rows import Rows
from state.tables import audit_log, orders, reviews

MAX_PAGE = 200


@dataclass(frozen=True, slots=True)
class Review:
    """One question that a person decides."""

    review_id: str
    order_id: str
    reason: str
    state: str
    """OPEN or RESOLVED."""
    detail: str
    opened_at: datetime
    version: int
    resolved_at: datetime | None = None
    resolved_by: str | None = None
    resolution: str | None = None
    note: str | None = None
    owner: str | None = None
    """The last person who claimed the case; the claim ends at ``claimed_until``."""
    claimed_until: datetime | None = None
    cause: str = ""
    """The code that cases with the same cause share."""
    resolution_reason: str | None = None
    failure_class: str | None = None
    """A FailureClass, when a failed inventory call caused the case."""

    @property
    def last_attempt_sent(self) -> bool:
        """False when the circuit breaker kept the last attempt from being sent."""
        return self.failure_class != FailureClass.BREAKER_OPEN

    def owner_at(self, now: datetime) -> str | None:
        """The person who has claimed the case at that time, or None."""
        return self.owner if self.owner and self.claimed_until and self.claimed_until > now else None


CASES = Rows(reviews, Review)


def open_case(
    connection: Connection,
    review_id: str,
    order_id: str,
    reason: str,
    detail: str,
    at: datetime,
    *,
    cause: str = "",
    failure_class: str | None = None,
) -> bool:
    """Open a case; when one with this reason is open, store the newer detail in it and return False."""
    about = {"detail": detail, "cause": cause, "failure_class": failure_class}
    key = {"order_id": order_id, "reason": reason, "state": ReviewState.OPEN}
    if rows.change(connection, reviews, *(reviews.c[name] == value for name, value in key.items()), **about):
        return False
    connection.execute(insert(reviews), {"review_id": review_id, **key, **about, "opened_at": at, "version": 1})
    return True


def close_cases(
    connection: Connection, order_id: str, reasons: Sequence[str], *, by: str, resolution: str, at: datetime
) -> list[str]:
    """Close the open cases of an order that events have settled; returns their reasons."""
    end = {"state": ReviewState.RESOLVED, "resolved_at": at, "resolved_by": by, "resolution": resolution}
    closed = connection.execute(
        update(reviews)
        .where(reviews.c.order_id == order_id, reviews.c.reason.in_(reasons), reviews.c.state == ReviewState.OPEN)
        .values(end | {"version": reviews.c.version + 1})
        .returning(reviews.c.reason)
    )
    return list(closed.scalars())


def resolve(
    connection: Connection,
    review: Review,
    *,
    by: str,
    resolution: str,
    note: str,
    at: datetime,
    reason: str | None = None,
    ignore_claim: bool = False,
) -> bool:
    """Close one case under a version check; False when the version changed or another person has claimed the case.

    ``ignore_claim``: close the case although another person has claimed it.
    """
    end = {"state": ReviewState.RESOLVED, "resolved_at": at, "resolved_by": by, "resolution": resolution, "note": note}
    is_as_seen = _as_seen(review, by, at, ignore_claim=ignore_claim)
    version = review.version + 1
    return rows.change(connection, reviews, *is_as_seen, **end, resolution_reason=reason, version=version) == 1


def touch(connection: Connection, review: Review, *, by: str, at: datetime, ignore_claim: bool = False) -> bool:
    """Raise the version of an open case, so that concurrent actions on it fail; False when the version changed."""
    is_as_seen = _as_seen(review, by, at, ignore_claim=ignore_claim)
    return rows.change(connection, reviews, *is_as_seen, version=review.version + 1) == 1


def claim(connection: Connection, review_id: str, owner: str, at: datetime, until: datetime, *, take: bool) -> bool:
    """Claim an open case or renew the claim of ``owner``; with ``take``, replace another person's claim.

    Returns False when another person has claimed the case and ``take`` is not set.
    """
    is_free = [] if take else [free_for(owner, at)]
    return rows.change(connection, reviews, *_is_open(review_id), *is_free, owner=owner, claimed_until=until) == 1


def renew_claim(connection: Connection, review_id: str, owner: str, at: datetime, until: datetime) -> None:
    """Extend a claim that has not ended; without a claim nothing changes."""
    lasts = (reviews.c.owner == owner, reviews.c.claimed_until > at)
    rows.change(connection, reviews, *_is_open(review_id), *lasts, claimed_until=until)


def release_claim(connection: Connection, review_id: str, owner: str) -> bool:
    """End the claim of this owner; False when the owner has none."""
    claimed = (reviews.c.review_id == review_id, reviews.c.owner == owner)
    return rows.change(connection, reviews, *claimed, owner=None, claimed_until=None) == 1


def _is_open(review_id: str) -> tuple[ColumnElement[bool], ...]:
    return reviews.c.review_id == review_id, reviews.c.state == ReviewState.OPEN


def free_for(owner: str, at: datetime) -> ColumnElement[bool]:
    """Condition: no other person has claimed the case."""
    return or_(unclaimed(at), reviews.c.owner == owner)


def unclaimed(at: datetime) -> ColumnElement[bool]:
    return or_(reviews.c.owner.is_(None), reviews.c.claimed_until <= at)


def _as_seen(review: Review, by: str, at: datetime, *, ignore_claim: bool) -> list[ColumnElement[bool]]:
    is_as_seen = [*_is_open(review.review_id), reviews.c.version == review.version]
    return is_as_seen if ignore_claim else [*is_as_seen, free_for(by, at)]


def get(connection: Connection, review_id: str) -> Review | None:
    return CASES.one(connection, reviews.c.review_id == review_id)


def of_orders(connection: Connection, order_ids: Sequence[str]) -> dict[str, list[Review]]:
    """All cases per order, oldest first."""
    found: dict[str, list[Review]] = {order_id: [] for order_id in order_ids}
    if order_ids:
        cases = select(*CASES.columns).where(reviews.c.order_id.in_(order_ids)).order_by(reviews.c.opened_at)
        for review in CASES.read(connection, cases):
            found[review.order_id].append(review)
    return found


def page(
    connection: Connection,
    *,
    state: str | None = ReviewState.OPEN,
    reason: str | None = None,
    order_id: str | None = None,
    limit: int = MAX_PAGE,
    offset: int = 0,
) -> list[Review]:
    """Cases; open ones oldest first (they wait longest), resolved ones newest first."""
    order = reviews.c.opened_at.asc() if state == ReviewState.OPEN else reviews.c.opened_at.desc()
    filters = ((reviews.c.state, state), (reviews.c.reason, reason), (reviews.c.order_id, order_id))
    wanted = [column == value for column, value in filters if value is not None]
    return CASES.some(
        connection, *wanted, order=[order, reviews.c.review_id], limit=min(limit, MAX_PAGE), offset=offset
    )


def count_open_since(connection: Connection, since: datetime) -> int:
    """Number of open cases that were opened at ``since`` or later."""
    return rows.count(connection, reviews, reviews.c.state == ReviewState.OPEN, reviews.c.opened_at >= since)


def oldest_open_at(connection: Connection) -> datetime | None:
    """When the oldest open case was opened."""
    oldest: datetime | None = connection.scalar(
        select(func.min(reviews.c.opened_at)).where(reviews.c.state == ReviewState.OPEN)
    )
    return oldest


def count_open_by_reason(connection: Connection) -> dict[str, int]:
    return rows.count_by(connection, reviews.c.reason, reviews.c.state == ReviewState.OPEN)


def count_opened_since(
    connection: Connection, reasons: Sequence[str], since: datetime, *, outside_job: str, limit: int
) -> int:
    """Number of open cases with one of the reasons since ``since``, without those of the bulk job."""
    opened = (reviews.c.state == ReviewState.OPEN, reviews.c.opened_at > since, reviews.c.reason.in_(reasons))
    return rows.count(connection, reviews, *opened, is_outside(reviews.c.review_id, outside_job), up_to=limit)


def versions(connection: Connection, review_ids: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Version and state of the given cases."""
    return rows.versions(connection, reviews.c.review_id, reviews.c.version, reviews.c.state, review_ids)


def claimed(connection: Connection, now: datetime, limit: int) -> list[Review]:
    """Open cases with a claim; the claim that ends first comes first."""
    claimed = (reviews.c.state == ReviewState.OPEN, reviews.c.claimed_until > now)
    return CASES.some(connection, *claimed, order=[reviews.c.claimed_until], limit=limit)


MAX_PAST_CASES = 50
"""Maximum number of cases of one cause."""
MAX_PAST_ACTIONS = 500


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
    """The last MAX_PAST_CASES resolved cases of one cause, newest first."""
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
        .limit(MAX_PAST_CASES)
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
        .limit(MAX_PAST_ACTIONS)
    )
    rows = connection.execute(statement).all()
    return [PastAction(by_target[target], action, actor, at) for target, action, actor, at in reversed(rows)]
