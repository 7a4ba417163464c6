"""The switches of the reference Inventory Service, and what it shows of its shelves."""

from __future__ import annotations

from typing import Any

import httpx

TIMEOUT_SECONDS = 3.0
LEDGER_ENTRIES = 50


class InventorySwitches:
    """Asks and sets; every method answers None, or False, when the service is away."""

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
        """The latest movements, newest first."""
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
    # Proxies of the environment are for the world outside, not for this machine.
    return httpx.AsyncClient(base_url=base_url, timeout=TIMEOUT_SECONDS, trust_env=False)
