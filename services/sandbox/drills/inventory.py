"""The reference Inventory Service as drills use it: its fault switches, the rate of the demo traffic, its stock."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import httpx
from sqlalchemy import Connection

from services.domain.errors import ValidationFailed
from state import audit, sandbox
from state.audit import AuditEntry
from state.engine.database import Database

TIMEOUT_SECONDS = 3.0
LEDGER_ENTRIES = 50


class InventorySwitches:
    """HTTP client of the fault switches; methods return None, or False, if the service does not answer."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def faults(self) -> dict[str, Any] | None:
        return await self._get("/api/v1/sandbox/faults")

    async def set_faults(self, faults: dict[str, Any]) -> bool:
        return await self._put("/api/v1/sandbox/faults", faults)

    async def traffic(self) -> dict[str, Any] | None:
        return await self._get("/api/v1/sandbox/traffic")

    async def set_traffic(self, orders_per_second: float) -> bool:
        return await self._put("/api/v1/sandbox/traffic", {"ordersPerSecond": orders_per_second})

    async def stock(self) -> list[dict[str, Any]] | None:
        found = await self._get("/api/v1/inventory/stock")
        return found["items"] if found else None

    async def ledger(self) -> list[dict[str, Any]] | None:
        """The latest LEDGER_ENTRIES movements, newest first."""
        found = await self._get(f"/api/v1/inventory/ledger?limit={LEDGER_ENTRIES}")
        return found["items"] if found else None

    async def _get(self, path: str) -> dict[str, Any] | None:
        try:
            reply = await self._http.get(path)
            return dict(reply.json()["data"]) if reply.is_success else None
        except (httpx.HTTPError, ValueError, KeyError):
            return None

    async def _put(self, path: str, body: dict[str, Any]) -> bool:
        try:
            return (await self._http.put(path, json=body)).is_success
        except httpx.HTTPError:
            return False


def switches_client(base_url: str) -> httpx.AsyncClient:
    # The sandbox runs on this machine, so proxies from the environment do not apply.
    return httpx.AsyncClient(base_url=base_url, timeout=TIMEOUT_SECONDS, trust_env=False)


MAX_RATE = 100.0


class Shelves:
    """Copies stock, ledger and faults of the Inventory Service into the database, where the pages read them.

    It also restores the requested rate of the demo traffic, which the service loses at a restart.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime], switches: InventorySwitches) -> None:
        self._database = database
        self._clock = clock
        self._switches = switches

    async def look(self) -> bool:
        """One round of a Loop; the previous copy is kept while the service does not answer."""
        stock = await self._switches.stock()
        ledger = await self._switches.ledger()
        faults = await self._switches.faults()
        traffic = await self._switches.traffic()
        wished = await self._database.read(lambda connection: sandbox.get_value(connection, sandbox.TRAFFIC))
        if wished is not None and traffic is not None:
            rate = float(wished[0]["ordersPerSecond"])
            if traffic["ordersPerSecond"] != rate and await self._switches.set_traffic(rate):
                traffic = {"ordersPerSecond": rate}
        if stock is None or ledger is None or faults is None:
            return False
        shown: dict[str, Any] = {"items": stock, "ledger": ledger, "faults": faults, "traffic": traffic}
        at = self._clock()
        await self._database.write(lambda connection: sandbox.put_value(connection, sandbox.SHELVES, shown, at))
        return False


def request_traffic(connection: Connection, orders_per_second: float, *, actor: str, at: datetime) -> None:
    """Store the requested rate of the demo traffic. Raises ValidationFailed outside 0 to MAX_RATE."""
    if not 0 <= orders_per_second <= MAX_RATE:
        raise ValidationFailed(f"ordersPerSecond: {orders_per_second:g} is not valid; allowed: 0 to {MAX_RATE:g}.")
    before = sandbox.get_value(connection, sandbox.TRAFFIC)
    after = {"ordersPerSecond": orders_per_second}
    sandbox.put_value(connection, sandbox.TRAFFIC, after, at)
    entry = AuditEntry(
        at=at,
        actor=actor,
        action="SET_TRAFFIC",
        target="sandbox:traffic",
        before=before[0] if before else {"ordersPerSecond": "as started"},
        after=after,
    )
    audit.add(connection, entry)
