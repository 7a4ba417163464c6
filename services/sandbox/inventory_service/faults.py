"""Faults that can be switched on for drills. They strike the three operations of the seed only.

Stock lists, audits and the switch itself keep answering, so that a drill can be watched and ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated

from pydantic import Field

from services.domain.retry import Randomness
from services.sandbox.web import Rejection, RequestBody


class FaultSettings(RequestBody):
    """What goes wrong at present; all off by default."""

    outage: bool = False
    """Every call is answered with 503."""
    latencyMs: Annotated[int, Field(ge=0, le=60_000)] = 0
    """Every call waits so long first, and is then carried out even if the caller has gone."""
    errorRate: Annotated[float, Field(ge=0, le=1, strict=False)] = 0.0
    """The share of calls answered with 500, before anything is done."""
    silentConfirmations: bool = False
    """Confirmations are carried out, but nobody is told."""


class Faults:
    """The switch. It forgets everything at a restart."""

    def __init__(self, randomness: Randomness, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self.settings = FaultSettings()
        self._randomness = randomness
        self._sleep = sleep

    async def strike(self) -> None:
        """Delay or refuse the call at hand, as the settings say."""
        settings = self.settings
        if settings.latencyMs:
            await self._sleep(settings.latencyMs / 1000)
        if settings.outage:
            raise Rejection(503, "SERVICE_UNAVAILABLE", "The Inventory Service is down (a drill).")
        if settings.errorRate and self._randomness() < settings.errorRate:
            raise Rejection(500, "INTERNAL_ERROR", "The Inventory Service failed (a drill).")
