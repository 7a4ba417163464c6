"""Keeps what the reference Inventory Service shows in the database, because pages ask nobody else.

It also brings the rate of the demo traffic back that a person asked for, which the service forgets at a restart.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from services.domain.errors import ValidationFailed
from services.sandbox.drills.faults import InventorySwitches
from state import audit, sandbox
from state.audit import AuditEntry
from state.engine.database import Database

MAX_RATE = 100.0


class Shelves:
    """Looks at the Inventory Service; look() is one round of a Loop."""

    def __init__(self, database: Database, clock: Callable[[], datetime], switches: InventorySwitches) -> None:
        self._database = database
        self._clock = clock
        self._switches = switches

    async def look(self) -> bool:
        """Store what there is to see; what was seen before stays when the service is away."""
        stock = await self._switches.stock()
        ledger = await self._switches.ledger()
        faults = await self._switches.faults()
        traffic = await self._switches.traffic()
        wished = await self._database.read(lambda connection: sandbox.get(connection, sandbox.TRAFFIC))
        if wished is not None and traffic is not None:
            rate = float(wished[0]["ordersPerSecond"])
            if traffic["ordersPerSecond"] != rate and await self._switches.set_traffic(rate):
                traffic = {"ordersPerSecond": rate}
        if stock is None or ledger is None or faults is None:
            return False
        shown: dict[str, Any] = {"items": stock, "ledger": ledger, "faults": faults, "traffic": traffic}
        at = self._clock()
        await self._database.write(lambda connection: sandbox.put(connection, sandbox.SHELVES, shown, at))
        return False


def wish_traffic(connection: Connection, orders_per_second: float, *, actor: str, at: datetime) -> None:
    """Store the rate that a person asks for; raises ValidationFailed for one that is not allowed."""
    if not 0 <= orders_per_second <= MAX_RATE:
        raise ValidationFailed(f"ordersPerSecond: {orders_per_second:g} is not valid; allowed: 0 to {MAX_RATE:g}.")
    before = sandbox.get(connection, sandbox.TRAFFIC)
    after = {"ordersPerSecond": orders_per_second}
    sandbox.put(connection, sandbox.TRAFFIC, after, at)
    entry = AuditEntry(
        at=at,
        actor=actor,
        action="SET_TRAFFIC",
        target="sandbox:traffic",
        order_id=None,
        reason=None,
        before=before[0] if before else {"ordersPerSecond": "as started"},
        after=after,
        result="done",
        action_id=None,
    )
    audit.add(connection, entry)
