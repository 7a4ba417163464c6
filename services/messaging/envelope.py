"""The envelope around every event: writes it, and reads the events of other services.

Source: requirements 5 and 3.2; contract 5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Protocol

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from services.domain.external import (
    MAX_ID_LENGTH,
    CanonicalIdentifier,
    Identifier,
    NotAllowed,
    Text2000,
    WholeNumber,
    cut_text,
    id_key,
    read_json,
    utc_time,
)
from services.domain.orders import events
from services.domain.orders.events import OutgoingEvent, timestamp

DATA_VERSION = "1.0"
SOURCE = "order-service"

MAX_EVENT_BYTES = 2**20
"""Default limit of a NATS server for one message."""

_SHOWN = 100
"""Characters of a foreign value that an error message shows."""

_ENVELOPE = frozenset({"id", "type", "eventType", "source", "dataVersion", "timestamp", "correlationId"})
"""Fields that may differ when a sender repeats an event."""


class PoisonEvent(Exception):
    """The event can never be handled: it is unreadable, of an unknown type, or lacks a field."""


class NotYet(Exception):
    """The event refers to something that is not stored yet, so it is parked."""


@dataclass(frozen=True, slots=True)
class IncomingEvent:
    """One event of another service, after parsing and validation."""

    event_id: str
    type: str
    occurred_at: datetime | None
    data: dict[str, Any]
    """Its validated fields: numbers as numbers, times in UTC."""
    source: str = ""
    """The sender named in the event; empty when the event names none."""
    digest: str = ""
    """SHA-256 of the content. An event with the same id and another digest is another event."""


def encode(event: OutgoingEvent, event_id: str, at: datetime, *, source: str = SOURCE) -> bytes:
    """The JSON to publish. The fields of ``order.*`` events are in ``data`` and at the top level."""
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
    # Other services may add fields; a number in place of text is still an error.
    model_config = ConfigDict(extra="allow", strict=True)


def _event_time(value: object) -> datetime | None:
    """A time of the sender; None without a time zone, because such a time cannot be compared."""
    if isinstance(value, str) and len(value) <= _SHOWN:
        try:
            if datetime.fromisoformat(value).tzinfo is None:
                return None
        except ValueError:
            pass
    return None if value is None else utc_time(value)


class _Confirmed(_Model):
    orderId: Identifier
    reservationId: Identifier
    confirmedAt: Annotated[datetime | None, BeforeValidator(_event_time)] = None


class _ConfirmationFailed(_Confirmed):
    reason: Text2000


class _Stock(_Model):
    productId: CanonicalIdentifier
    variantId: CanonicalIdentifier
    availableQuantity: WholeNumber | None = None
    threshold: WholeNumber | None = None


SCHEMAS: dict[str, type[_Model]] = {
    events.CONFIRMED: _Confirmed,
    events.CONFIRMATION_FAILED: _ConfirmationFailed,
    events.OUT_OF_STOCK: _Stock,
    events.LOW_STOCK: _Stock,
    events.BACK_IN_STOCK: _Stock,
}


class Message(Protocol):
    """A message of a stream: a delivery, or its copy in the database."""

    @property
    def stream(self) -> str: ...
    @property
    def incarnation(self) -> str:
        """Creation time of the stream."""

    @property
    def stream_seq(self) -> int: ...
    @property
    def subject(self) -> str: ...
    @property
    def payload(self) -> bytes: ...
    @property
    def headers(self) -> dict[str, str]: ...


def decode_message(message: Message, schemas: Mapping[str, type[BaseModel]] = SCHEMAS) -> IncomingEvent:
    """Read the event in a message; raises PoisonEvent with the reason.

    An event without an id gets its place in the stream as id: equal at every redelivery, different in a recreated
    stream.
    """
    return decode(
        message.payload,
        subject=message.subject,
        headers=message.headers,
        fallback_id=f"{message.stream}:{message.incarnation}:{message.stream_seq}",
        schemas=schemas,
    )


def decode(
    payload: bytes,
    *,
    subject: str,
    headers: Mapping[str, str] | None,
    fallback_id: str,
    schemas: Mapping[str, type[BaseModel]] = SCHEMAS,
) -> IncomingEvent:
    """Read an envelope or a flat event; raises PoisonEvent with the reason.

    The id is that of the envelope, else the ``Nats-Msg-Id`` header, else ``fallback_id``.
    """
    try:
        body = read_json(payload, MAX_EVENT_BYTES)
    except NotAllowed as error:
        raise PoisonEvent(f"not JSON that can be used; allowed: {error}") from None
    if not isinstance(body, dict):
        raise PoisonEvent(f"not a JSON object but {type(body).__name__}")
    nested = body.get("data")
    data = nested if isinstance(nested, dict) else body
    event_type = body.get("type") or body.get("eventType") or subject
    if event_type != subject or event_type not in schemas:
        raise PoisonEvent(f"type {_shown(event_type)} is not one that belongs on subject {_shown(subject)}")
    checked = _checked(schemas[event_type], event_type, data)
    return IncomingEvent(
        event_id=_id("id", body.get("id"))
        or _id("Nats-Msg-Id", (headers or {}).get("Nats-Msg-Id"))
        or _key(fallback_id),
        type=event_type,
        occurred_at=_time(data, body),
        data=data | checked,
        source=_id("source", body.get("source")),
        digest=_digest(data | checked),
    )


def _checked(schema: type[BaseModel], event_type: str, data: dict[str, Any]) -> dict[str, Any]:
    try:
        return schema.model_validate(data).model_dump(mode="json", exclude_unset=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise PoisonEvent(f"{event_type}: field {cut_text(field, _SHOWN)}: {cut_text(first['msg'], 200)}") from None


def _id(field: str, value: object) -> str:
    """An id of the sender as text; empty when there is none."""
    if value is None or value == "":
        return ""
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return _key(str(value))
    raise PoisonEvent(f"field {field}: text is allowed, not {type(value).__name__}")


def _key(value: str) -> str:
    """The id for comparison and storage; an id that is too long or not printable becomes its SHA-256."""
    if len(value) <= MAX_ID_LENGTH and value.isprintable():
        return id_key(value)
    # Cutting would make two events one when their ids differ only at the end.
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()


def _digest(data: dict[str, Any]) -> str:
    content = {
        name: id_key(value) if isinstance(value, str) else value
        for name, value in data.items()
        if value is not None and name not in _ENVELOPE
    }
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _shown(value: object) -> str:
    return repr(cut_text(str(value), _SHOWN))


def _time(data: dict[str, Any], body: dict[str, Any]) -> datetime | None:
    for value in (data.get("confirmedAt"), data.get("timestamp"), body.get("timestamp")):
        try:
            at = _event_time(value)
        except NotAllowed:
            continue
        if at is not None:
            return at
    return None
