"""Orders with their lines, idempotency keys, returns and timelines: inserted once, changed under a version check."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, bindparam, insert, select, update

from services.domain.orders.changes import TRANSITION, TimelineEntry
from services.domain.orders.ending import shows_capture as entry_shows_capture
from services.domain.orders.model import Line, Order
from services.domain.reviews import ReviewState
from state.engine import rows
from state.engine.rows import Rows
from state.engine.statements import Prepared
from state.tables import idempotency_keys, order_history, order_items, orders, returns, reviews

MAX_PAGE = 200
"""Upper limit of rows in one page."""

_COLUMNS = [column for column in orders.c if column.name != "request_hash"]
_FIELDS = [column.name for column in _COLUMNS]
_LINES = Rows(order_items, Line)

_SELECT_ONE = Prepared(
    select(*_COLUMNS, *_LINES.columns)
    .join(order_items, order_items.c.order_id == orders.c.order_id)
    .where(orders.c.order_id == bindparam("id"))
    .order_by(order_items.c.line)
)
_INSERT_ORDER = Prepared(insert(orders), [*_FIELDS, "request_hash"])
_INSERT_ITEMS = Prepared(insert(order_items), ("order_id", "product_id", "variant_id", "line", "quantity", "returned"))


class StaleOrder(Exception):
    """The order changed since it was read; nothing was written."""


class KeyTaken(Exception):
    """The caller has used this idempotency key before; nothing was written."""


def add(connection: Connection, order: Order, request_hash: str) -> None:
    """Insert a new order and its lines; raises IntegrityError when the id is taken."""
    row = {name: getattr(order, name) for name in _FIELDS}
    _INSERT_ORDER.run(connection, row | {"request_hash": request_hash})
    of_order = {"order_id": order.order_id, "returned": 0}
    items = [_LINES.values(line) | of_order | {"line": number} for number, line in enumerate(order.lines)]
    _INSERT_ITEMS.run_many(connection, items)


def get(connection: Connection, order_id: str) -> Order | None:
    """The order with its lines, or None."""
    found = _SELECT_ONE.fetch(connection, {"id": order_id})
    if not found:
        return None
    return _order(found[0], tuple(Line(*row[-4:]) for row in found))


def save(connection: Connection, order: Order, values: dict[str, Any], at: datetime) -> Order:
    """Write new column values under a version check; raises StaleOrder when the order changed meanwhile."""
    changes = values | {"updated_at": at, "version": order.version + 1}
    parameters = changes | {"key_id": order.order_id, "key_version": order.version}
    if _update_of(tuple(changes)).run(connection, parameters) != 1:
        raise StaleOrder(order.order_id)
    return replace(order, **changes)


@lru_cache(maxsize=256)
def _update_of(names: tuple[str, ...]) -> Prepared:
    # Built once per set of columns, because building the statement costs more than running it.
    return Prepared(
        update(orders)
        .where(orders.c.order_id == bindparam("key_id"), orders.c.version == bindparam("key_version"))
        .values({name: bindparam(name) for name in names})
    )


def add_returned(connection: Connection, order_id: str, lines: Iterable[Line]) -> None:
    """Count returned quantities per line; the table refuses more than was bought."""
    for line in lines:
        of_variant = (order_items.c.product_id == line.product_id, order_items.c.variant_id == line.variant_id)
        returned = order_items.c.returned + line.quantity
        rows.change(connection, order_items, order_items.c.order_id == order_id, *of_variant, returned=returned)


def claim_due(connection: Connection, now: datetime, until: datetime, limit: int) -> list[Order]:
    """Claim due orders, so that no other replica works on them before ``until``.

    The version is raised, so that the next version check of an earlier worker on the order fails.
    """
    due, version = orders.c.due_at <= now, orders.c.version + 1
    return get_many(
        connection,
        rows.claim(connection, orders, due, order=[orders.c.due_at], limit=limit, due_at=until, version=version),
    )


def make_confirmations_due(connection: Connection, status: str, due_before: datetime, now: datetime) -> int:
    """Make placed orders due whose wait for a confirmation ends before ``due_before``, and reset their attempts."""
    is_waiting = (orders.c.status == status, orders.c.due_at > now, orders.c.due_at < due_before)
    return rows.change(connection, orders, *is_waiting, due_at=now, attempts=0)


def get_many(connection: Connection, ids: Sequence[str]) -> list[Order]:
    """The orders in the sequence of the given ids; unknown ids are left out."""
    if not ids:
        return []
    heads = connection.execute(select(*_COLUMNS).where(orders.c.order_id.in_(ids))).fetchall()
    lines: dict[str, list[Line]] = {}
    items = select(order_items.c.order_id, *_LINES.columns).where(order_items.c.order_id.in_(ids))
    for row in connection.execute(items.order_by(order_items.c.order_id, order_items.c.line)):
        lines.setdefault(row[0], []).append(Line(*row[1:]))
    found = {row.order_id: _order(row, tuple(lines.get(row.order_id, ()))) for row in heads}
    return [found[order_id] for order_id in ids if order_id in found]


def with_open_review() -> ColumnElement[bool]:
    return orders.c.order_id.in_(select(reviews.c.order_id).where(reviews.c.state == ReviewState.OPEN))


def count_with_status(connection: Connection, status: str) -> int:
    return rows.count(connection, orders, orders.c.status == status)


def traceparent(connection: Connection, order_id: str) -> str | None:
    return connection.scalar(select(orders.c.traceparent).where(orders.c.order_id == order_id))


def request_hash(connection: Connection, order_id: str) -> str | None:
    return connection.scalar(select(orders.c.request_hash).where(orders.c.order_id == order_id))


def remember_key(connection: Connection, key: str, caller: str, order_id: str, request_hash: str, at: datetime) -> None:
    """Bind a caller's idempotency key to an order; raises KeyTaken when it is bound."""
    # A key stored by a version without callers would not violate the primary key.
    if find_key(connection, key, caller) is not None:
        raise KeyTaken(key)
    row = {"key": key, "caller": caller, "order_id": order_id, "request_hash": request_hash, "created_at": at}
    connection.execute(insert(idempotency_keys), row)


