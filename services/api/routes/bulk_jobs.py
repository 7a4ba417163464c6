"""Routes for bulk jobs and their items. They only read: actors start bulk jobs on the console. Source: contract 3."""

from __future__ import annotations

from typing import Annotated, Any, Self

from fastapi import APIRouter, Path
from pydantic import AfterValidator, Field
from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import RedirectResponse

from services.api.models import ListQuery, Page, Resource, Timestamp, one_of
from services.api.routing import PATH_ID, ApiRoute, Parameters, Service
from services.domain.bulk import MAX_ITEMS, BulkAction, BulkItemState, BulkJobState
from services.domain.errors import existing
from services.domain.reviews import ReviewAction
from state import bulk_jobs
from state.bulk_jobs import BulkItem, BulkJob

BULK_JOBS, FORMER_PATH = "/api/v1/bulk-jobs", "/api/v1/operations"

router = APIRouter(route_class=ApiRoute, tags=["bulk jobs"])


class BulkJobResource(Resource):
    """``ledger``: number of items by state. ``notIncluded``: number of matches at the start that were never shown."""

    operation_id: Annotated[str, Field(validation_alias="job_id")]
    verb: Annotated[str, one_of(*BulkAction), Field(validation_alias="bulk_action")]
    action: Annotated[str, one_of(*ReviewAction)] | None
    actor: str
    reason: str | None
    filter: str
    state: Annotated[str, one_of(*BulkJobState)]
    note: str | None
    total: int
    ledger: Annotated[dict[Annotated[str, one_of(*BulkItemState)], int], Field(validation_alias="tally")]
    not_included: Annotated[int, Field(validation_alias="unseen")]
    new_failures: int
    seen_at: Timestamp
    created_at: Timestamp
    waits_until: Timestamp | None
    ended_at: Timestamp | None


class BulkItemResource(Resource):
    item_id: str
    order_id: Annotated[str | None, AfterValidator(lambda order_id: order_id or None)]
    """null for an event without an order id."""
    seen_version: Annotated[int, Field(validation_alias="version")]
    state: Annotated[str, one_of(*BulkItemState)]
    sent_at: Timestamp | None
    accepted_at: Timestamp | None
    settled_at: Timestamp | None
    detail: str | None


class BulkJobWithItems(BulkJobResource):
    items: list[BulkItemResource] = Field(default_factory=list)

    @classmethod
    def with_items(cls, job: BulkJob, items: list[BulkItem]) -> Self:
        """Return the resource of a job with its items."""
        return cls.of(job, items=[BulkItemResource.of(item) for item in items])


@router.get(BULK_JOBS, summary="Bulk jobs, newest first")
async def list_bulk_jobs(query: Parameters[ListQuery], service: Service) -> Page[BulkJobResource]:
    found = await service.database.read(lambda c: bulk_jobs.page(c, limit=query.limit))
    return Page[BulkJobResource].of(found)


@router.get(f"{BULK_JOBS}/{{bulkJobId}}", summary="One bulk job with its items")
async def get_bulk_job(job_id: Annotated[str, Path(alias="bulkJobId"), PATH_ID], service: Service) -> BulkJobWithItems:
    def read(connection: Connection) -> BulkJobWithItems:
        job = existing(bulk_jobs.get(connection, job_id), "operation", job_id)
        return BulkJobWithItems.with_items(job, bulk_jobs.item_page(connection, job_id, limit=MAX_ITEMS))

    return await service.database.read(read)


async def moved(request: Request) -> RedirectResponse:
    """Redirect with 308 from the former path to the present path of bulk jobs."""
    written = str(request.scope.get("raw_path", b"").decode("ascii", "replace") or request.url.path)
    query: Any = request.url.query
    return RedirectResponse(BULK_JOBS + written.removeprefix(FORMER_PATH) + (f"?{query}" if query else ""), 308)
