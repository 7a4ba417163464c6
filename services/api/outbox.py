"""The routes about outgoing events that can never be published as they are."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from starlette.responses import Response

from services.api import schemas
from services.api.auth import OPERATE
from services.api.endpoints import Call, Endpoint
from services.api.http import success
from services.api.service import OrderService
from services.commands.undeliverable import DISCARDED, KIND, PENDING, UNDELIVERABLE, UndeliverableEvents
from services.domain.errors import NotFound
from services.domain.external import INT64, NotAllowed, whole_number
from state import outbox
from state.outbox import UndeliverableEvent


class OutboxHandlers:
    """One method per endpoint."""

    def __init__(self, service: OrderService) -> None:
        self._read = service.database.read
        self._events = UndeliverableEvents(service.database, service.clock)

    async def list_events(self, call: Call) -> Response:
        found = await self._read(lambda c: outbox.undeliverable(c, call.query.limit))
        return success({"items": [_view(event, UNDELIVERABLE) for event in found]})

    async def retry(self, call: Call) -> Response:
        event = await self._events.retry(_row_id(call), actor=call.caller.name, reason=call.body.reason)
        return success(_view(event, PENDING))

    async def discard(self, call: Call) -> Response:
        event = await self._events.discard(_row_id(call), actor=call.caller.name, reason=call.body.reason)
        return success(_view(event, DISCARDED))


def outbox_endpoints(handlers: OutboxHandlers) -> list[Endpoint]:
    """The endpoints, in the table's form."""
    every, one = "/api/v1/outbox", "/api/v1/outbox/{id}"
    view: dict[int, type[BaseModel] | None] = {200: schemas.OutboxEventView}
    return [
        Endpoint(
            "GET",
            every,
            "Events that can never be published as they are, oldest first",
            handlers.list_events,
            view,
            query=schemas.OutboxQuery,
            is_list=True,
        ),
        Endpoint(
            "POST",
            f"{one}/retry",
            "Publish an undeliverable event again",
            handlers.retry,
            view,
            body=schemas.ReasonBody,
            errors=(409,),
            roles=OPERATE,
        ),
        Endpoint(
            "POST",
            f"{one}/discard",
            "Give an undeliverable event up",
            handlers.discard,
            view,
            body=schemas.ReasonBody,
            errors=(409,),
            roles=OPERATE,
        ),
    ]


def _row_id(call: Call) -> int:
    """The id in the path; what is no whole number is not found."""
    written = call.path("id")
    try:
        return whole_number(written, 1, INT64[1])
    except NotAllowed:
        raise NotFound(KIND, written) from None


def _view(event: UndeliverableEvent, state: str) -> dict[str, Any]:
    return {
        "id": event.id,
        "eventId": event.event_id,
        "subject": event.subject,
        "orderId": event.order_id,
        "payload": event.payload.decode("utf-8", "backslashreplace"),
        "payloadBytes": event.size,
        "payloadIsCut": len(event.payload) < event.size,
        "attempts": event.attempts,
        "state": state,
        "reason": event.reason,
        "createdAt": event.created_at,
        "undeliverableAt": event.undeliverable_at,
    }
