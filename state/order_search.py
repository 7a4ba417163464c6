"""Finds orders by id, user, product, statuses and time, newest first, and counts waiting and refused orders.

Each search merges a few lists by time; an index serves each list. Filters without an index are applied to a window of
each list, and the answer contains how far back the search went. See state.engine.keyset.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, exists, func, select, text

from services.domain.errors import InventoryTimeout, InventoryUnavailable
from services.domain.orders.model import InventoryStatus, Order, OrderStatus
from services.domain.reviews import ReviewState
from state.engine.keyset import WINDOW, Columns, Key, Keyset, Residual
from state.incident_impacts import Window, affected_order_ids
from state.orders import MAX_PAGE, get_many
from state.tables import order_items, orders, reviews

MAX_CANDIDATES = 2000
"""Maximum of orders of one product, or with an open case, that are sorted; with more, orders are read by time."""

UNUSUAL_PAYMENTS = ("UNKNOWN", "REFUND_PENDING", "FAILED")
"""Payment statuses with an index of their own."""

_COLUMNS = [*orders.c["created_at", "order_id", "user_id", "status", "inventory_status", "payment_status"]]
KEY = (orders.c.created_at, orders.c.order_id)
_UNUSUAL: Any = text("orders.payment_status NOT IN ('NONE', 'CAPTURED', 'REFUNDED')")


@dataclass(frozen=True, slots=True)
class OrderQuery:
    """Filters of an order search; an empty filter matches all."""

    text: str = ""
    """A whole order id, user id or product id."""
    user_id: str = ""
    statuses: tuple[str, ...] = ()
    inventory_statuses: tuple[str, ...] = ()
    payment_statuses: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    flagged: bool = False
    """Only orders with an open case."""
    unflagged: bool = False
    """Only orders without an open case."""
    incident: Window | None = None
    """Only orders that were affected in this interval."""

    @property
    def is_empty(self) -> bool:
        return self == OrderQuery()


@dataclass(frozen=True, slots=True)
class OrdersFound:
    """Some orders, newest first."""

    orders: tuple[Order, ...]
    has_more: bool
    """Whether more matching orders follow in the requested direction, within the rows searched."""
    frontier: Key | None = None
    """``(created_at, order_id)`` of the last order searched; None at the end of the list."""


def find(
    connection: Connection,
    query: OrderQuery,
    *,
    limit: int,
    before: Key | None = None,
    after: Key | None = None,
    window: int = WINDOW,
) -> OrdersFound:
    """At most ``limit`` orders (bounded by MAX_PAGE) older than ``before``, newer than ``after``, or the newest."""
    limit = min(limit, MAX_PAGE)
    backwards = after is not None and before is None
    keys: set[Key] = set()
    ends: list[Key] = []
    for listed in _lists(connection, query, window):
        part = listed.page(connection, limit + 1, before=before, after=after)
        keys |= {(row.created_at, row.order_id) for row in part.rows}
        if part.frontier:
            ends.append(part.frontier)
    # Beyond the nearest end of a list, orders of that list may be missing among those of the other lists.
    frontier = (min(ends) if backwards else max(ends)) if ends else None
    ordered = sorted(keys, reverse=not backwards)
    if frontier is not None:
        ordered = [key for key in ordered if (key <= frontier if backwards else key >= frontier)]
    has_more, shown = len(ordered) > limit, ordered[:limit]
    newest_first = sorted(shown, reverse=True)
    found = get_many(connection, [order_id for _, order_id in newest_first])
    return OrdersFound(tuple(found), has_more, None if has_more else frontier)


def count(connection: Connection, query: OrderQuery, limit: int) -> tuple[int, bool]:
    """The number of matching orders, counted up to ``limit``, and whether there may be more."""
    total, is_more = 0, False
    for listed in _lists(connection, query, WINDOW):
        found, may_be_more = listed.count(connection, limit)
        total, is_more = total + found, is_more or may_be_more
    return min(total, limit), is_more or total >= limit


def count_above(connection: Connection, query: OrderQuery, start: Key, limit: int) -> int:
    """The number of matching orders that are not older than ``start``, counted up to ``limit``."""
    found = sum(listed.count_above(connection, start, limit) for listed in _lists(connection, query, WINDOW))
    return min(found, limit)


def walk(connection: Connection, query: OrderQuery, limit: int) -> Iterator[Order]:
    """Iterate over the newest matching orders, at most ``limit``; for exported files."""
    before: Key | None = None
    while limit > 0:
        found = find(connection, query, limit=min(limit, MAX_PAGE), before=before)
        yield from found.orders
        limit -= len(found.orders)
        if not found.has_more and found.frontier is None:
            return
        last = found.orders[-1] if found.has_more else None
        before = (last.created_at, last.order_id) if last else found.frontier


def _lists(connection: Connection, query: OrderQuery, window: int) -> list[Keyset]:
    """The lists whose filtered union is the result."""
    time: list[ColumnElement[bool]] = []
    if query.since:
        time.append(orders.c.created_at >= query.since)
    if query.until:
        time.append(orders.c.created_at < query.until)
    return [
        Keyset(_COLUMNS, KEY, [*time, *driving], _combined(residuals), window)
        for driving, residuals in _arms(connection, query)
    ]


Arm = tuple[list[ColumnElement[bool]], list[Residual]]


def _arms(connection: Connection, query: OrderQuery) -> list[Arm]:
    flagged: list[Residual] = [_is_flagged] if query.flagged else []
    flagged += [_is_unflagged] if query.unflagged else []
    statuses = _statuses(query)
    of_status = [_is_one_of(name, values) for name, values in statuses.items()]
    of_user = [_is_one_of("user_id", (query.user_id,))] if query.user_id else []
    if query.text:
        affected: list[Residual] = [_is_affected(query.incident)] if query.incident else []
        others = [*of_status, *of_user, *flagged, *affected]
        return [(driving, [*residuals, *others]) for driving, residuals in _named(connection, query.text)]
    if query.incident:
        return [([orders.c.order_id.in_(affected_order_ids(query.incident))], [*of_status, *of_user, *flagged])]
    if query.user_id:
        return [([orders.c.user_id == query.user_id], [*of_status, *flagged])]
    if query.flagged:
        others = [*of_status, *([_is_unflagged] if query.unflagged else ())]
        ids = connection.scalars(
            select(reviews.c.order_id).where(reviews.c.state == ReviewState.OPEN).limit(MAX_CANDIDATES + 1)
        ).all()
        if len(ids) <= MAX_CANDIDATES:
            return [([orders.c.order_id.in_(set(ids))], others)]
        return [([], [_is_flagged, *others])]
    return [(driving, [*residuals, *flagged]) for driving, residuals in _by_status(statuses)]


def _statuses(query: OrderQuery) -> dict[str, tuple[str, ...]]:
    wanted = {
        "status": query.statuses,
        "inventory_status": query.inventory_statuses,
        "payment_status": query.payment_statuses,
    }
    return {name: values for name, values in wanted.items() if values}


def _by_status(statuses: dict[str, tuple[str, ...]]) -> list[Arm]:
    """One list for each status of the first column with an index; the other columns filter the rows."""
    for name, values in statuses.items():
        driving: list[ColumnElement[bool]] = []
        if name == "payment_status":
            if not set(values) <= set(UNUSUAL_PAYMENTS):
                continue
            driving = [_UNUSUAL]
        others = [_is_one_of(other, wanted) for other, wanted in statuses.items() if other != name]
        return [([*driving, orders.c[name] == value], others) for value in values]
    return [([], [_is_one_of(name, values) for name, values in statuses.items()])]


def _named(connection: Connection, wanted: str) -> list[Arm]:
    """The lists in which a search text finds orders: by order id, user id or product id."""
    arms: list[Arm] = [([orders.c.order_id == wanted], []), ([orders.c.user_id == wanted], [])]
    ids = connection.scalars(
        select(order_items.c.order_id).where(order_items.c.product_id == wanted).limit(MAX_CANDIDATES + 1)
    ).all()
    if len(ids) > MAX_CANDIDATES:
        return [*arms, ([], [lambda row: [_contains(row, wanted)]])]
    return [*arms, ([orders.c.order_id.in_(set(ids))], [])] if ids else arms


def _contains(row: Columns, product_id: str) -> ColumnElement[bool]:
    return exists().where(order_items.c.order_id == row.order_id, order_items.c.product_id == product_id)


def _is_flagged(row: Columns) -> list[ColumnElement[bool]]:
    return [exists().where(reviews.c.order_id == row.order_id, reviews.c.state == ReviewState.OPEN)]


def _is_unflagged(row: Columns) -> list[ColumnElement[bool]]:
    return [~exists().where(reviews.c.order_id == row.order_id, reviews.c.state == ReviewState.OPEN)]


def _is_affected(window: Window) -> Residual:
    return lambda row: [row.order_id.in_(affected_order_ids(window))]


def _is_one_of(name: str, values: Sequence[str]) -> Residual:
    return lambda row: [row[name].in_(values)]


def _combined(residuals: Sequence[Residual]) -> Residual | None:
    if not residuals:
        return None
    return lambda row: [condition for residual in residuals for condition in residual(row)]


REFUSAL_CODES = (InventoryUnavailable.code, InventoryTimeout.code)
"""Errors that end an order because of inventory and not because of the order itself."""

MAX_REFUSED_COUNTED = 50
"""Number of newest orders read, which bounds the count."""

_UNDECIDED = (OrderStatus.RECEIVED, OrderStatus.RESERVING)
_NEWEST = (
    select(orders.c.status, orders.c.inventory_status, orders.c.failure)
    .order_by(orders.c.created_at.desc(), orders.c.order_id.desc())
    .limit(MAX_REFUSED_COUNTED)
)


def count_refused_in_a_row(connection: Connection) -> int:
    """Number of consecutive newest orders that are refused or wait because of inventory; undecided ones are skipped."""
    count = 0
    for status, inventory_status, failure in connection.execute(_NEWEST):
        if _is_refused(status, failure):
            count += 1
        elif not _is_undecided(status, inventory_status):
            break
    return count


def _is_refused(status: str, failure: Any) -> bool:
    if status == OrderStatus.REJECTED:
        return isinstance(failure, dict) and failure.get("code") in REFUSAL_CODES
    return status == OrderStatus.PENDING_INVENTORY


def _is_undecided(status: str, inventory_status: str) -> bool:
    is_cancelled_early = status == OrderStatus.CANCELLED and inventory_status == InventoryStatus.NONE
    return status in _UNDECIDED or is_cancelled_early


MAX_WAITING = 5000
"""Maximum of waiting orders that are counted, the oldest ones."""


@dataclass(frozen=True, slots=True)
class WaitingOrders:
    """Orders in PENDING_INVENTORY, by variant."""

    orders: int
    """Waiting orders that were counted."""
    is_capped: bool
    variants: dict[tuple[str, str], tuple[int, int]]
    """``(product_id, variant_id) -> (orders, units)``."""


def waiting_by_variant(connection: Connection, limit: int = MAX_WAITING) -> WaitingOrders:
    """Waiting orders and units by variant."""
    waiting = (
        select(orders.c.order_id)
        .where(orders.c.status == OrderStatus.PENDING_INVENTORY)
        .order_by(orders.c.created_at)
        .limit(limit)
        .subquery("waiting")
    )
    count = connection.scalar(select(func.count()).select_from(waiting)) or 0
    lines = (
        select(order_items.c.product_id, order_items.c.variant_id, func.count(), func.sum(order_items.c.quantity))
        .join(waiting, waiting.c.order_id == order_items.c.order_id)
        .group_by(order_items.c.product_id, order_items.c.variant_id)
    )
    found = {(row[0], row[1]): (int(row[2]), int(row[3])) for row in connection.execute(lines)}
    return WaitingOrders(count, count >= limit, found)
