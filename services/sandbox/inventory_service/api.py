"""The HTTP API: the three calls of the contract, and endpoints for people and audits.

Source: requirements 2.1 and 3.1.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Annotated, Any, TypeVar

from pydantic import Field
from sqlalchemy import Connection
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.base.context import HEADER, begin
from services.domain.external import Identifier
from services.domain.orders.model import Line, aggregated
from services.http_server.envelope import (
    Clock,
    Endpoint,
    Rejection,
    RequestBody,
    answer,
    application,
    query_int,
    read_body,
    refusal,
)
from services.sandbox.inventory_service import queries, stock
from services.sandbox.inventory_service.faults import Faults, FaultSettings, in_another_form
from services.sandbox.inventory_service.outbox import OutboxApi
from services.sandbox.inventory_service.reservations import Reservation
from services.sandbox.inventory_service.stock import (
    AdjustmentRefused,
    AlreadyConfirmed,
    InsufficientStock,
    RefusalReason,
    ReservationRefused,
)
from state.engine.database import Database
from state.engine.transactions import Transaction

T = TypeVar("T")

Quantity = Annotated[int, Field(ge=1, le=1_000_000)]
Health = Callable[[], Awaitable[dict[str, Any]]]


class ItemBody(RequestBody):
    productId: Identifier
    variantId: Identifier
    quantity: Quantity

    def line(self) -> Line:
        return Line(self.productId, self.variantId, self.quantity)


Items = Annotated[tuple[ItemBody, ...], Field(min_length=1, max_length=200, strict=False)]


class CheckBody(RequestBody):
    items: Items


class ReserveBody(RequestBody):
    orderId: Identifier
    items: Items
    expiresIn: Annotated[int, Field(ge=60, le=86_400)] = 1800
    """Seconds until the reservation expires."""
    metadata: Annotated[dict[str, Any], Field(default_factory=dict)]

    def user_id(self) -> str | None:
        user_id = self.metadata.get("userId")
        return str(user_id)[:128] if user_id is not None else None


class ReleaseBody(RequestBody):
    orderId: Identifier


class AdjustBody(RequestBody):
    productId: Identifier
    variantId: Identifier
    delta: Annotated[int, Field(ge=-1_000_000, le=1_000_000)]
    reason: Annotated[str, Field(min_length=1, max_length=200)]


class TrafficBody(RequestBody):
    """The wanted rate of the demo traffic, which polls this endpoint."""

    ordersPerSecond: Annotated[float | None, Field(ge=0, le=100, strict=False)] = None
    """None: the rate from the start of the traffic process."""


class InventoryApi:
    """The endpoints; each is one transaction on the service's own database."""

    def __init__(
        self, database: Database, clock: Clock, faults: Faults, *, health: Health, on_commit: Callable[[], None]
    ) -> None:
        self._database = database
        self._clock = clock
        self._faults = faults
        self._health = health
        self._on_commit = on_commit
        self._traffic = TrafficBody()

    def application(self) -> Starlette:
        """All routes of the service."""
        return application(
            [
                Route(
                    "/api/v1/inventory/check-availability", self._as_written(self.check_availability), methods=["POST"]
                ),
                Route("/api/v1/inventory/reserve", self._as_written(self.reserve), methods=["POST"]),
                Route("/api/v1/inventory/release", self._as_written(self.release), methods=["POST"]),
                Route("/api/v1/inventory/stock", self.list_stock, methods=["GET"]),
                Route("/api/v1/inventory/stock/adjust", self.adjust, methods=["POST"]),
                Route("/api/v1/inventory/reservations/{order_id:path}", self.show_reservation, methods=["GET"]),
                Route("/api/v1/inventory/ledger", self.show_ledger, methods=["GET"]),
                Route("/api/v1/sandbox/faults", self.show_faults, methods=["GET"]),
                Route("/api/v1/sandbox/faults", self.set_faults, methods=["PUT"]),
                Route("/api/v1/sandbox/traffic", self.show_traffic, methods=["GET"]),
                Route("/api/v1/sandbox/traffic", self.set_traffic, methods=["PUT"]),
                *OutboxApi(self._database, self._clock, self._on_commit).routes(),
                Route("/healthz", self.healthz, methods=["GET"]),
            ],
            self._clock,
        )

    def _as_written(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint with its answers in the form that the active faults select."""

        async def answered(request: Request) -> Response:
            try:
                response = await endpoint(request)
            except Rejection as rejection:
                response = refusal(rejection, self._clock())
            return in_another_form(response) if self._faults.settings.otherForm else response

        return answered

    async def check_availability(self, request: Request) -> Response:
        body = await read_body(request, CheckBody)
        await self._faults.strike()
        now = self._clock()
        lines = aggregated(item.line() for item in body.items)
        found = await self._database.read(lambda connection: queries.availability(connection, lines, now))
        if self._faults.settings.soldOut:
            found = [(line, 0) for line, _ in found]
        items = [_quantities(line, free) | {"available": free >= line.quantity} for line, free in found]
        return answer({"available": all(item["available"] for item in items), "items": items}, now)

    async def reserve(self, request: Request) -> Response:
        body = await read_body(request, ReserveBody)
        await self._faults.strike()
        now = self._clock()
        lines = tuple(item.line() for item in body.items)
        transaction = partial(
            stock.reserve,
            order_id=body.orderId,
            lines=lines,
            user_id=body.user_id(),
            expires_in=timedelta(seconds=body.expiresIn),
            now=now,
            is_sold_out=self._faults.settings.soldOut,
        )
        try:
            reservation = await self._write(request, transaction)
        except InsufficientStock as error:
            raise _insufficient(body.orderId, error) from error
        except ReservationRefused as error:
            raise _refused(body.orderId, error) from error
        return answer(_reserved(reservation, aggregated(lines)), now)

    async def release(self, request: Request) -> Response:
        body = await read_body(request, ReleaseBody)
        await self._faults.strike()
        now = self._clock()
        try:
            released = await self._write(
                request, lambda connection: stock.release(connection, order_id=body.orderId, now=now)
            )
        except AlreadyConfirmed as error:
            message = f"Order {body.orderId} is confirmed: its stock was deducted and is not held any more."
            raise Rejection(409, "ALREADY_CONFIRMED", message, {"orderId": body.orderId}) from error
        reservation_id = released.reservation_id if released else None
        return answer({"orderId": body.orderId, "reservationId": reservation_id, "released": released is not None}, now)

    async def list_stock(self, _request: Request) -> Response:
        now = self._clock()
        items = await self._database.read(lambda connection: queries.stock_list(connection, now))
        return answer({"items": items}, now)

    async def adjust(self, request: Request) -> Response:
        body = await read_body(request, AdjustBody)
        if body.delta == 0:
            raise Rejection(
                400, "VALIDATION_ERROR", "delta: 0 changes nothing", {"field": "delta", "value": 0, "allowed": "not 0"}
            )
        now = self._clock()

        def transaction(connection: Connection) -> dict[str, Any] | None:
            stock.adjust(
                connection,
                product_id=body.productId,
                variant_id=body.variantId,
                delta=body.delta,
                reason=body.reason,
                now=now,
            )
            return queries.stock_item(connection, body.productId, body.variantId, now)

        try:
            item = await self._write(request, transaction)
        except AdjustmentRefused as error:
            raise _not_adjusted(body, error) from error
        return answer(item, now)

    async def show_reservation(self, request: Request) -> Response:
        order_id = request.path_params["order_id"]
        now = self._clock()
        view = await self._database.read(lambda connection: queries.reservation_view(connection, order_id, now))
        if view is None:
            message = f"Nothing is known of order {order_id!r}."
            raise Rejection(404, "RESERVATION_NOT_FOUND", message, {"orderId": order_id})
        return answer(view, now)

    async def show_ledger(self, request: Request) -> Response:
        limit = query_int(request, "limit", default=100, low=1, high=1000)
        items = await self._database.read(lambda connection: queries.ledger_page(connection, limit))
        return answer({"items": items}, self._clock())

    async def show_faults(self, _request: Request) -> Response:
        return answer(self._faults.settings.model_dump(), self._clock())

    async def set_faults(self, request: Request) -> Response:
        self._faults.settings = await read_body(request, FaultSettings)
        return await self.show_faults(request)

    async def show_traffic(self, _request: Request) -> Response:
        return answer(self._traffic.model_dump(), self._clock())

    async def set_traffic(self, request: Request) -> Response:
        self._traffic = await read_body(request, TrafficBody)
        return await self.show_traffic(request)

    async def _write(self, request: Request, transaction: Transaction[T]) -> T:
        # Events that the request causes belong to its trace.
        begin(request.headers.get(HEADER))
        result = await self._database.write(transaction)
        self._on_commit()
        return result

    async def healthz(self, _request: Request) -> Response:
        return answer({"state": "ok"} | await self._health(), self._clock())


def _quantities(line: Line, available: int) -> dict[str, Any]:
    return {
        "productId": line.product_id,
        "variantId": line.variant_id,
        "requestedQuantity": line.quantity,
        "availableQuantity": available,
    }


def _reserved(reservation: Reservation, lines: tuple[Line, ...]) -> dict[str, Any]:
    return {
        "reservationId": reservation.reservation_id,
        "orderId": reservation.order_id,
        "items": [line.wire() | {"reserved": True} for line in lines],
        "expiresAt": reservation.expires_at,
    }


def _insufficient(order_id: str, error: InsufficientStock) -> Rejection:
    items = [_quantities(line, available) for line, available in error.short]
    message = f"{len(items)} of the products of order {order_id} are short of stock."
    return Rejection(409, "INSUFFICIENT_INVENTORY", message, {"items": items})


_REFUSALS = {
    RefusalReason.RELEASED: "was released or cancelled and holds no stock again",
    RefusalReason.OTHER_LINES: "holds other lines than these already",
}


def _refused(order_id: str, error: ReservationRefused) -> Rejection:
    message = f"Order {order_id} {_REFUSALS[error.reason]}."
    return Rejection(422, "RESERVATION_FAILED", message, {"orderId": order_id, "reason": error.reason.value})


def _not_adjusted(body: AdjustBody, error: AdjustmentRefused) -> Rejection:
    key = {"productId": body.productId, "variantId": body.variantId}
    if error.on_hand is None:
        return Rejection(404, "PRODUCT_NOT_FOUND", "No such product is on the shelves.", key)
    details = key | {"onHand": error.on_hand, "reserved": error.reserved, "delta": body.delta}
    return Rejection(409, "STOCK_RESERVED", f"Only {error.on_hand - (error.reserved or 0)} are free.", details)
