"""The timeline of an order: entries are added in the transaction that changes the order, and never changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, insert, select

from services.domain.orders.changes import TRANSITION, TimelineEntry
from services.domain.orders.ending import shows_capture as entry_shows_capture
from state.engine.statements import Prepared
from state.tables import order_history

_INSERT = Prepared(insert(order_history), ("order_id", "at", "kind", "title", "details", "actor"))
MAX_ENTRIES = 1000
"""Maximum of entries shown for one order; only endless retries write more."""


def add(connection: Connection, order_id: str, entries: Sequence[TimelineEntry]) -> None:
    """Append entries in the given sequence."""
    _INSERT.run_many(connection, [_row(order_id, entry) for entry in entries])


def of_order(connection: Connection, order_id: str) -> list[TimelineEntry]:
    """The newest MAX_ENTRIES entries, oldest first by the time of the step, then by the time of recording."""
    table = order_history
    statement = (
        select(table.c.at, table.c.kind, table.c.title, table.c.details, table.c.actor)
        .where(table.c.order_id == order_id)
        .order_by(table.c.id.desc())
        .limit(MAX_ENTRIES)
    )
    entries = [
        TimelineEntry(at, kind, title, details or {}, actor)
        for at, kind, title, details, actor in reversed(connection.execute(statement).all())
    ]
    return sorted(entries, key=lambda entry: entry.at)


def shows_capture(connection: Connection, order_id: str) -> bool:
    """Whether a transition of the order shows captured money."""
    table = order_history
    of_it = (table.c.order_id == order_id, table.c.kind == TRANSITION)
    rows = connection.execute(select(table.c.at, table.c.kind, table.c.title, table.c.details).where(*of_it))
    return any(entry_shows_capture(TimelineEntry(at, kind, title, details or {})) for at, kind, title, details in rows)


def _row(order_id: str, entry: TimelineEntry) -> dict[str, Any]:
    return {
        "order_id": order_id,
        "at": entry.at,
        "kind": entry.kind,
        "title": entry.title,
        "details": entry.details or None,
        "actor": entry.actor,
    }
