"""How far the conservation audit has come, and what it found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, and_, func, insert, or_, select, update

from services.domain.conservation import Difference
from services.domain.order import Order
from state import orders
from state.tables import conservation_differences, conservation_progress
from state.tables import orders as order_rows

OPEN, COMPENSATING, SETTLED = "OPEN", "COMPENSATING", "SETTLED"
MAX_PAGE = 200
BEGINNING = (datetime(1970, 1, 1, tzinfo=UTC), "", 0)


@dataclass(frozen=True, slots=True)
class KnownDifference:
    """A difference that was found, and what became of it."""

    order_id: str
    kind: str
    detail: str
    state: str
    """OPEN, COMPENSATING (a person applied the move) or SETTLED (both sides agree again)."""
    first_seen_at: datetime
    last_seen_at: datetime
    settled_at: datetime | None
    compensated_by: str | None


_COLUMNS = [conservation_differences.c[name] for name in KnownDifference.__dataclass_fields__]


def progress(connection: Connection) -> tuple[datetime, str, int]:
    """``(updated_at, order_id, compared)`` of the order compared last."""
    table = conservation_progress
    row = connection.execute(select(table.c.updated_at, table.c.order_id, table.c.compared)).one_or_none()
    return (row[0], row[1], row[2]) if row else BEGINNING


def advance(connection: Connection, order: Order, compared: int) -> None:
    """Remember how far the audit has come."""
    values = {"updated_at": order.updated_at, "order_id": order.order_id, "compared": compared}
    if not connection.execute(update(conservation_progress).values(values)).rowcount:
        connection.execute(insert(conservation_progress), {"id": 1, **values})


def next_settled(connection: Connection, settled_before: datetime, limit: int) -> list[Order]:
    """The next orders to compare: changed after the last compared one, and not since ``settled_before``."""
    at, order_id, _ = progress(connection)
    column = order_rows.c
    later = or_(column.updated_at > at, and_(column.updated_at == at, column.order_id > order_id))
    statement = (
        select(column.order_id)
        .where(column.updated_at >= at, column.updated_at < settled_before, later)
        .order_by(column.updated_at, column.order_id)
        .limit(limit)
    )
    return orders.get_many(connection, connection.scalars(statement).all())


def unsettled(connection: Connection, limit: int) -> list[Order]:
    """Orders with differences that are not settled, the longest unseen first."""
    table = conservation_differences
    statement = (
        select(table.c.order_id)
        .where(table.c.state != SETTLED)
        .group_by(table.c.order_id)
        .order_by(func.min(table.c.last_seen_at))
        .limit(limit)
    )
    return orders.get_many(connection, connection.scalars(statement).all())


def note(connection: Connection, order_id: str, found: Sequence[Difference], at: datetime) -> None:
    """Record what was found for one order; what was found before and not now is settled."""
    table = conservation_differences
    kinds = [difference.kind for difference in found]
    connection.execute(
        update(table)
        .where(table.c.order_id == order_id, table.c.state != SETTLED, table.c.kind.not_in(kinds))
        .values(state=SETTLED, settled_at=at)
    )
    for difference in found:
        _note_one(connection, order_id, difference, at)


def _note_one(connection: Connection, order_id: str, difference: Difference, at: datetime) -> None:
    table = conservation_differences
    is_it = (table.c.order_id == order_id, table.c.kind == difference.kind)
    seen = {"detail": difference.detail, "last_seen_at": at}
    if connection.execute(update(table).where(*is_it, table.c.state != SETTLED).values(seen)).rowcount:
        return
    again = {**seen, "state": OPEN, "first_seen_at": at, "settled_at": None, "compensated_by": None}
    if not connection.execute(update(table).where(*is_it).values(again)).rowcount:
        connection.execute(insert(table), {"order_id": order_id, "kind": difference.kind, **again})


def begin_compensation(connection: Connection, order_id: str, kind: str, *, by: str) -> bool:
    """Mark an open difference as being compensated; False when it is not open."""
    table = conservation_differences
    done = connection.execute(
        update(table)
        .where(table.c.order_id == order_id, table.c.kind == kind, table.c.state == OPEN)
        .values(state=COMPENSATING, compensated_by=by)
    )
    return done.rowcount == 1


def get(connection: Connection, order_id: str, kind: str) -> KnownDifference | None:
    table = conservation_differences
    row = connection.execute(select(*_COLUMNS).where(table.c.order_id == order_id, table.c.kind == kind)).one_or_none()
    return KnownDifference(*row) if row else None


def page(connection: Connection, *, state: str | None = None, limit: int = MAX_PAGE) -> list[KnownDifference]:
    """The longest known first; without a state, those that are not settled."""
    table = conservation_differences
    wanted = table.c.state == state if state else table.c.state.in_((OPEN, COMPENSATING))
    statement = select(*_COLUMNS).where(wanted).order_by(table.c.first_seen_at, table.c.order_id)
    return [KnownDifference(*row) for row in connection.execute(statement.limit(min(limit, MAX_PAGE)))]


def count_unsettled(connection: Connection) -> int:
    table = conservation_differences
    statement = select(func.count()).select_from(table).where(table.c.state.in_((OPEN, COMPENSATING)))
    return connection.scalar(statement) or 0
