"""Events already handled: the guarantee that a redelivery has no second effect."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from state.tables import inbox


def seen(connection: Connection, event_id: str) -> bool:
    """Whether the event was handled before."""
    return connection.scalar(select(inbox.c.event_id).where(inbox.c.event_id == event_id)) is not None


def add(
    connection: Connection, event_id: str, event_type: str, order_id: str | None, at: datetime, outcome: str
) -> None:
    """Remember an event in the transaction of its effect; raises IntegrityError if it is there."""
    row = {"event_id": event_id, "type": event_type, "order_id": order_id, "received_at": at, "outcome": outcome}
    connection.execute(insert(inbox), row)


def prune(connection: Connection, received_before: datetime, limit: int) -> int:
    """Delete a small step of old entries; returns how many went."""
    old = select(inbox.c.event_id).where(inbox.c.received_at < received_before).limit(limit)
    return connection.execute(delete(inbox).where(inbox.c.event_id.in_(connection.scalars(old).all()))).rowcount
