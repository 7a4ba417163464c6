"""What the sandbox remembers: the rate of its traffic as asked for, and what its Inventory Service last showed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from state.tables import sandbox_values

TRAFFIC = "traffic"
"""``{ordersPerSecond}``: what a person asked for."""
SHELVES = "shelves"
"""``{items, ledger, faults, traffic}``: as the reference Inventory Service last showed them."""


def put(connection: Connection, name: str, value: dict[str, Any], at: datetime) -> None:
    values = {"value": value, "changed_at": at}
    if not connection.execute(update(sandbox_values).where(sandbox_values.c.name == name).values(values)).rowcount:
        connection.execute(insert(sandbox_values), {"name": name, **values})


def get(connection: Connection, name: str) -> tuple[dict[str, Any], datetime] | None:
    """The value and when it was stored, or None."""
    table = sandbox_values
    row = connection.execute(select(table.c.value, table.c.changed_at).where(table.c.name == name)).one_or_none()
    return (row[0], row[1]) if row else None
