"""The envelope around every event: building it, and reading the ones that others send.

Source: seed 5 and 3.2; contract section 5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.domain import events
from services.domain.events import OutgoingEvent, timestamp

DATA_VERSION = "1.0"
SOURCE = "order-service"
MAX_EVENT_ID = 128
"""Characters of an event id that is kept as it is; a longer one is kept as its SHA-256."""


class PoisonEvent(Exception):
    """The event can never be handled: unreadable, of an unknown type, or lacking a field."""


@dataclass(frozen=True, slots=True)
class IncomingEvent:
    """One event of another service, read and checked."""

    event_id: str
    type: str
    occurred_at: datetime | None
    data: dict[str, Any]


def encode(event: OutgoingEvent, event_id: str, at: datetime, *, source: str = SOURCE) -> bytes:
    """The JSON to publish. The fields of ``order.*`` stand in ``data`` and at the top level."""
    envelope: dict[str, Any] = {
        "id": event_id,
        "type": event.type,
        "source": source,
        "dataVersion": DATA_VERSION,
        "timestamp": timestamp(at),
        "correlationId": event.order_id,
        "data": event.data,
    }
    if event.type.startswith("order."):
        envelope |= event.data
    return orjson.dumps(envelope)


class _Model(BaseModel):
    # Other services may add fields; a number where text belongs is still a mistake.
    model_config = ConfigDict(extra="allow", strict=True)


Identifier = Field(min_length=1, max_length=128)


class _Confirmed(_Model):
    orderId: str = Identifier
    reservationId: str = Identifier


class _ConfirmationFailed(_Confirmed):
    reason: str


class _Stock(_Model):
    productId: str = Identifier
    variantId: str = Identifier
    availableQuantity: int | None = None
    threshold: int | None = None


SCHEMAS: dict[str, type[_Model]] = {
    events.CONFIRMED: _Confirmed,
    events.CONFIRMATION_FAILED: _ConfirmationFailed,
    events.OUT_OF_STOCK: _Stock,
    events.LOW_STOCK: _Stock,
    events.BACK_IN_STOCK: _Stock,
}


def decode(
    payload: bytes,
    *,
    subject: str,
    headers: Mapping[str, str] | None,
    fallback_id: str,
    schemas: Mapping[str, type[BaseModel]] = SCHEMAS,
) -> IncomingEvent:
    """Read an envelope or a flat event; raises PoisonEvent with the reason.

    The id is the envelope's, else the ``Nats-Msg-Id`` header, else ``fallback_id``, which must
    name the message's place in its stream so that a redelivery has the same id.
    """
    try:
        body = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise PoisonEvent(f"not JSON: {error}") from None
    if not isinstance(body, dict):
        raise PoisonEvent(f"not a JSON object but {type(body).__name__}")
    nested = body.get("data")
    data = nested if isinstance(nested, dict) else body
    event_type = body.get("type") or body.get("eventType") or subject
    if event_type != subject or event_type not in schemas:
        raise PoisonEvent(f"type {event_type!r} is not one that belongs on subject {subject!r}")
    try:
        schemas[event_type].model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise PoisonEvent(f"{event_type}: field {field}: {first['msg']}") from None
    event_id = body.get("id") or (headers or {}).get("Nats-Msg-Id") or fallback_id
    return IncomingEvent(_bounded(str(event_id)), event_type, _time(data, body), data)


def _bounded(event_id: str) -> str:
    # Cutting would make one event of two that differ in their tails only.
    return event_id if len(event_id) <= MAX_EVENT_ID else hashlib.sha256(event_id.encode()).hexdigest()


def _time(data: dict[str, Any], body: dict[str, Any]) -> datetime | None:
    for value in (data.get("confirmedAt"), data.get("timestamp"), body.get("timestamp")):
        if isinstance(value, str):
            try:
                at = datetime.fromisoformat(value)
            except ValueError:
                continue
            if at.tzinfo is not None:
                return at
    return None
