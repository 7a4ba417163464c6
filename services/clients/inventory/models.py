"""Models and readers of the replies of the Inventory Service.

They accept several forms (a whole number may be 5, 5.0 or "5", a UUID may have capitals, a BOM is skipped), check
ranges strictly, and ignore unknown fields. Results contain ids in the form of the order. Source: requirements 3.1.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from typing import Annotated, Any, Generic, TypeVar

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from services.clients.inventory.port import Availability, LineAvailability, Reservation
from services.domain.external import (
    Identifier,
    NotAllowed,
    UtcTime,
    WholeNumber,
    cut_text,
    id_key,
    is_same_id,
    whole_number,
)
from services.domain.orders.model import Line

Data = TypeVar("Data")
ShortLine = dict[str, Any]
"""``{productId, variantId, requestedQuantity, availableQuantity}``; None for a value that the reply lacks."""

Sku = tuple[str, str]
"""Product id and variant id in canonical form."""

MAX_CODE_LENGTH, MAX_MESSAGE_LENGTH = 100, 500
"""Characters of the code and of the message of an error body that are kept."""

MAX_REASON_LENGTH = 300
"""Characters of the reason why a reply is unusable."""


class UnbelievableReply(Exception):
    """A 2xx reply that is not usable; the message has the reason."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


class _Reply(_Model, Generic[Data]):
    success: bool = True
    data: Data | None = None


def _number_or_none(value: object) -> object:
    return None if value is None else whole_number(value)


OptionalNumber = Annotated[int | None, BeforeValidator(_number_or_none)]
"""A whole number; None where the value is null or absent."""


class _AvailabilityLine(_Model):
    productId: Identifier
    variantId: Identifier
    available: bool
    requestedQuantity: OptionalNumber = None
    availableQuantity: OptionalNumber = None


class _Availability(_Model):
    available: bool
    items: list[_AvailabilityLine] | None = None


class _ReservedLine(_Model):
    productId: Identifier
    variantId: Identifier
    quantity: WholeNumber
    reserved: bool


class _Reservation(_Model):
    reservationId: Identifier
    orderId: Identifier
    items: list[_ReservedLine]
    expiresAt: UtcTime


_AVAILABILITY = _Reply[_Availability]
_RESERVATION = _Reply[_Reservation]
_ACKNOWLEDGEMENT = _Reply[Any]


def read_availability(content: bytes, lines: tuple[Line, ...]) -> Availability:
    """Read the answer to a check. Raises UnbelievableReply.

    The order is available only if the reply and all its lines are available. ``available`` takes precedence
    over ``availableQuantity``: true with a quantity of 0 is a back order, true without a quantity is untracked stock.
    """
    data = _data(_read(_AVAILABILITY, content))
    wanted = _by_sku(lines)
    answers = tuple(_line_availability(item, wanted[sku]) for item in data.items or () if (sku := _sku(item)) in wanted)
    return Availability(data.available and all(answer.available for answer in answers), answers)


def read_reservation(content: bytes, order_id: str, lines: tuple[Line, ...]) -> Reservation:
    """Read a reservation. Raises UnbelievableReply when it belongs to another order or lacks order lines."""
    data = _data(_read(_RESERVATION, content))
    if not is_same_id(data.orderId, order_id):
        raise UnbelievableReply(f"the reservation belongs to order {data.orderId!r}")
    if not all(item.reserved for item in data.items) or not _covers(data.items, lines):
        raise UnbelievableReply("not every line was reserved")
    return Reservation(data.reservationId, data.expiresAt)


def read_acknowledgement(content: bytes) -> None:
    """Check an acknowledgement, which may be empty. Raises UnbelievableReply for a denial or an invalid body."""
    if content.removeprefix(codecs.BOM_UTF8).strip():
        _read(_ACKNOWLEDGEMENT, content)


def short_lines(content: bytes, lines: tuple[Line, ...]) -> list[ShortLine]:
    """Return the short lines of this order that a 409 lists anywhere in its body, each once.

    Lines that the order does not have are left out, because a reply may list thousands.
    """
    wanted = _by_sku(lines)
    named: dict[Sku, ShortLine] = {}
    for item in _items(_json(content)):
        sku = _named_sku(item)
        if sku is not None and sku in wanted and sku not in named:
            line = _short_line(item, wanted[sku])
            if not _is_enough(line):
                named[sku] = line
    return list(named.values())


