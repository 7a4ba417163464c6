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
from state.bulk_jobs import BulkItem, BulkJob


class OperationHandlers:
    """Reading only."""

    def __init__(self, service: OrderService) -> None:
        self._service = service

    async def list_operations(self, call: Call) -> Response:
        limit = call.query.limit
        found = await self._service.database.read(lambda c: bulk_jobs.page(c, limit=limit))
        return success({"items": [_view(job) for job in found]})

    async def get_operation(self, call: Call) -> Response:
        operation_id = call.path("operationId")

        def read(connection: Connection) -> dict[str, Any]:
            job = bulk_jobs.get(connection, operation_id)
            if job is None:
                raise NotFound("operation", operation_id)
            items = bulk_jobs.item_page(connection, operation_id, limit=MAX_ITEMS)
            return _view(job) | {"items": [_item_view(item) for item in items]}

        return success(await self._service.database.read(read))


def _view(job: BulkJob) -> dict[str, Any]:
    return {
        "operationId": job.job_id,
        "verb": job.bulk_action,
        "action": job.action,
        "actor": job.actor,
        "reason": job.reason,
        "filter": job.filter,
        "state": job.state,
        "note": job.note,
        "total": job.total,
        "ledger": job.tally,
        "notIncluded": job.unseen,
        "newFailures": job.new_failures,
        "seenAt": job.seen_at,
        "createdAt": job.created_at,
        "waitsUntil": job.waits_until,
        "endedAt": job.ended_at,
    }


def _item_view(item: BulkItem) -> dict[str, str | int | datetime | None]:
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
