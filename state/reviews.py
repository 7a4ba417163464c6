"""Review cases: at most one open case for an order and a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, insert, or_, select, update

from services.domain.failures import FailureClass
from services.domain.reviews import ReviewState
from state.tables import operation_items, reviews

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


COLUMNS = [reviews.c[name] for name in Review.__dataclass_fields__]


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
    again = connection.execute(
        update(reviews)
        .where(reviews.c.order_id == order_id, reviews.c.reason == reason, reviews.c.state == ReviewState.OPEN)
        .values(about)
    )
    if again.rowcount:
        return False
    row = {
        "review_id": review_id,
        "order_id": order_id,
        "reason": reason,
        "state": ReviewState.OPEN,
        **about,
        "opened_at": at,
        "version": 1,
    }
    connection.execute(insert(reviews), row)
    return True


def close_cases(
    connection: Connection, order_id: str, reasons: Sequence[str], *, by: str, resolution: str, at: datetime
) -> list[str]:
    """Close the open cases of an order that events have settled; returns their reasons."""
    closed = connection.execute(
        update(reviews)
        .where(reviews.c.order_id == order_id, reviews.c.reason.in_(reasons), reviews.c.state == ReviewState.OPEN)
        .values(
            state=ReviewState.RESOLVED,
            resolved_at=at,
            resolved_by=by,
            resolution=resolution,
            version=reviews.c.version + 1,
        )
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
    done = connection.execute(
        update(reviews)
        .where(*_as_seen(review, by, at, ignore_claim=ignore_claim))
        .values(
            state=ReviewState.RESOLVED,
            resolved_at=at,
            resolved_by=by,
            resolution=resolution,
            note=note,
            resolution_reason=reason,
            version=review.version + 1,
        )
    )
    return done.rowcount == 1


def touch(connection: Connection, review: Review, *, by: str, at: datetime, ignore_claim: bool = False) -> bool:
    """Raise the version of an open case, so that concurrent actions on it fail; False when the version changed."""
    done = connection.execute(
        update(reviews).where(*_as_seen(review, by, at, ignore_claim=ignore_claim)).values(version=review.version + 1)
    )
    return done.rowcount == 1


def claim(connection: Connection, review_id: str, owner: str, at: datetime, until: datetime, *, take: bool) -> bool:
    """Claim an open case or renew the claim of ``owner``; with ``take``, replace another person's claim.

    Returns False when another person has claimed the case and ``take`` is not set.
    """
    conditions = [reviews.c.review_id == review_id, reviews.c.state == ReviewState.OPEN]
    if not take:
        conditions.append(free_for(owner, at))
    done = connection.execute(update(reviews).where(*conditions).values(owner=owner, claimed_until=until))
    return done.rowcount == 1


def renew_claim(connection: Connection, review_id: str, owner: str, at: datetime, until: datetime) -> None:
    """Extend a claim that has not ended; without a claim nothing changes."""
    lasts = and_(reviews.c.owner == owner, reviews.c.claimed_until > at)
    is_it = and_(reviews.c.review_id == review_id, reviews.c.state == ReviewState.OPEN)
    connection.execute(update(reviews).where(is_it, lasts).values(claimed_until=until))


def release_claim(connection: Connection, review_id: str, owner: str) -> bool:
    """End the claim of this owner; False when the owner has none."""
    done = connection.execute(
        update(reviews)
        .where(reviews.c.review_id == review_id, reviews.c.owner == owner)
        .values(owner=None, claimed_until=None)
    )
    return done.rowcount == 1


def free_for(owner: str, at: datetime) -> ColumnElement[bool]:
    """Condition: no other person has claimed the case."""
    return or_(unclaimed(at), reviews.c.owner == owner)


def unclaimed(at: datetime) -> ColumnElement[bool]:
    return or_(reviews.c.owner.is_(None), reviews.c.claimed_until <= at)


def _as_seen(review: Review, by: str, at: datetime, *, ignore_claim: bool) -> list[ColumnElement[bool]]:
    conditions = [
        reviews.c.review_id == review.review_id,
        reviews.c.version == review.version,
        reviews.c.state == ReviewState.OPEN,
    ]
    return conditions if ignore_claim else [*conditions, free_for(by, at)]


def get(connection: Connection, review_id: str) -> Review | None:
    row = connection.execute(select(*COLUMNS).where(reviews.c.review_id == review_id)).one_or_none()
    return Review(*row) if row else None


def of_orders(connection: Connection, order_ids: Sequence[str]) -> dict[str, list[Review]]:
    """All cases per order, oldest first."""
    found: dict[str, list[Review]] = {order_id: [] for order_id in order_ids}
    if order_ids:
        statement = select(*COLUMNS).where(reviews.c.order_id.in_(order_ids)).order_by(reviews.c.opened_at)
        for row in connection.execute(statement):
            review = Review(*row)
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
    statement = (
        select(*COLUMNS)
        .where(*_conditions(state, reason, order_id))
        .order_by(order, reviews.c.review_id)
        .limit(min(limit, MAX_PAGE))
        .offset(offset)
    )
    return [Review(*row) for row in connection.execute(statement)]


def count_open_since(connection: Connection, since: datetime) -> int:
    """Number of open cases that were opened at ``since`` or later."""
    opened = (reviews.c.state == ReviewState.OPEN, reviews.c.opened_at >= since)
    return connection.scalar(select(func.count()).select_from(reviews).where(*opened)) or 0


def oldest_open_at(connection: Connection) -> datetime | None:
    """When the oldest open case was opened."""
    oldest: datetime | None = connection.scalar(
        select(func.min(reviews.c.opened_at)).where(reviews.c.state == ReviewState.OPEN)
    )
    return oldest


def count_open_by_reason(connection: Connection) -> dict[str, int]:
    statement = (
        select(reviews.c.reason, func.count()).where(reviews.c.state == ReviewState.OPEN).group_by(reviews.c.reason)
    )
    return dict(connection.execute(statement).all())


def count_opened_since(
    connection: Connection, reasons: Sequence[str], since: datetime, *, outside_job: str, limit: int
) -> int:
    """Number of open cases with one of the reasons since ``since``, without those of the bulk job."""
    own = select(operation_items.c.item_id).where(operation_items.c.operation_id == outside_job)
    some = (
        select(reviews.c.review_id)
        .where(
            reviews.c.state == ReviewState.OPEN,
            reviews.c.opened_at > since,
            reviews.c.reason.in_(reasons),
            reviews.c.review_id.not_in(own),
        )
        .limit(limit)
    )
    return connection.scalar(select(func.count()).select_from(some.subquery())) or 0


def versions(connection: Connection, review_ids: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Version and state of the given cases."""
    rows = connection.execute(
        select(reviews.c.review_id, reviews.c.version, reviews.c.state).where(reviews.c.review_id.in_(review_ids))
    )
    return {review_id: (version, state) for review_id, version, state in rows}


def claimed(connection: Connection, now: datetime, limit: int) -> list[Review]:
    """Open cases with a claim; the claim that ends first comes first."""
    statement = (
        select(*COLUMNS)
        .where(reviews.c.state == ReviewState.OPEN, reviews.c.claimed_until > now)
        .order_by(reviews.c.claimed_until)
        .limit(limit)
    )
    return [Review(*row) for row in connection.execute(statement)]


def _conditions(state: str | None, reason: str | None, order_id: str | None) -> list[ColumnElement[bool]]:
    wanted: list[tuple[Any, str | None]] = [
        (reviews.c.state, state),
        (reviews.c.reason, reason),
        (reviews.c.order_id, order_id),
    ]
    return [column == value for column, value in wanted if value is not None]
