"""The progress of the conservation audit, and the differences that it found."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, func, select

from services.domain.conservation import FOR_A_PERSON, Difference
from services.domain.orders.model import Order
from state import orders
from state.engine import rows
from state.engine.rows import Rows
from state.tables import conservation_differences as differences
from state.tables import conservation_progress, order_history

OPEN, COMPENSATING, ACCEPTED, SETTLED = "OPEN", "COMPENSATING", "ACCEPTED", "SETTLED"
UNSETTLED = (OPEN, COMPENSATING)
MAX_PAGE = 200
ENTRIES_READ = 500
"""Maximum of timeline entries in one round of the audit; an order makes about ten."""


@dataclass(frozen=True, slots=True)
class KnownDifference:
    """A difference and its state."""

    order_id: str
    kind: str
    detail: str
    state: str
    """OPEN, COMPENSATING (a person started the compensation), ACCEPTED (a person closed its case) or SETTLED (the
    services agree again)."""
    first_seen_at: datetime
    last_seen_at: datetime
    settled_at: datetime | None
    compensated_by: str | None


_DIFFERENCES = Rows(differences, KnownDifference)


def progress(connection: Connection) -> tuple[int, int]:
    """``(history_id, compared)``: the last timeline entry read, and the number of comparisons made."""
    table = conservation_progress
    row = connection.execute(select(table.c.history_id, table.c.compared).where(table.c.id == 1)).one_or_none()
    return (row[0], row[1]) if row else (0, 0)


def advance(connection: Connection, history_id: int, compared: int) -> None:
    """Store the progress of the audit."""
    rows.put(connection, conservation_progress, {"id": 1, "history_id": history_id, "compared": compared})


def next_rested(connection: Connection, moving: Callable[[datetime], bool], limit: int) -> list[tuple[int, str]]:
    """``(history_id, order_id)`` of the next orders whose timelines grew, one row for each order.

    The list ends before the first entry whose time is still ``moving``. The timeline is the source of changes, because
    another index would cost a write for every order. An order that changes again is listed again later.
    """
    table = order_history
    statement = (
        select(table.c.id, table.c.order_id, table.c.at)
        .where(table.c.id > progress(connection)[0])
        .order_by(table.c.id)
        .limit(ENTRIES_READ)
    )
    reached: dict[str, int] = {}
    for history_id, order_id, at in connection.execute(statement):
        if moving(at) or (order_id not in reached and len(reached) == limit):
            break
        reached[order_id] = history_id
    return [(history_id, order_id) for order_id, history_id in reached.items()]


def unsettled(connection: Connection, limit: int) -> list[Order]:
    """Orders with unsettled differences; the one that was compared longest ago comes first."""
    statement = (
        select(differences.c.order_id)
        .where(differences.c.state.in_(UNSETTLED))
        .group_by(differences.c.order_id)
        .order_by(func.min(differences.c.last_seen_at))
        .limit(limit)
    )
    return orders.get_many(connection, connection.scalars(statement).all())


def note(
    connection: Connection, order_id: str, found: Sequence[Difference], at: datetime, *, judged: Collection[str]
) -> None:
    """Store the differences found for one order.

    Earlier differences of a ``judged`` kind that were not found again become settled.
    """
    agreed = sorted(set(judged) - {difference.kind for difference in found})
    unsettled = (differences.c.order_id == order_id, differences.c.state != SETTLED)
    rows.change(connection, differences, *unsettled, differences.c.kind.in_(agreed), state=SETTLED, settled_at=at)
    for difference in found:
        _note_one(connection, order_id, difference, at)


def _note_one(connection: Connection, order_id: str, difference: Difference, at: datetime) -> None:
    seen = {"detail": difference.detail, "last_seen_at": at}
    unsettled = (*_is_it(order_id, difference.kind), differences.c.state != SETTLED)
    if not rows.change(connection, differences, *unsettled, **seen):
        again = {**seen, "state": OPEN, "first_seen_at": at, "settled_at": None, "compensated_by": None}
        rows.put(connection, differences, {"order_id": order_id, "kind": difference.kind, **again})


def begin_compensation(connection: Connection, order_id: str, kind: str, *, by: str) -> bool:
    """Mark an open difference as being compensated; False when it is not open."""
    is_open = (*_is_it(order_id, kind), differences.c.state == OPEN)
    return rows.change(connection, differences, *is_open, state=COMPENSATING, compensated_by=by) == 1


def accept(connection: Connection, order_id: str, at: datetime) -> None:
    """Mark compensations for a person as accepted; these differences do not become open again while they last."""
    compensating = (differences.c.order_id == order_id, differences.c.state == COMPENSATING)
    for_a_person = differences.c.kind.in_(sorted(FOR_A_PERSON))
    rows.change(connection, differences, *compensating, for_a_person, state=ACCEPTED, settled_at=at)


def get(connection: Connection, order_id: str, kind: str) -> KnownDifference | None:
    return _DIFFERENCES.one(connection, *_is_it(order_id, kind))


def _is_it(order_id: str, kind: str) -> tuple[ColumnElement[bool], ...]:
    return differences.c.order_id == order_id, differences.c.kind == kind


def page(
    connection: Connection, *, state: str | None = None, limit: int = MAX_PAGE, offset: int = 0
) -> list[KnownDifference]:
    """Differences, oldest first; without ``state``, those that are not settled."""
    wanted = differences.c.state == state if state else differences.c.state.in_(UNSETTLED)
    oldest = [differences.c.first_seen_at, differences.c.order_id]
    return _DIFFERENCES.some(connection, wanted, order=oldest, limit=min(limit, MAX_PAGE), offset=offset)


def count_unsettled(connection: Connection) -> int:
    return rows.count(connection, differences, differences.c.state.in_(UNSETTLED))