def stated_reason(content: bytes) -> dict[str, str]:
    """Return the shortened ``code`` and ``message`` of an error body; empty if the body has neither."""
    body = _json(content)
    error = _at(body, "error")
    stated = error if isinstance(error, dict) else body if isinstance(body, dict) else {}
    lengths = (("code", MAX_CODE_LENGTH), ("message", MAX_MESSAGE_LENGTH))
    return {key: cut_text(stated[key], length) for key, length in lengths if isinstance(stated.get(key), str)}


def has_error_code(content: bytes) -> bool:
    """Whether an error body comes from the service: ``{"error": {"code": ...}}`` or ``{"code": ...}``.

    Proxies also answer 400, but with HTML, text or a message without a code.
    """
    return bool(stated_reason(content).get("code"))


def parsed(content: bytes) -> Any:
    """Parse the JSON of a reply, with or without a BOM. Raises UnbelievableReply."""
    try:
        return orjson.loads(content.removeprefix(codecs.BOM_UTF8))
    except orjson.JSONDecodeError as error:
        raise UnbelievableReply(f"Invalid JSON: {error}"[:MAX_REASON_LENGTH]) from None


def _read(model: type[_Reply[Data]], content: bytes) -> _Reply[Data]:
    try:
        reply = model.model_validate(parsed(content))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = ".".join(map(str, first["loc"]))
        reason = f"field {field}: {first['msg']}" if field else str(first["msg"])
        raise UnbelievableReply(cut_text(reason, MAX_REASON_LENGTH)) from None
    if not reply.success:
        raise UnbelievableReply("success is false")
    return reply


def _data(reply: _Reply[Data]) -> Data:
    if reply.data is None:
        raise UnbelievableReply("field data: missing")
    return reply.data


def _by_sku(lines: tuple[Line, ...]) -> dict[Sku, Line]:
    return {(id_key(line.product_id), id_key(line.variant_id)): line for line in lines}


def _sku(item: _AvailabilityLine | _ReservedLine) -> Sku:
    return id_key(item.productId), id_key(item.variantId)


def _line_availability(item: _AvailabilityLine, line: Line) -> LineAvailability:
    # An answer for a smaller quantity counts only if the available quantity is enough for the line.
    asked = line.quantity if item.requestedQuantity is None else item.requestedQuantity
    answers_us = asked >= line.quantity or (item.availableQuantity or 0) >= line.quantity
    return LineAvailability(
        line.product_id, line.variant_id, item.available and answers_us, line.quantity, item.availableQuantity
    )


def _covers(items: list[_ReservedLine], lines: tuple[Line, ...]) -> bool:
    held: dict[Sku, int] = {}
    for item in items:
        sku = _sku(item)
        held[sku] = held.get(sku, 0) + item.quantity
    return all(held.get(sku, 0) >= line.quantity for sku, line in _by_sku(lines).items())


def _json(content: bytes) -> Any:
    try:
        return parsed(content)
    except UnbelievableReply:
        return None


def _at(body: Any, *path: str) -> Any:
    for key in path:
        body = body.get(key) if isinstance(body, dict) else None
    return body


def _items(body: Any) -> list[Any]:
    places = (("error", "details", "items"), ("error", "details"), ("details", "items"), ("details",), ("items",))
    found = (_at(body, *place) for place in (*places, ("data", "items")))
    return next((items for items in found if isinstance(items, list)), [])


def _named_sku(item: Any) -> Sku | None:
    product, variant = _at(item, "productId"), _at(item, "variantId")
    return (id_key(product), id_key(variant)) if isinstance(product, str) and isinstance(variant, str) else None


def _short_line(item: Mapping[str, Any], line: Line) -> ShortLine:
    requested = _number(item, "requestedQuantity", "requested", "quantity")
    return {
        "productId": line.product_id,
        "variantId": line.variant_id,
        "requestedQuantity": line.quantity if requested is None else requested,
        "availableQuantity": _number(item, "availableQuantity", "available"),
    }


def _number(item: Mapping[str, Any], *names: str) -> int | None:
    """Return the first whole number among the named values; a boolean is not a number."""
    for name in names:
        try:
            return whole_number(item.get(name))
        except NotAllowed:
            continue
    return None


def _is_enough(line: ShortLine) -> bool:
    requested, available = line["requestedQuantity"], line["availableQuantity"]
    return requested is not None and available is not None and available >= requested
