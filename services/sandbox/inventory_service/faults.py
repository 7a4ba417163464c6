"""Faults that can be switched on for drills. They affect the three calls of the contract only.

Stock lists, audits and the switch itself keep answering, so that a drill can be watched and ended.
"""

from __future__ import annotations

import asyncio
import codecs
import re
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import orjson
from pydantic import Field
from starlette.responses import Response

from services.domain.calls import Randomness
from services.http_server.envelope import Rejection, RequestBody


class FaultSettings(RequestBody):
    """The active faults; all off by default."""

    outage: bool = False
    """Every call is answered with 503."""
    latencyMs: Annotated[int, Field(ge=0, le=60_000)] = 0
    """Milliseconds that every call waits before it is executed, even if the caller no longer waits."""
    errorRate: Annotated[float, Field(ge=0, le=1, strict=False)] = 0.0
    """The share of calls answered with 500, before anything is done."""
    silentConfirmations: bool = False
    """Confirmations are executed, but no event is published."""
    soldOut: bool = False
    """New reservations are refused as short of stock; the stock itself is unchanged."""
    credentialsExpired: bool = False
    """Every call is answered with 401, as with an expired token."""
    otherForm: bool = False
    """Replies have the same meaning in another JSON form; see in_another_form()."""
    requestsPerSecond: Annotated[int, Field(ge=0, le=100_000)] = 0
    """More calls within a second than this are answered with 429; 0: no limit."""
    leaseMs: Annotated[int | None, Field(ge=100, le=86_400_000)] = None
    """All faults end after this time unless they are set again, in case the client has died."""


class Faults:
    """The fault switch, kept in memory: a restart turns all faults off."""

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
        """The active faults; all off once the lease has ended."""
        if self._monotonic() >= self._ends_at:
            self.settings = FaultSettings()
        return self._settings

    @settings.setter
    def settings(self, settings: FaultSettings) -> None:
        self._settings = settings
        lease = settings.leaseMs
        self._ends_at = float("inf") if lease is None else self._monotonic() + lease / 1000

    async def strike(self) -> None:
        """Delay or refuse the current call according to the settings. Raises Rejection."""
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
        """Whether the call exceeds the limit of the current whole second."""
        second = int(self._monotonic())
        self._taken = self._taken + 1 if second == self._second else 1
        self._second = second
        return self._taken > per_second


_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_AS_TEXT = frozenset({"requestedQuantity", "quantity"})


def in_another_form(response: Response) -> Response:
    """A reply with the same status and meaning in another JSON form.

    Whole numbers become 5.0 or "5", UUIDs get capitals, quantities of available products are null, unknown fields
    appear, and a byte order mark precedes the body.
    """
    body = _other(orjson.loads(response.body))
    content = codecs.BOM_UTF8 + orjson.dumps(body | {"apiVersion": "2.7", "links": []})
    headers = {"Retry-After": wait} if (wait := response.headers.get("Retry-After")) else None
    return Response(content, response.status_code, headers, media_type="application/json")


def _other(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        other = {key: _other(inner, key) for key, inner in value.items()}
        if other.get("available") is True and "availableQuantity" in other:
            other |= {"availableQuantity": None, "tracking": "NOT_TRACKED"}
        return other
    if isinstance(value, list):
        return [_other(inner) for inner in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if name in _AS_TEXT else float(value)
    if isinstance(value, str) and _UUID.fullmatch(value):
        return value.upper()
    return value
