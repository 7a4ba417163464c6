"""Adapter of the Inventory Service over REST. It makes one attempt per call and reads replies by contract 4.

Source: requirements 3.1 and 5.
"""

from __future__ import annotations

import time
from functools import partial
from typing import NoReturn

from services.clients.http.exchange import Clock, Exchange, Failed, NoReply, Reply, Stopwatch, Transport
from services.clients.inventory.models import (
    UnbelievableReply,
    has_error_code,
    read_acknowledgement,
    read_availability,
    read_reservation,
    short_lines,
    stated_reason,
)
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
from services.domain.orders.model import Line
from services.tracing.port import Tracer

NOTHING_LEFT = (404, 409)
"""Statuses of a release when no reservation is left, which completes the release job."""

ABOUT_THE_ORDER = (409, 422)
"""Statuses 4xx that concern the order. A 400 with an error code of the Inventory Service also concerns the order."""

TOO_MANY_REQUESTS, REQUEST_TIMEOUT = 429, 408


class HTTPInventoryGateway:
    """InventoryGateway over HTTP. Each call makes one attempt, limited by ``timeout_seconds``."""

    def __init__(
        self,
        transport: Transport,
        base_url: str,
        *,
        timeout_seconds: float,
        reservation_ttl_seconds: int,
        clock: Clock,
        token: str | None = None,
        stopwatch: Stopwatch = time.perf_counter,
        tracer: Tracer | None = None,
    ) -> None:
        self._exchange = Exchange(
            transport,
            base_url,
            timeout_seconds=timeout_seconds,
            no_reply=_no_reply,
            clock=clock,
            stopwatch=stopwatch,
            headers={"Authorization": f"Bearer {token}"} if token else None,
            tracer=tracer,
        )
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
