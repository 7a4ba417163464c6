"""Events already handled: the guarantee that a redelivery has no second effect.

People see from it what came in and what became of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from state.keyset import WINDOW, Keyset, Residual
from state.prepared import Prepared
from state.tables import inbox

HANDLED, IGNORED, DUPLICATE = "handled", "ignored", "duplicate"
OUTCOMES = (HANDLED, IGNORED, DUPLICATE)

_INSERTED = ("event_id", "type", "order_id", "received_at", "outcome")
_INSERTS = {
    name: Prepared(
        dialect.insert(inbox).on_conflict_do_nothing(index_elements=["event_id"]).returning(inbox.c.event_id),
        _INSERTED,
    )
    for name, dialect in (("sqlite", sqlite), ("postgresql", postgresql))
}


@dataclass(frozen=True, slots=True)
class Received:
    """One event that came in."""

    event_id: str
    type: str
    order_id: str | None
    received_at: datetime
    outcome: str | None
    """handled or ignored; None of one received before outcomes were kept."""
    repeats: int
    """How often it was delivered again, without effect."""


_COLUMNS = [inbox.c[name] for name in Received.__dataclass_fields__]


def add(
    connection: Connection,
    event_id: str,
    event_type: str,
    order_id: str | None,
    at: datetime,
    outcome: str = HANDLED,
) -> bool:
    """Remember an event in the transaction of its effect; False, and counted, when it was handled before."""
    row = {"event_id": event_id, "type": event_type, "order_id": order_id, "received_at": at, "outcome": outcome}
    # Not the row count: for inserts the drivers do not agree on what it says.
    if _INSERTS[connection.dialect.name].fetch(connection, row):
        return True
    connection.execute(update(inbox).where(inbox.c.event_id == event_id).values(repeats=inbox.c.repeats + 1))
    return False


def note_ignored(connection: Connection, event_id: str) -> None:
    """An event that was remembered in this transaction turned out to change nothing."""
    connection.execute(update(inbox).where(inbox.c.event_id == event_id).values(outcome=IGNORED))


def listed(
    *, event_type: str | None = None, order_id: str | None = None, outcome: str | None = None, window: int = WINDOW
) -> Keyset:
    """Rows of Received, newest first by ``(received_at, event_id)``."""
    driving: list[ColumnElement[bool]] = []
    if order_id:
        driving.append(inbox.c.order_id == order_id)
    if outcome in _DRIVING:
        # Word for word the condition of a partial index, which is found by it.
        driving.append(_DRIVING[outcome])
    residual = _filters(event_type, HANDLED if outcome == HANDLED else None)
    return Keyset(_COLUMNS, (inbox.c.received_at, inbox.c.event_id), driving, residual, window)


_DRIVING: dict[str | None, Any] = {IGNORED: text("inbox.outcome = 'ignored'"), DUPLICATE: text("inbox.repeats > 0")}


def _filters(event_type: str | None, outcome: str | None) -> Residual | None:
    wanted = {"type": event_type, "outcome": outcome}
    chosen = {name: value for name, value in wanted.items() if value}
    return (lambda row: [row[name] == value for name, value in chosen.items()]) if chosen else None


def prune(connection: Connection, received_before: datetime, limit: int) -> int:
    """Delete a small step of old entries; returns how many went."""
    old = select(inbox.c.event_id).where(inbox.c.received_at < received_before).limit(limit)
    return connection.execute(delete(inbox).where(inbox.c.event_id.in_(connection.scalars(old).all()))).rowcount
