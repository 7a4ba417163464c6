"""Stored values of the sandbox: the requested rate of its traffic, and the last state of its Inventory Service."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from state.engine import rows
from state.tables import sandbox_values

TRAFFIC = "traffic"
"""``{ordersPerSecond}`` as requested on the console."""
SHELVES = "shelves"
"""``{items, ledger, faults, traffic}`` as the reference Inventory Service last returned them."""


def put(connection: Connection, name: str, value: dict[str, Any], at: datetime) -> None:
    rows.put(connection, sandbox_values, {"name": name, "value": value, "changed_at": at})


def get(connection: Connection, name: str) -> tuple[dict[str, Any], datetime] | None:
    """The value and when it was stored, or None."""
    table = sandbox_values
    row = connection.execute(select(table.c.value, table.c.changed_at).where(table.c.name == name)).one_or_none()
    return (row[0], row[1]) if row else None
