"""The handlers of bulk operations: what runs, what ran, and the ledger of each. They are begun on the console."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection
from starlette.responses import Response

from services.api.endpoints import Call
from services.api.http import success
from services.api.service import OrderService
from services.domain.bulk import MAX_ITEMS
from services.domain.errors import NotFound
from state import bulk_jobs
from state.bulk_jobs import Item, Operation


class OperationHandlers:
    """Reading only."""

    def __init__(self, service: OrderService) -> None:
        self._service = service

    async def list_operations(self, call: Call) -> Response:
        limit = call.query.limit
        found = await self._service.database.read(lambda c: bulk_jobs.page(c, limit=limit))
        return success({"items": [_view(operation) for operation in found]})

    async def get_operation(self, call: Call) -> Response:
        operation_id = call.path("operationId")

        def read(connection: Connection) -> dict[str, Any]:
            operation = bulk_jobs.get(connection, operation_id)
            if operation is None:
                raise NotFound("operation", operation_id)
            items = bulk_jobs.item_page(connection, operation_id, limit=MAX_ITEMS)
            return _view(operation) | {"items": [_item_view(item) for item in items]}

        return success(await self._service.database.read(read))


def _view(operation: Operation) -> dict[str, Any]:
    return {
        "operationId": operation.operation_id,
        "verb": operation.verb,
        "action": operation.action,
        "actor": operation.actor,
        "reason": operation.reason,
        "filter": operation.filter,
        "state": operation.state,
        "note": operation.note,
        "total": operation.total,
        "ledger": operation.tally,
        "notIncluded": operation.unseen,
        "newFailures": operation.new_failures,
        "seenAt": operation.seen_at,
        "createdAt": operation.created_at,
        "waitsUntil": operation.waits_until,
        "endedAt": operation.ended_at,
    }


def _item_view(item: Item) -> dict[str, str | int | datetime | None]:
    return {
        "itemId": item.item_id,
        "orderId": item.order_id or None,
        "seenVersion": item.version,
        "state": item.state,
        "sentAt": item.sent_at,
        "acceptedAt": item.accepted_at,
        "settledAt": item.settled_at,
        "detail": item.detail,
    }
