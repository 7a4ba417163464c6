"""Parked events: their order is not stored yet, or their handler failed.

In the stream they would occupy the places of other events. The key is the place in the stream, so that a redelivered
event is parked once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, select

from state.engine import rows
from state.engine.rows import Rows
from state.tables import orders, parked_events

MAX_PARKED = 10_000
"""Maximum number of parked events; add() refuses more."""

UNKNOWN_ORDER, HANDLER_FAILED = "UNKNOWN_ORDER", "HANDLER_FAILED"


@dataclass(frozen=True, slots=True)
class ParkedEvent:
    """One message with its original bytes, and the reason why it is parked."""

    stream: str
    incarnation: str
    stream_seq: int
    subject: str
    order_id: str | None
    payload: bytes
    headers: dict[str, str]
    cause: str
    """UNKNOWN_ORDER or HANDLER_FAILED."""
    reason: str
    attempts: int
    """Number of failed attempts of its handler."""
    parked_at: datetime
    due_at: datetime
    """When its handler runs again; for an unknown order, when the event becomes a dead letter."""


_EVENTS = Rows(parked_events, ParkedEvent)


def add(connection: Connection, event: ParkedEvent, limit: int = MAX_PARKED) -> bool:
    """Park an event; False when there is no room. An event that is parked already is unchanged."""
    if rows.count(connection, parked_events, up_to=limit) >= limit:
        return False
    rows.insert_new(connection, parked_events, _EVENTS.values(event))
    return True


def of_placed_orders(
    connection: Connection, early: Collection[str], limit: int, order_ids: Collection[str] | None = None
) -> list[ParkedEvent]:
    """Events parked for an order that is stored now and in none of the ``early`` statuses.

    They are in the sequence in which they were sent. With ``order_ids``, only events of these orders are returned.
    """
    here = select(orders.c.order_id).where(
        orders.c.order_id == parked_events.c.order_id, orders.c.status.not_in(sorted(early))
    )
    conditions = [parked_events.c.cause == UNKNOWN_ORDER, here.exists()]
    if order_ids is not None:
        conditions.append(parked_events.c.order_id.in_(sorted(order_ids)))
    return _found(connection, conditions, limit)


def due(connection: Connection, now: datetime, limit: int) -> list[ParkedEvent]:
    """Events whose due time has come."""
    return _found(connection, [parked_events.c.due_at <= now], limit)


def put_off(
    connection: Connection, event: ParkedEvent, cause: str, reason: str, attempts: int, due_at: datetime
) -> None:
    """Keep the event parked for this cause until ``due_at``."""
    values = {"cause": cause, "reason": reason, "attempts": attempts, "due_at": due_at}
    rows.change(connection, parked_events, *_same(event), **values)


def remove(connection: Connection, event: ParkedEvent) -> None:
    """Delete the row of an event that was handled or became a dead letter."""
    rows.remove(connection, parked_events, *_same(event))


def has_any(connection: Connection) -> bool:
    return rows.has_any(connection, parked_events)


def _found(connection: Connection, conditions: Sequence[ColumnElement[bool]], limit: int) -> list[ParkedEvent]:
    oldest = (parked_events.c.parked_at, parked_events.c.stream_seq)
    return _EVENTS.some(connection, *conditions, order=oldest, limit=limit)


def _same(event: ParkedEvent) -> list[ColumnElement[bool]]:
    return [column == getattr(event, column.name) for column in parked_events.primary_key.columns]
