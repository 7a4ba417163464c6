"""Routes for other records: known stock, differences of the conservation audit, and the audit log.

Source: contract 3.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Path

from services.api.models import Limit, ListQuery, Page, Query, ReasonBody, Resource, Timestamp, one_of
from services.api.routing import PATH_ID, ApiRoute, Operator, OrderId, Parameters, Service, errors
from services.domain.conservation import COMPENSATIONS, DifferenceKind
from state import audit, conservation, products
from state.conservation import KnownDifference

DIFFERENCES = "/api/v1/differences"

router = APIRouter(route_class=ApiRoute, tags=["records"])


class ProductsQuery(Query):
    available: bool | None = None


class DifferencesQuery(Query):
    state: Literal["OPEN", "COMPENSATING", "ACCEPTED", "SETTLED"] | None = None
    limit: Limit = 200


class ProductResource(Resource):
    product_id: str
    variant_id: str
    available: bool
    level: Annotated[str, one_of("in_stock", "low", "out")]
    available_quantity: int | None
    threshold: int | None
    source: str
    changed_at: Timestamp
    expires_at: Timestamp | None


class DifferenceResource(Resource):
    order_id: str
    kind: Annotated[str, one_of(*DifferenceKind)]
    detail: str
    compensation: str | None = None
    state: Annotated[str, one_of("OPEN", "COMPENSATING", "ACCEPTED", "SETTLED")]
    first_seen_at: Timestamp
    last_seen_at: Timestamp
    settled_at: Timestamp | None
    compensated_by: str | None

    @classmethod
    def of_known(cls, difference: KnownDifference) -> Self:
        """Return the difference with the compensation for its kind."""
        return cls.of(difference, compensation=COMPENSATIONS.get(difference.kind))


class AuditEntryResource(Resource):
    at: Timestamp
    actor: str
    action: str
    target: str
    order_id: str | None
    reason: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    result: str
    correlation_id: str | None
    """Id of the command or request that caused the action. A request may set it with the header X-Correlation-Id."""


@router.get("/api/v1/products", summary="The availability cache")
async def list_products(query: Parameters[ProductsQuery], service: Service) -> Page[ProductResource]:
    now = service.clock()
    found = await service.database.read(lambda c: products.page(c, now, available=query.available))
    return Page[ProductResource].of(found)


@router.get(DIFFERENCES, summary="Differences between this service, the Inventory Service and the payment gateway")
async def list_differences(query: Parameters[DifferencesQuery], service: Service) -> Page[DifferenceResource]:
    found = await service.database.read(lambda c: conservation.page(c, state=query.state, limit=query.limit))
    return Page[DifferenceResource](items=[DifferenceResource.of_known(difference) for difference in found])


@router.post(
    f"{DIFFERENCES}/{{orderId}}/{{kind}}/compensate",
    summary="Apply the compensation that is offered for a difference",
    responses=errors(409),
)
async def compensate(
    order_id: OrderId,
    kind: Annotated[str, Path(alias="kind"), PATH_ID],
    body: ReasonBody,
    caller: Operator,
    service: Service,
) -> DifferenceResource:
    difference = await service.use_cases.conservation.compensate(order_id, kind, actor=caller.name, reason=body.reason)
    return DifferenceResource.of_known(difference)


@router.get("/api/v1/audit", summary="The manual actions: actor, action, time and reason")
async def list_audit(query: Parameters[ListQuery], service: Service) -> Page[AuditEntryResource]:
    return Page[AuditEntryResource].of(await service.database.read(lambda c: audit.page(c, limit=query.limit)))
