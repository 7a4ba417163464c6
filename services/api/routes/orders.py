"""Routes for orders: place, list, read, cancel, return. Source: contract 3."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, Self

import orjson
from fastapi import APIRouter
from pydantic import AfterValidator, BeforeValidator, Field
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from services.api.envelope import STATUS_OF, Answer, written, wrong_value
from services.api.models import (
    ITEMS_BODY_BYTES,
    Limit,
    Page,
    Query,
    RequestBody,
    Resource,
    Text,
    Timestamp,
    one_of,
    whole_float,
)
from services.api.routing import ApiRoute, DirectRoute, OrderId, OrderService, Parameters, Service, Trader, errors
from services.domain.errors import ApiError, InvalidState, ReservationFailed, existing
from services.domain.external import (
    MAX_ID_LENGTH,
    CanonicalIdentifier,
    Identifier,
    NotAllowed,
    bounded_json,
    canonical_id,
    identifier,
    utc_time,
)
from services.domain.orders.changes import AFTER_PAYMENT
from services.domain.orders.model import InventoryStatus, Line, Order, OrderStatus, PaymentStatus, ReviewReason
from services.http_server.envelope import utf8_header
from services.orders.cancellation import ReturnItems
from services.orders.placement import PlaceOrder
from state import order_search, orders, reviews
from state.order_search import OrderQuery
from state.reviews import Review

ORDERS, ORDER = "/api/v1/orders", "/api/v1/orders/{orderId}"

MAX_METADATA_BYTES = 16_384
MAX_ITEMS_BYTES = 115_000
"""Largest size of all items as JSON in UTF-8. An event contains the items twice, and the broker takes 256 KB.

