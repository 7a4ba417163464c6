"""Events to publish, stored in the transaction that caused them, and the endpoints of the undeliverable ones.

The table has the columns of Holdfast's outbox, so that state.outbox and the relay of services.messaging serve it too.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import uuid4

from sqlalchemy import Connection, delete, insert, select, tuple_
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.base.context import current_traceparent
from services.domain.external import INT64, NotAllowed, whole_number
from services.domain.orders.events import OutgoingEvent
from services.http_server.envelope import Clock, Rejection, answer, query_int, wire
from services.messaging import envelope
from services.sandbox.inventory_service.tables import inbox, outbox
from state import outbox as stored
from state.engine.database import Database

SOURCE = "inventory-service"

PUBLISHED_KEPT = timedelta(days=1)
HANDLED_KEPT = timedelta(days=8)
"""Longer than the streams keep messages, so that every replayed event is still in the inbox."""

_SHOWN = ("id", "event_id", "subject", "order_id", "attempts", "undeliverable_at", "reason")

Action = Callable[[Connection, int], None]


def add(connection: Connection, event: OutgoingEvent, now: datetime) -> None:
    """Store one event with a new id and the current traceparent; a repeated answer is a new event."""
    event_id = str(uuid4())
    payload = envelope.encode(event, event_id, now, source=SOURCE)
    row = {"event_id": event_id, "subject": event.type, "order_id": event.order_id, "payload": payload}
    connection.execute(insert(outbox), row | {"created_at": now, "traceparent": current_traceparent()})


def prune(connection: Connection, now: datetime, limit: int = 500) -> None:
    """Delete a batch of old published and old handled events."""
    for table, at, kept in (
        (outbox, outbox.c.published_at, PUBLISHED_KEPT),
        (inbox, inbox.c.handled_at, HANDLED_KEPT),
    ):
        key = tuple_(*table.primary_key)
        old = select(*table.primary_key).where(at < now - kept).limit(limit)
        connection.execute(delete(table).where(key.in_(old)))


class OutboxApi:
    """The endpoints of undeliverable events: list, retry, discard. Each is one transaction."""

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
        found = await self._database.read(lambda connection: stored.undeliverable(connection, limit))
        return answer({"items": [wire(event, _SHOWN) for event in found]}, self._clock())

    async def retry(self, request: Request) -> Response:
        """Publish the event again; an event that is still too large returns to the list."""
        return await self._settle(request, stored.retry)

    async def discard(self, request: Request) -> Response:
        """Discard the event; no consumer will receive it."""
        return await self._settle(request, stored.discard)

    async def _settle(self, request: Request, action: Action) -> Response:
        written = request.path_params["id"]
        not_found = Rejection(
            404, "OUTBOX_EVENT_NOT_FOUND", "No such event waits for a person.", {"outboxEventId": written[:128]}
        )
        try:
            row_id = whole_number(written, 1, INT64[1])
        except NotAllowed:
            raise not_found from None

        def transaction(connection: Connection) -> None:
            if stored.get_undeliverable(connection, row_id) is None:
                raise not_found
            action(connection, row_id)

        await self._database.write(transaction)
        self._on_commit()
        return answer({"id": row_id}, self._clock())
