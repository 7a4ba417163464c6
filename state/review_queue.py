"""The manual-review queue: filtered, sorted by urgency and grouped, page by page.

Each query reads at most POOL cases along an index: those that wait longest, or those resolved last.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Subquery,
    UnaryExpression,
    and_,
    case,
    exists,
    false,
    func,
    or_,
    select,
)

from services.domain.orders.model import CustomerPriority, InventoryStatus
from services.domain.reviews import ReviewState
from state.reviews import CASES, Review
from state.tables import order_items, orders, reviews

POOL = 5000
MAX_PAGE = 200
MAX_GROUPS = 12
MAX_STANDINGS = 100
"""Limit above the number of pairs of a review reason and an order status."""

MAX_ORDERS_OF_USER = 500

URGENT, OLDEST, NEWEST, MOST_UNITS = "urgent", "oldest", "newest", "units"
SORTS = (URGENT, OLDEST, NEWEST, MOST_UNITS)

HOLDING = (InventoryStatus.RESERVED, InventoryStatus.CONFIRM_REQUESTED, InventoryStatus.INVENTORY_FAILED)
"""Inventory statuses in which the order loses its stock when the reservation ends."""


@dataclass(frozen=True, slots=True)
class CaseFilter:
    """Selects cases; None and empty values match all."""

    state: str = ReviewState.OPEN
    reason: str | None = None
    cause: str | None = None
    owner: str | None = None
    """Only cases that this person has claimed."""
    unclaimed: bool = False
    priority: str | None = None
    product: str | None = None
    text: str = ""
    """A whole review id, order id or user id."""
    sort: str = URGENT


@dataclass(frozen=True, slots=True)
class Group:
    """The number of matching cases with the same keys."""

    keys: tuple[str, ...]
    count: int


def page(connection: Connection, wanted: CaseFilter, now: datetime, *, limit: int, offset: int = 0) -> list[Review]:
    """One page of matching cases."""
    pool = _pool(connection, wanted)
    statement = _matching(pool, wanted, now).with_only_columns(pool.c.review_id)
    statement = statement.order_by(*_order(pool, wanted.sort, now), pool.c.review_id)
    ids = connection.scalars(statement.limit(min(limit, MAX_PAGE)).offset(offset)).all()
    cases = CASES.read(connection, select(*CASES.columns).where(reviews.c.review_id.in_(ids)))
    found = {review.review_id: review for review in cases}
    return [found[review_id] for review_id in ids]


def count(connection: Connection, wanted: CaseFilter, now: datetime) -> int:
    """The number of matching cases, at most POOL."""
    statement = _matching(_pool(connection, wanted), wanted, now).with_only_columns(func.count())
    return connection.scalar(statement) or 0


def by_cause(connection: Connection, wanted: CaseFilter, now: datetime) -> list[Group]:
    """Matching cases by reason and cause, the most frequent first."""
    pool = _pool(connection, wanted)
    return _groups(connection, _matching(pool, wanted, now), (pool.c.reason, pool.c.cause))


def by_product(connection: Connection, wanted: CaseFilter, now: datetime) -> list[Group]:
    """Matching cases by product, the most frequent first; a case counts once for each of its products."""
    pool = _pool(connection, wanted)
    distinct = (
        _matching(pool, wanted, now)
        .join(order_items, order_items.c.order_id == pool.c.order_id)
        .with_only_columns(pool.c.review_id, order_items.c.product_id)
        .distinct()
        .subquery()
    )
    return _groups(connection, select(distinct.c.product_id), (distinct.c.product_id,))


def by_standing(connection: Connection, wanted: CaseFilter, now: datetime) -> list[Group]:
    """Matching cases by reason and status of the order, which together decide the allowed actions."""
    pool = _pool(connection, wanted)
    return _groups(connection, _matching(pool, wanted, now), (pool.c.reason, orders.c.status), limit=MAX_STANDINGS)


def standing(
    connection: Connection, wanted: CaseFilter, now: datetime, where: Mapping[str, Collection[str]], *, limit: int
) -> list[Review]:
    """Matching cases whose order has a status that ``where`` lists for their reason, the longest waiting first."""
    pool = _pool(connection, wanted)
    places = [and_(pool.c.reason == reason, orders.c.status.in_(statuses)) for reason, statuses in where.items()]
    ids = (
        _matching(pool, wanted, now)
        .where(or_(false(), *places))
        .order_by(pool.c.opened_at, pool.c.review_id)
        .limit(limit)
    )
    longest = [reviews.c.opened_at, reviews.c.review_id]
    return CASES.some(connection, reviews.c.review_id.in_(ids), order=longest, limit=limit)


def _groups(
    connection: Connection,
    matching: Select[tuple[str]],
    keys: Sequence[ColumnElement[str]],
    *,
    limit: int = MAX_GROUPS,
) -> list[Group]:
    statement = matching.with_only_columns(*keys, func.count().label("n")).group_by(*keys)
    rows = connection.execute(statement.order_by(func.count().desc(), *keys).limit(limit))
    return [Group(tuple(row[:-1]), int(row[-1])) for row in rows]


def _pool(connection: Connection, wanted: CaseFilter) -> Subquery:
    """The cases along the index: those that wait longest, or those resolved last."""
    conditions = [reviews.c.state == wanted.state]
    if wanted.reason:
        conditions.append(reviews.c.reason == wanted.reason)
    if wanted.text:
        conditions.append(_named(connection, wanted.text))
    order = reviews.c.opened_at.asc() if wanted.state == ReviewState.OPEN else reviews.c.resolved_at.desc()
    if wanted.state == ReviewState.OPEN and wanted.sort == NEWEST:
        order = reviews.c.opened_at.desc()
    return select(reviews).where(*conditions).order_by(order).limit(POOL).subquery()


def _named(connection: Connection, text: str) -> ColumnElement[bool]:
    of_user = select(orders.c.order_id).where(orders.c.user_id == text).order_by(orders.c.created_at.desc())
    order_ids = [text, *connection.scalars(of_user.limit(MAX_ORDERS_OF_USER))]
    return or_(reviews.c.review_id == text, reviews.c.order_id.in_(order_ids))


def _matching(pool: Subquery, wanted: CaseFilter, now: datetime) -> Select[tuple[str]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.cause is not None:
        conditions.append(pool.c.cause == wanted.cause)
    if wanted.owner:
        conditions.append(and_(pool.c.owner == wanted.owner, pool.c.claimed_until > now))
    if wanted.unclaimed:
        conditions.append(or_(pool.c.owner.is_(None), pool.c.claimed_until <= now))
    if wanted.priority:
        conditions.append(orders.c.customer_priority == wanted.priority)
    if wanted.product:
        # An alias, because the enclosing query may join the table too.
        line = order_items.alias("line")
        of_order = and_(line.c.order_id == pool.c.order_id, line.c.product_id == wanted.product)
        conditions.append(exists().where(of_order))
    return select(pool.c.review_id).join(orders, orders.c.order_id == pool.c.order_id).where(*conditions)


def _order(pool: Subquery, sort: str, now: datetime) -> tuple[ColumnElement[object] | UnaryExpression[object], ...]:
    if sort == OLDEST:
        return (pool.c.opened_at.asc(),)
    if sort == NEWEST:
        return (func.coalesce(pool.c.resolved_at, pool.c.opened_at).desc(),)
    if sort == MOST_UNITS:
        units = select(func.sum(order_items.c.quantity)).where(order_items.c.order_id == pool.c.order_id)
        return (units.scalar_subquery().desc(), pool.c.opened_at.asc())
    is_running = and_(orders.c.inventory_status.in_(HOLDING), orders.c.reservation_expires_at > now)
    hold_ends = case((is_running, orders.c.reservation_expires_at), else_=None)
    standard_last = case((orders.c.customer_priority == CustomerPriority.HIGH, 0), else_=1)
    return (hold_ends.asc().nulls_last(), standard_last, pool.c.opened_at.asc())
