"""The Inventory Service's replies, as far as we rely on them.

Strict in what we use, blind to what others add. Source: seed 3.1.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from services.domain.order import Line
from services.inventory.gateway import Availability, LineAvailability, Reservation

Data = TypeVar("Data")
ShortLine = dict[str, Any]
"""``{productId, variantId, requestedQuantity, availableQuantity}``, None where nothing was said."""


class UnbelievableReply(Exception):
    """A 2xx reply that does not say what was asked; the message gives the reason."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class _Reply(_Model, Generic[Data]):
    success: bool = True
    data: Data | None = None


class _AvailabilityLine(_Model):
    productId: str
    variantId: str
    available: bool
    requestedQuantity: int
    availableQuantity: int


class _Availability(_Model):
    available: bool
    items: list[_AvailabilityLine]


class _ReservedLine(_Model):
    productId: str
    variantId: str
    quantity: int
    reserved: bool


class _Reservation(_Model):
    reservationId: str = Field(min_length=1, max_length=128)
    orderId: str
    items: list[_ReservedLine]
    expiresAt: AwareDatetime


_AVAILABILITY = _Reply[_Availability]
_RESERVATION = _Reply[_Reservation]
_ACKNOWLEDGEMENT = _Reply[Any]


def read_availability(content: bytes, lines: tuple[Line, ...]) -> Availability:
    """The answer to a check: available only if the whole and every line are; raises UnbelievableReply."""
    data = _data(_read(_AVAILABILITY, content))
    wanted = _quantities(lines)
    answers = tuple(_line_availability(item, wanted) for item in data.items)
    return Availability(data.available and all(answer.available for answer in answers), answers)


def read_reservation(content: bytes, order_id: str, lines: tuple[Line, ...]) -> Reservation:
    """The hold on all lines of this order; raises UnbelievableReply for another or a partial one."""
    data = _data(_read(_RESERVATION, content))
    if data.orderId != order_id:
        raise UnbelievableReply(f"the reservation belongs to order {data.orderId!r}")
    if not all(item.reserved for item in data.items) or not _covers(data.items, lines):
        raise UnbelievableReply("not every line was reserved")
    return Reservation(data.reservationId, data.expiresAt)


def read_acknowledgement(content: bytes) -> None:
    """An empty 2xx body acknowledges; raises UnbelievableReply for one that denies or makes no sense."""
    if content:
        _read(_ACKNOWLEDGEMENT, content)


def short_lines(content: bytes, lines: tuple[Line, ...]) -> list[ShortLine]:
    """Every short line that a 409 names, wherever in the body it stands; empty when it names none."""
    wanted = _quantities(lines)
    named = [_short_line(item, wanted) for item in _items(_json(content)) if isinstance(item, dict)]
    return [line for line in named if not _is_enough(line)]


def stated_reason(content: bytes) -> dict[str, str]:
    """The code and message that an error body gives, for details; empty when it gives none."""
    error = _at(_json(content), "error")
    if not isinstance(error, dict):
        return {}
    return {key: error[key][:500] for key in ("code", "message") if isinstance(error.get(key), str)}


def _read(model: type[_Reply[Data]], content: bytes) -> _Reply[Data]:
    try:
        reply = model.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise UnbelievableReply(f"field {field}: {first['msg']}" if field else str(first["msg"])) from None
    if not reply.success:
        raise UnbelievableReply("success is false")
    return reply


def _data(reply: _Reply[Data]) -> Data:
    if reply.data is None:
        raise UnbelievableReply("field data: missing")
    return reply.data


def _quantities(lines: tuple[Line, ...]) -> dict[tuple[str, str], int]:
    return {line.sku: line.quantity for line in lines}


def _line_availability(item: _AvailabilityLine, wanted: dict[tuple[str, str], int]) -> LineAvailability:
    requested = wanted.get((item.productId, item.variantId), item.requestedQuantity)
    enough = item.available and item.availableQuantity >= requested
    return LineAvailability(item.productId, item.variantId, enough, requested, item.availableQuantity)


def _covers(items: list[_ReservedLine], lines: tuple[Line, ...]) -> bool:
    held: dict[tuple[str, str], int] = {}
    for item in items:
        sku = (item.productId, item.variantId)
        held[sku] = held.get(sku, 0) + item.quantity
    return all(held.get(line.sku, 0) >= line.quantity for line in lines)


def _json(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return None


def _at(body: Any, *path: str) -> Any:
    for key in path:
        body = body.get(key) if isinstance(body, dict) else None
    return body


def _items(body: Any) -> list[Any]:
    places = (("error", "details", "items"), ("error", "details"), ("details", "items"), ("details",), ("items",))
    found = (_at(body, *place) for place in (*places, ("data", "items")))
    return next((items for items in found if isinstance(items, list)), [])


def _short_line(item: dict[str, Any], wanted: dict[tuple[str, str], int]) -> ShortLine:
    product, variant = item.get("productId"), item.get("variantId")
    requested = _number(item, "requestedQuantity", "requested", "quantity")
    return {
        "productId": product,
        "variantId": variant,
        "requestedQuantity": wanted.get((str(product), str(variant))) if requested is None else requested,
        "availableQuantity": _number(item, "availableQuantity", "available"),
    }


def _number(item: dict[str, Any], *names: str) -> int | None:
    # A bool is an int to Python, and "available" may be either.
    return next((item[name] for name in names if type(item.get(name)) is int), None)


def _is_enough(line: ShortLine) -> bool:
    requested, available = line["requestedQuantity"], line["availableQuantity"]
    return requested is not None and available is not None and available >= requested
