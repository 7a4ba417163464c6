"""A drill runner over fake switches."""

from __future__ import annotations

from typing import Any

from services.metrics.health import Thresholds
from services.sandbox.drills.runner import DrillRunner

CALM = {"outage": False, "latencyMs": 0, "errorRate": 0.0, "silentConfirmations": False, "soldOut": False}


class Switches:
    """The switches of an Inventory Service in memory."""

    def __init__(self) -> None:
        self.faults_now: dict[str, Any] = dict(CALM)
        self.rate: float | None = None
        self.is_away = False

    async def faults(self) -> dict[str, Any] | None:
        return None if self.is_away else dict(self.faults_now)

    async def set_faults(self, faults: dict[str, Any]) -> bool:
        if not self.is_away:
            self.faults_now = CALM | {name: value for name, value in faults.items() if name != "leaseMs"}
        return not self.is_away

    async def traffic(self) -> dict[str, Any] | None:
        return None if self.is_away else {"ordersPerSecond": self.rate}

    async def set_traffic(self, orders_per_second: float) -> bool:
        if not self.is_away:
            self.rate = orders_per_second
        return not self.is_away

    async def stock(self) -> list[dict[str, Any]] | None:
        return None if self.is_away else [{"productId": "p"}]

    async def ledger(self) -> list[dict[str, Any]] | None:
        return None if self.is_away else []


def runner_of(shop, switches) -> DrillRunner:
    thresholds = Thresholds(0.95, 100, 1.0)
    return DrillRunner(shop.database, shop.clock, switches, shop.conservation.compare, thresholds)


async def start(runner, **more):
    given = {"seconds": 10, "level": None, "reason": "before the sale", "actor": "ada", "drill_id": "d-1"}
    return await runner.start("outage", **(given | more))