200 lines fit unless most characters of their ids take three bytes or more.
"""

MAX_ITEM_BYTES = 2 * MAX_ID_LENGTH * 4 + 64
"""Largest size of one item as JSON: two ids with four bytes a character, field names and quantity."""

PLACED_AT_ONCE = 3
"""Version of an order that was received, reserved and placed without any other change."""

router = APIRouter(route_class=ApiRoute, tags=["orders"])
direct = APIRouter(route_class=DirectRoute, tags=["orders"])


class ItemBody(RequestBody):
    productId: Identifier
    variantId: Identifier
    quantity: Annotated[int, Field(strict=True, ge=1, le=1_000_000), BeforeValidator(whole_float)]


def _publishable(items: list[ItemBody]) -> list[ItemBody]:
    if len(items) * MAX_ITEM_BYTES <= MAX_ITEMS_BYTES:
        return items
    if len(orjson.dumps([item.model_dump() for item in items])) > MAX_ITEMS_BYTES:
        raise NotAllowed(f"items of at most {MAX_ITEMS_BYTES} bytes as JSON")
    return items


Items = Annotated[list[ItemBody], Field(min_length=1, max_length=200), AfterValidator(_publishable)]
Metadata = Annotated[dict[str, Any], BeforeValidator(lambda value: bounded_json(value, MAX_METADATA_BYTES))]


class PlaceOrderBody(RequestBody):
    max_bytes: ClassVar[int] = ITEMS_BODY_BYTES

    orderId: CanonicalIdentifier | None = None
    userId: CanonicalIdentifier
    customerPriority: Literal["standard", "high"] = "standard"
    items: Items
    metadata: Metadata | None = None


class CancelBody(RequestBody):
    reason: Text = "CUSTOMER_CANCELLED"


class ReturnBody(RequestBody):
    max_bytes: ClassVar[int] = ITEMS_BODY_BYTES

    returnId: CanonicalIdentifier | None = None
    items: Items
    reason: Text
    restockable: bool = True


class OrdersQuery(Query):
    status: OrderStatus | None = None
    inventoryStatus: InventoryStatus | None = None
    reviewOpen: bool | None = None
    userId: CanonicalIdentifier | None = None
    limit: Limit = 50
    cursor: Annotated[str | None, Field(max_length=1000)] = None


class OrderLine(Resource):
    product_id: str
    variant_id: str
    quantity: int
    returned_quantity: Annotated[int, Field(validation_alias="returned")]


class CaseOfOrder(Resource):
    review_id: str
    reason: Annotated[str, one_of(*ReviewReason)]
    state: Annotated[str, one_of("OPEN", "RESOLVED")]


class OrderResource(Resource):
    order_id: str
    user_id: str
    customer_priority: Annotated[str, one_of("standard", "high")]
    status: Annotated[str, one_of(*OrderStatus)]
    inventory_status: Annotated[str, one_of(*InventoryStatus)]
    payment_status: Annotated[str, one_of(*PaymentStatus)]
    reservation_id: str | None
    reservation_expires_at: Timestamp | None
    confirmed_at: Timestamp | None
    items: Annotated[list[OrderLine], Field(validation_alias="lines")]
    reviews: list[CaseOfOrder] = Field(default_factory=list)
    failure: dict[str, Any] | None
    """The error that ended the order: code, message, details, retryable."""
    metadata: dict[str, Any] | None
    created_at: Timestamp
    updated_at: Timestamp
    version: int

    @classmethod
    def with_cases(cls, order: Order, cases: Sequence[Review]) -> Self:
        """Return the order with its review cases."""
        return cls.of(order, reviews=[CaseOfOrder.of(case) for case in cases])


class OrderPage(Page[OrderResource]):
    next_cursor: Annotated[str | None, Field(serialization_alias="nextCursor")]
    """The cursor of the next page; null on the last page. A page that is not the last may have fewer items than its
    limit, or none: a search for rare orders ends a page after a bounded number of rows."""


class ReturnResource(Resource):
    return_id: str
    order: OrderResource


class RecordedFailure(ApiError):
    """The stored error that ended an order."""

    def __init__(self, order: Order, failure: dict[str, Any]) -> None:
        details = failure.get("details")
        known = details if isinstance(details, dict) else {}
        super().__init__(str(failure.get("message", "")), {**known, "orderId": order.order_id})
        code = str(failure.get("code"))
        self.code = code if code in STATUS_OF else ReservationFailed.code  # type: ignore[misc]
        self.retryable = bool(failure.get("retryable"))  # type: ignore[misc]


@direct.post(
    ORDERS,
    summary="Place an order",
    status_code=201,
    response_model=Answer[OrderResource],
    responses=errors(402, 408, 409, 422, 503) | {202: {"model": Answer[OrderResource]}},
    openapi_extra={
        "parameters": [{"name": "Idempotency-Key", "in": "header", "required": False, "schema": {"type": "string"}}]
    },
)
async def place_order(request: Request, body: PlaceOrderBody, caller: Trader, service: Service) -> Response:
    key = _idempotency_key(utf8_header(request, "idempotency-key"))
    order = await service.use_cases.placement.place(
        PlaceOrder(
            user_id=body.userId,
            lines=_lines(body.items),
            customer_priority=body.customerPriority,
            order_id=body.orderId,
            metadata=body.metadata,
            idempotency_key=key,
            caller=caller.name,
        )
    )
    if order.status == OrderStatus.REJECTED and order.failure is not None:
        raise RecordedFailure(order, order.failure)
    if order.status == OrderStatus.CANCELLED:
        raise InvalidState("The order was cancelled.", {"orderId": order.order_id, "status": order.status})
    is_placed = order.status in AFTER_PAYMENT or order.status in (OrderStatus.PARTIALLY_RETURNED, OrderStatus.RETURNED)
    # A new standard order that was placed without other changes has no cases, so most requests save a query.
    is_plain = order.version == PLACED_AT_ONCE and order.status == OrderStatus.PLACED and not order.is_high_priority
    cases = () if is_plain else await _cases(service, order.order_id)
    return written(OrderResource.with_cases(order, cases), 201 if is_placed else 202)


@router.get(ORDERS, summary="Orders, newest first")
async def list_orders(query: Parameters[OrdersQuery], service: Service) -> OrderPage:
    return await service.database.read(page_reader(query))


@router.get(ORDER, summary="One order")
async def get_order(order_id: OrderId, service: Service) -> OrderResource:
    def read(connection: Connection) -> OrderResource:
        order = existing(orders.get(connection, order_id), "order", order_id)
        return OrderResource.with_cases(order, reviews.of_orders(connection, [order_id])[order_id])

    return await service.database.read(read)


@router.post(f"{ORDER}/cancel", summary="Cancel an order", responses=errors(409))
async def cancel_order(order_id: OrderId, body: CancelBody, caller: Trader, service: Service) -> OrderResource:
    await service.use_cases.cancellation.cancel(order_id, body.reason, actor=caller.name, by_person=caller.is_person)
    return await get_order(order_id, service)


@router.post(f"{ORDER}/return", summary="Return items of an order", responses=errors(409, 422))
async def return_items(order_id: OrderId, body: ReturnBody, caller: Trader, service: Service) -> ReturnResource:
    command = ReturnItems(
        order_id=order_id,
        lines=_lines(body.items),
        reason=body.reason,
        restockable=body.restockable,
        return_id=body.returnId,
    )
    order, return_id = await service.use_cases.returns.take_back(command, actor=caller.name, by_person=caller.is_person)
    cases = await _cases(service, order.order_id)
    return ReturnResource(return_id=return_id, order=OrderResource.with_cases(order, cases))


def page_reader(query: OrdersQuery) -> Callable[[Connection], OrderPage]:
    """Return a function that reads the page. Raises ValidationFailed for a malformed cursor."""
    before = _cursor(query.cursor)
    search = OrderQuery(
        user_id=query.userId or "",
        statuses=(query.status,) if query.status else (),
        inventory_statuses=(query.inventoryStatus,) if query.inventoryStatus else (),
        flagged=query.reviewOpen is True,
        unflagged=query.reviewOpen is False,
    )

    def read(connection: Connection) -> OrderPage:
        found = order_search.find(connection, search, limit=query.limit, before=before)
        cases = reviews.of_orders(connection, [order.order_id for order in found.orders])
        items = [OrderResource.with_cases(order, cases[order.order_id]) for order in found.orders]
        # A filter without an index searches only a part of the orders. The next page continues after that part.
        last = found.orders[-1] if found.has_more else None
        end = (last.created_at, last.order_id) if last else found.frontier
        return OrderPage(items=items, next_cursor=_next_cursor(*end) if end else None)

    return read


def _next_cursor(created_at: datetime, order_id: str) -> str:
    return urlsafe_b64encode(f"{created_at.isoformat()} {order_id}".encode()).decode().rstrip("=")


def _cursor(cursor: str | None) -> tuple[datetime, str] | None:
    if cursor is None:
        return None
    try:
        at, _, order_id = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().partition(" ")
        return utc_time(at), identifier(order_id)
    except (ValueError, NotBase64):
        raise wrong_value("cursor", cursor, "the nextCursor of an earlier answer") from None


def _idempotency_key(header: str | None) -> str | None:
    if header is None:
        return None
    try:
        return canonical_id(header)
    except NotAllowed as error:
        raise wrong_value("Idempotency-Key", header, str(error)) from None


def _lines(items: Sequence[ItemBody]) -> tuple[Line, ...]:
    return tuple(Line(item.productId, item.variantId, item.quantity) for item in items)


async def _cases(service: OrderService, order_id: str) -> Sequence[Review]:
    return (await service.database.read(lambda c: reviews.of_orders(c, [order_id])))[order_id]
