"""Undeliverable events of this service: listed, retried, discarded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Row
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.domain.external import INT64, NotAllowed, whole_number
from services.domain.orders.events import timestamp
from services.http_server.application import Clock, Rejection, answer, query_int
from services.sandbox.inventory_service import outbox
from state.engine.database import Database

Action = Callable[[Connection, int], bool]


class OutboxApi:
    """The endpoints; each is one transaction."""

    def __init__(self, database: Database, clock: Clock, on_commit: Callable[[], None]) -> None:
        self._database = database
        self._clock = clock
        self._on_commit = on_commit

    def routes(self) -> list[Route]:
        every, one = "/api/v1/sandbox/outbox", "/api/v1/sandbox/outbox/{id}"
        return [
            Route(every, self.show, methods=["GET"]),
            Route(f"{one}/retry", self.retry, methods=["POST"]),
            Route(f"{one}/discard", self.discard, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        limit = query_int(request, "limit", default=100, low=1, high=1000)
        found = await self._database.read(lambda connection: outbox.undeliverable(connection, limit))
        return answer({"items": [_view(row) for row in found]}, self._clock())

    async def retry(self, request: Request) -> Response:
        """Publish the event again; an event that is still too large returns to the list."""
        return await self._settle(request, outbox.retry)

    async def discard(self, request: Request) -> Response:
        """Discard the event; no consumer will receive it."""
        return await self._settle(request, outbox.discard)

    async def _settle(self, request: Request, action: Action) -> Response:
        written = request.path_params["id"]
        try:
            row_id = whole_number(written, 1, INT64[1])
        except NotAllowed:
            raise _not_found(written) from None
        if not await self._database.write(lambda connection: action(connection, row_id)):
            raise _not_found(written)
        self._on_commit()
        return answer({"id": row_id}, self._clock())


def _not_found(written: str) -> Rejection:
    message = "No such event waits for a person."
    return Rejection(404, "OUTBOX_EVENT_NOT_FOUND", message, {"outboxEventId": written[:128]})


def _view(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "eventId": row.event_id,
        "subject": row.subject,
        "orderId": row.order_id,
        "attempts": row.attempts,
        "undeliverableAt": timestamp(row.undeliverable_at),
        "reason": row.undeliverable_reason,
    }
