"""Adapters of the Inventory Service over REST: the inventory calls, and the lookup of the reservation of one order.

A call makes one attempt and reads replies by contract 4. The requirements (3.1) do not include the route of the lookup.
The reference service has it, and other services may have it. A missing route is distinguished from a missing
reservation. After an answer that shows a missing route, no lookup is sent for PAUSE_SECONDS.
Source: requirements 3.1 and 5.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import NoReturn, Protocol, Unpack

import httpx

from services.clients.http.exchange import Exchange, ExchangeOptions, Failed, NoReply, Reply, Transport, path_segment
from services.clients.inventory.models import (
    UnbelievableReply,
    has_error_code,
    parsed,
    read_acknowledgement,
    read_availability,
    read_reservation,
    short_lines,
    stated_reason,
)
from services.clients.inventory.pacing import Pacer
from services.clients.inventory.port import Availability, Reservation
from services.domain.calls import (
    INVALID,
    REFUSED_US,
    REJECTED,
    THROTTLED,
    TIMEOUT,
    UNAVAILABLE,
    Attempted,
    InventoryCall,
)
from services.domain.conservation import StockState
from services.domain.errors import (
    ApiError,
    InsufficientInventory,
    InventoryRefusesUs,
    InventoryThrottled,
    InventoryTimeout,
    InventoryUnavailable,
    ReleaseFailed,
    ReservationFailed,
)
from services.domain.external import NotAllowed, cut_text, identifier, utc_time
from services.domain.orders.model import Line
from services.domain.reconciliation import CANNOT_ANSWER, NO_ANSWER, LookupResult

NOTHING_LEFT = (404, 409)
"""Statuses of a release when no reservation is left, which completes the release job."""

ABOUT_THE_ORDER = (409, 422)
"""Statuses 4xx that concern the order. A 400 with an error code of the Inventory Service also concerns the order."""

TOO_MANY_REQUESTS, REQUEST_TIMEOUT = 429, 408


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


class HTTPInventoryGateway:
    """InventoryGateway over HTTP. Each call makes one attempt, limited by ``timeout_seconds``."""

    def __init__(
        self, transport: Transport, base_url: str, *, reservation_ttl_seconds: int, **options: Unpack[ExchangeOptions]
    ) -> None:
        self._exchange = Exchange(transport, base_url, no_reply=_no_reply, **options)
        self._reservation_ttl_seconds = reservation_ttl_seconds
        self._check_url = self._exchange.url("/api/v1/inventory/check-availability")
        self._reserve_url = self._exchange.url("/api/v1/inventory/reserve")
        self._release_url = self._exchange.url("/api/v1/inventory/release")

    async def check_availability(self, lines: tuple[Line, ...]) -> Attempted[Availability]:
        request = self._exchange.post(self._check_url, {"items": [line.wire() for line in lines]})
        return await self._exchange.attempt(InventoryCall.CHECK_AVAILABILITY, request, partial(_availability, lines))

    async def reserve(self, order_id: str, lines: tuple[Line, ...], user_id: str) -> Attempted[Reservation]:
        body = {
            "orderId": order_id,
            "items": [line.wire() for line in lines],
            "expiresIn": self._reservation_ttl_seconds,
            "metadata": {"userId": user_id},
        }
        request = self._exchange.post(self._reserve_url, body)
        return await self._exchange.attempt(InventoryCall.RESERVE, request, partial(_reservation, order_id, lines))

    async def release(self, order_id: str) -> Attempted[bool]:
        request = self._exchange.post(self._release_url, {"orderId": order_id})
        return await self._exchange.attempt(InventoryCall.RELEASE, request, _released)


def _availability(lines: tuple[Line, ...], reply: Reply) -> Availability:
    if not reply.is_success:
        _refuse(reply, lines)
    try:
        return read_availability(reply.content, lines)
    except UnbelievableReply as reason:
        raise Failed(INVALID, _unreadable(reply, reason)) from reason


def _reservation(order_id: str, lines: tuple[Line, ...], reply: Reply) -> Reservation:
    if not reply.is_success:
        _refuse(reply, lines)
    try:
        return read_reservation(reply.content, order_id, lines)
    except UnbelievableReply as reason:
        error = ReservationFailed(f"The reservation cannot be relied on: {reason}.", _details(reply, str(reason)))
        raise Failed(INVALID, error) from reason


def _released(reply: Reply) -> bool:
    if reply.status in NOTHING_LEFT:
        return False
    if not reply.is_success:
        _raise_unless_about_the_order(reply)
        error = ReleaseFailed(f"The Inventory Service refused the release ({reply.status}).", _details(reply))
        raise Failed(REJECTED, error)
    try:
        read_acknowledgement(reply.content)
    except UnbelievableReply as reason:
        raise Failed(INVALID, _unreadable(reply, reason)) from reason
    return True


def _refuse(reply: Reply, lines: tuple[Line, ...]) -> NoReturn:
    _raise_unless_about_the_order(reply)
    if reply.status == 409:
        items = {"items": short_lines(reply.content, lines)}
        raise Failed(REJECTED, InsufficientInventory("One or more products do not have enough inventory.", items))
    error = ReservationFailed(f"The Inventory Service refused the request ({reply.status}).", _details(reply))
    raise Failed(REJECTED, error)


def _raise_unless_about_the_order(reply: Reply) -> None:
    status, answered = reply.status, f"The Inventory Service answered {reply.status}"
    if status in ABOUT_THE_ORDER or (status == 400 and has_error_code(reply.content)):
        return
    if status == TOO_MANY_REQUESTS:
        raise Failed(THROTTLED, _throttled(reply))
    if 400 <= status < 500 and status != REQUEST_TIMEOUT:
        raise Failed(REFUSED_US, InventoryRefusesUs(f"{answered}: it refuses this service.", _details(reply)))
    error = InventoryUnavailable(f"{answered}.", _details(reply), retry_after_seconds=reply.retry_after_seconds)
    raise Failed(UNAVAILABLE, error)


def _throttled(reply: Reply) -> InventoryThrottled:
    message = "The Inventory Service answered 429: it takes fewer calls a second."
    return InventoryThrottled(message, _details(reply), was_sent=True, retry_after_seconds=reply.retry_after_seconds)


def _unreadable(reply: Reply, reason: UnbelievableReply) -> InventoryUnavailable:
    return InventoryUnavailable(f"The Inventory Service's answer cannot be used: {reason}.", _details(reply))


def _details(reply: Reply, reason: str | None = None) -> dict[str, object]:
    details: dict[str, object] = {"status": reply.status, **stated_reason(reply.content)}
    return details if reason is None else {**details, "reason": reason}


def _no_reply(why: NoReply) -> ApiError:
    if why.outcome == TIMEOUT:
        message = "The Inventory Service took too long to answer."
        return InventoryTimeout(message, may_have_run=why.may_have_run, is_ours=why.is_ours)
    message = "The Inventory Service cannot be reached."
    return InventoryUnavailable(message, may_have_run=why.may_have_run, is_ours=why.is_ours)


class InventoryLookup(Protocol):
    """Port: the inventory status of one order."""

    async def find(self, order_id: str) -> LookupResult:
        """Return the inventory status, or the reason why it is unknown. Never raises for an unavailable service."""


class HTTPInventoryLookup:
    """InventoryLookup over ``GET /api/v1/inventory/reservations/{orderId}``."""

    def __init__(
        self,
        transport: Transport,
        base_url: str,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        pacer: Pacer | None = None,
        **options: Unpack[ExchangeOptions],
    ) -> None:
        """``pacer``: the pacer of the inventory calls. While it limits calls, no lookup is sent."""
        self._pacer = pacer
        self._exchange = Exchange(transport, base_url, no_reply=_no_reply, **options)
        self._monotonic = monotonic
        self._silent_until = float("-inf")

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
