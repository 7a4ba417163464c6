"""Events already handled: the guarantee that a redelivery has no second effect."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from state.prepared import Prepared
from state.tables import inbox

_COLUMNS = ("event_id", "type", "order_id", "received_at")
_INSERTS = {
    name: Prepared(
        dialect.insert(inbox).on_conflict_do_nothing(index_elements=["event_id"]).returning(inbox.c.event_id), _COLUMNS
    )
    for name, dialect in (("sqlite", sqlite), ("postgresql", postgresql))
}


def add(connection: Connection, event_id: str, event_type: str, order_id: str | None, at: datetime) -> bool:
    """Remember an event in the transaction of its effect; False when it was handled before."""
    row = {"event_id": event_id, "type": event_type, "order_id": order_id, "received_at": at}
    # Not the row count: for inserts the drivers do not agree on what it says.
    return bool(_INSERTS[connection.dialect.name].fetch(connection, row))


def prune(connection: Connection, received_before: datetime, limit: int) -> int:
    """Delete a small step of old entries; returns how many went."""
    old = select(inbox.c.event_id).where(inbox.c.received_at < received_before).limit(limit)
    return connection.execute(delete(inbox).where(inbox.c.event_id.in_(connection.scalars(old).all()))).rowcount
