"""Looks up the reservation of one order at the Inventory Service, if the service has the route.

The requirements (3.1) do not include this route. The reference service has it, and other services may have it. A
missing route is distinguished from a missing reservation. After an answer that shows a missing route, no lookup is sent
for PAUSE_SECONDS.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

import httpx

from services.clients.http.exchange import Clock, Exchange, Failed, NoReply, Reply, Transport, path_segment
from services.clients.inventory.models import UnbelievableReply, parsed
from services.clients.inventory.pacing import Pacer
from services.domain.calls import INVALID
from services.domain.conservation import StockState
from services.domain.errors import ApiError, InventoryTimeout, InventoryUnavailable
from services.domain.external import NotAllowed, cut_text, identifier, utc_time
from services.domain.reconciliation import CANNOT_ANSWER, NO_ANSWER, LookupResult

ASK = "ask_reservation"
PAUSE_SECONDS = 300.0
"""Pause after an answer that shows that the route is missing or has an unknown form."""

MAX_WORD = 40

_STATES = {
    "ACTIVE": StockState.RESERVED,
    "CONFIRMED": StockState.DEDUCTED,
    **dict.fromkeys(("EXPIRED", "RELEASED", "RESTOCKED", "TOMBSTONED"), StockState.FREE),
}
"""Stock states by state of the reference service; any other state is unknown."""


class InventoryLookup(Protocol):
    """Port: the inventory status of one order."""

    async def find(self, order_id: str) -> LookupResult:
        """Return the inventory status, or the reason why it is unknown. Never raises for an unavailable service."""

    async def stock_of(self, order_id: str) -> StockState | None:
        """Return the stock state; None if unknown. Never raises for an unavailable service."""


class HTTPInventoryLookup:
    """InventoryLookup over ``GET /api/v1/inventory/reservations/{orderId}``."""

    def __init__(
        self,
        transport: Transport,
        base_url: str,
        *,
        timeout_seconds: float,
        clock: Clock,
        token: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        pacer: Pacer | None = None,
    ) -> None:
        """``pacer``: the pacer of the inventory calls. While it limits calls, no lookup is sent."""
        self._pacer = pacer
        self._exchange = Exchange(
            transport,
            base_url,
            timeout_seconds=timeout_seconds,
            no_reply=_no_reply,
            clock=clock,
            headers={"Authorization": f"Bearer {token}"} if token else None,
        )
        self._monotonic = monotonic
        self._silent_until = float("-inf")

    async def stock_of(self, order_id: str) -> StockState | None:
        return (await self.find(order_id)).stock

    async def find(self, order_id: str) -> LookupResult:
        if self._monotonic() < self._silent_until:
            return LookupResult(None, problem=CANNOT_ANSWER)
        if self._pacer is not None and self._pacer.is_throttled:
            return LookupResult(None, problem=NO_ANSWER)
        path = f"/api/v1/inventory/reservations/{path_segment(order_id)}"
        request = self._exchange.get(self._exchange.url(path))
        try:
            result, _ = await self._exchange.attempt(ASK, request, _lookup_result)
        except CannotAnswer:
            self._silent_until = self._monotonic() + PAUSE_SECONDS
            return LookupResult(None, problem=CANNOT_ANSWER)
        except ApiError:
            # The service is unavailable; the conservation audit compares this order again later.
            return LookupResult(None, problem=NO_ANSWER)
        return result


class CannotAnswer(ApiError):
    """The service has no such route, or its answer has an unknown form."""


def _lookup_result(reply: Reply) -> LookupResult:
    body = _body(reply)
    data = body.get("data")
    if reply.is_success and isinstance(data, dict) and "state" in data:
        said = cut_text(str(data["state"])[:MAX_WORD], MAX_WORD)
        stock = _STATES.get(said)
        return LookupResult(
            stock,
            said,
            _id(data.get("reservationId")),
            _moment(data.get("expiresAt")),
            CANNOT_ANSWER if stock is None else None,
        )
    error = body.get("error")
    if (
        reply.status == httpx.codes.NOT_FOUND
        and isinstance(error, dict)
        and error.get("code") == "RESERVATION_NOT_FOUND"
    ):
        return LookupResult(StockState.FREE)
    if reply.status >= httpx.codes.INTERNAL_SERVER_ERROR or reply.status == httpx.codes.TOO_MANY_REQUESTS:
        raise Failed(INVALID, InventoryUnavailable("The Inventory Service is unavailable."))
    raise Failed(INVALID, CannotAnswer("The Inventory Service does not offer the lookup of a reservation."))


def _moment(value: object) -> datetime | None:
    try:
        return utc_time(value)
    except NotAllowed:
        return None


def _id(value: object) -> str | None:
    try:
        return identifier(value)
    except NotAllowed:
        return None


def _body(reply: Reply) -> dict[str, object]:
    try:
        body = parsed(reply.content)
    except UnbelievableReply:
        return {}
    return body if isinstance(body, dict) else {}


def _no_reply(why: NoReply) -> ApiError:
    if why.outcome == "timeout":
        return InventoryTimeout("The Inventory Service took too long to answer.")
    return InventoryUnavailable("The Inventory Service is unavailable.")
