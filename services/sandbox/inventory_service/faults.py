"""Faults that can be switched on for drills. They strike the three operations of the seed only.

Stock lists, audits and the switch itself keep answering, so that a drill can be watched and ended.
"""

from __future__ import annotations

import asyncio
import time
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
    soldOut: bool = False
    """Nothing can be reserved anew, as if the shelves were empty; the stock itself is not touched."""
    credentialsExpired: bool = False
    """Every call is answered with 401, as if the caller's token were not valid any more."""
    otherForm: bool = False
    """Every answer means the same and is written in another form."""
    requestsPerSecond: Annotated[int, Field(ge=0, le=100_000)] = 0
    """More calls within a second than this are answered with 429; 0: no limit."""
    leaseMs: Annotated[int | None, Field(ge=100, le=86_400_000)] = None
    """After so long without being set again, everything is off: whoever set it may have died."""


class Faults:
    """The switch. It forgets everything at a restart."""

    def __init__(
        self,
        randomness: Randomness,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = FaultSettings()
        self._ends_at = float("inf")
        self._randomness = randomness
        self._sleep = sleep
        self._monotonic = monotonic
        self._second, self._taken = -1, 0

    @property
    def settings(self) -> FaultSettings:
        """What goes wrong now."""
        if self._monotonic() >= self._ends_at:
            self.settings = FaultSettings()
        return self._settings

    @settings.setter
    def settings(self, settings: FaultSettings) -> None:
        self._settings = settings
        lease = settings.leaseMs
        self._ends_at = float("inf") if lease is None else self._monotonic() + lease / 1000

    async def strike(self) -> None:
        """Delay or refuse the call at hand, as the settings say."""
        settings = self.settings
        if settings.latencyMs:
            await self._sleep(settings.latencyMs / 1000)
        if settings.credentialsExpired:
            raise Rejection(401, "UNAUTHORIZED", "The token has expired (a drill).")
        if settings.requestsPerSecond and self._is_too_many(settings.requestsPerSecond):
            message = "There are too many requests (a drill)."
            raise Rejection(429, "TOO_MANY_REQUESTS", message, retry_after_seconds=1)
        if settings.outage:
            raise Rejection(503, "SERVICE_UNAVAILABLE", "The Inventory Service is down (a drill).")
        if settings.errorRate and self._randomness() < settings.errorRate:
            raise Rejection(500, "INTERNAL_ERROR", "The Inventory Service failed (a drill).")

    def _is_too_many(self, per_second: int) -> bool:
        """Counted in whole seconds, as most limiters do."""
        second = int(self._monotonic())
        self._taken = self._taken + 1 if second == self._second else 1
        self._second = second
        return self._taken > per_second
