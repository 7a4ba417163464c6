"""Deduplicates received events (transactional inbox): a redelivered event has no second effect.

The console lists the rows as incoming events with their outcome.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from state.engine.keyset import WINDOW, Keyset, Residual
from state.engine.statements import Prepared
from state.tables import inbox

HANDLED, IGNORED, DUPLICATE = "handled", "ignored", "duplicate"
OUTCOMES = (HANDLED, IGNORED, DUPLICATE)

_KEY = ("event_id", "type", "source")
_INSERTED = (*_KEY, "digest", "order_id", "received_at", "outcome")
_INSERTS = {
    name: Prepared(
        dialect.insert(inbox).on_conflict_do_nothing(index_elements=_KEY).returning(inbox.c.event_id),
        _INSERTED,
    )
    for name, dialect in (("sqlite", sqlite), ("postgresql", postgresql))
}


class OtherContent(Exception):
    """An event with the same source, type and id but other content was handled before."""


@dataclass(frozen=True, slots=True)
class Received:
    """One received event."""

    event_id: str
    type: str
    order_id: str | None
    received_at: datetime
    outcome: str | None
    """Handled or ignored; None for an event of a version that did not store outcomes."""
    repeats: int
    """Number of redeliveries, which had no effect."""


_COLUMNS = [inbox.c[name] for name in Received.__dataclass_fields__]


def add(
    connection: Connection,
    event_id: str,
    event_type: str,
    order_id: str | None,
    at: datetime,
    outcome: str = HANDLED,
    *,
    source: str = "",
    digest: str | None = None,
) -> bool:
    """Store an event in the transaction of its effect; when it was handled before, count it and return False.

    An event is identified by source, type and id. Raises OtherContent when its digest differs.
    """
    key = {"event_id": event_id, "type": event_type, "source": source}
    row = key | {"digest": digest, "order_id": order_id, "received_at": at, "outcome": outcome}
    # The drivers return different row counts for an insert.
    if _INSERTS[connection.dialect.name].fetch(connection, row):
        return True
    known = connection.scalar(select(inbox.c.digest).where(*_same(key)))
    if None not in (known, digest) and known != digest:
        raise OtherContent(f"{event_type}: the id {event_id!r} was used before, for another content")
    connection.execute(update(inbox).where(*_same(key)).values(repeats=inbox.c.repeats + 1))
    return False


def note_ignored(connection: Connection, event_id: str, event_type: str, source: str) -> None:
    """Change the outcome of an event of this transaction to ignored, because it changed nothing."""
    same = _same({"event_id": event_id, "type": event_type, "source": source})
    connection.execute(update(inbox).where(*same).values(outcome=IGNORED))


def _same(key: Mapping[str, str]) -> list[ColumnElement[bool]]:
    return [inbox.c[name] == value for name, value in key.items()]


def listed(
    *, event_type: str | None = None, order_id: str | None = None, outcome: str | None = None, window: int = WINDOW
) -> Keyset:
    """Rows of Received, newest first by ``(received_at, event_id)``."""
    driving: list[ColumnElement[bool]] = []
    if order_id:
        driving.append(inbox.c.order_id == order_id)
    if outcome in _DRIVING:
        # The condition of a partial index, verbatim, so that the index is used.
        driving.append(_DRIVING[outcome])
    residual = _filters(event_type, HANDLED if outcome == HANDLED else None)
    return Keyset(_COLUMNS, (inbox.c.received_at, inbox.c.event_id), driving, residual, window)


_DRIVING: dict[str | None, Any] = {IGNORED: text("inbox.outcome = 'ignored'"), DUPLICATE: text("inbox.repeats > 0")}


def _filters(event_type: str | None, outcome: str | None) -> Residual | None:
    wanted = {"type": event_type, "outcome": outcome}
    chosen = {name: value for name, value in wanted.items() if value}
    return (lambda row: [row[name] == value for name, value in chosen.items()]) if chosen else None