def find_key(connection: Connection, key: str, caller: str) -> tuple[str, str] | None:
    """``(order_id, request_hash)`` of a caller's idempotency key, or None."""
    table = idempotency_keys
    statement = (
        select(table.c.order_id, table.c.request_hash)
        .where(table.c.key == key, table.c.caller.in_((caller, "")))
        .order_by(table.c.caller.desc())
        .limit(1)
    )
    row = connection.execute(statement).one_or_none()
    return (row[0], row[1]) if row else None


def _order(row: Row[Any] | tuple[Any, ...], lines: tuple[Line, ...]) -> Order:
    values = dict(zip(_FIELDS, row, strict=False))
    return Order(lines=lines, **values)


def find_return(connection: Connection, order_id: str, return_id: str) -> str | None:
    """The request hash of a return of the order, or None."""
    same = (returns.c.order_id == order_id, returns.c.return_id == return_id)
    return connection.scalar(select(returns.c.request_hash).where(*same))


def add_return(
    connection: Connection,
    return_id: str,
    order_id: str,
    request_hash: str,
    items: list[dict[str, Any]],
    *,
    reason: str,
    restockable: bool,
    at: datetime,
) -> None:
    """Store a return; raises IntegrityError when the order has a return with that id."""
    key = {"order_id": order_id, "return_id": return_id, "request_hash": request_hash}
    content = {"items": items, "reason": reason, "restockable": restockable, "created_at": at}
    connection.execute(insert(returns), key | content)


MAX_ENTRIES = 1000
"""Maximum of entries shown for one order; only endless retries write more."""

_ENTRIES = Rows(order_history, TimelineEntry)
_INSERT_ENTRY = Prepared(insert(order_history), ("order_id", "at", "kind", "title", "details", "actor"))


def add_timeline(connection: Connection, order_id: str, entries: Sequence[TimelineEntry]) -> None:
    """Append entries in the given sequence, in the transaction that changes the order; entries never change."""
    stored = [_ENTRIES.values(entry) | {"order_id": order_id, "details": entry.details or None} for entry in entries]
    _INSERT_ENTRY.run_many(connection, stored)


def timeline(connection: Connection, order_id: str) -> list[TimelineEntry]:
    """The newest MAX_ENTRIES entries, oldest first by the time of the step, then by the time of recording."""
    table = order_history
    newest = _ENTRIES.some(connection, table.c.order_id == order_id, order=[table.c.id.desc()], limit=MAX_ENTRIES)
    return sorted((_readable(entry) for entry in reversed(newest)), key=lambda entry: entry.at)


def shows_capture(connection: Connection, order_id: str) -> bool:
    """Whether a transition of the order shows captured money."""
    table = order_history
    of_it = (table.c.order_id == order_id, table.c.kind == TRANSITION)
    transitions = _ENTRIES.read(connection, select(*_ENTRIES.columns).where(*of_it))
    return any(entry_shows_capture(_readable(entry)) for entry in transitions)


def _readable(entry: TimelineEntry) -> TimelineEntry:
    """The entry with details; a row without details has NULL."""
    return entry if entry.details else replace(entry, details={})
