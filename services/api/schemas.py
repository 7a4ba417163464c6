"""The bodies and parameters of the API, for validation and for the OpenAPI document.

Source: contract section 3. camelCase is the wire's own.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from services.domain.bulk import BulkAction, BulkItemState, BulkJobState
from services.domain.conservation import DifferenceKind
from services.domain.external import (
    INT32,
    CanonicalIdentifier,
    Identifier,
    NotAllowed,
    Text500,
    Text2000,
    bounded_json,
)
from services.domain.orders.model import InventoryStatus, OrderStatus, PaymentStatus, ReviewReason
from services.domain.resolution_reasons import ResolutionReason
from services.domain.reviews import ReviewAction


def whole_float(value: Any) -> Any:
    # JSON knows one kind of number: 2.0 is an integer there.
    return int(value) if type(value) is float and value.is_integer() else value


Quantity = Annotated[int, Field(strict=True, ge=1, le=1_000_000), BeforeValidator(whole_float)]
Text = Annotated[Text500, Field(min_length=1)]
Note = Text2000
Version = Annotated[int, Field(ge=1, le=INT32[1])]

MAX_METADATA_BYTES = 16_384
MAX_FIELDS = 32
"""Of one object; no body of ours has half as many. Each unknown one costs time to report."""

Metadata = Annotated[dict[str, Any], BeforeValidator(lambda value: bounded_json(value, MAX_METADATA_BYTES))]


class Request(BaseModel):
    """Unknown fields are refused: a misspelt one would otherwise be lost silently."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _few_fields(cls, data: Any) -> Any:
        if isinstance(data, dict) and len(data) > MAX_FIELDS:
            raise NotAllowed(f"an object of at most {MAX_FIELDS} fields")
        return data


class ItemBody(Request):
    productId: Identifier
    variantId: Identifier
    quantity: Quantity


MAX_ITEMS_BYTES = 115_000
"""Of all items as JSON in UTF-8: events hold them twice, and a broker takes 256 KB. 200 lines fit unless most
characters of their ids take three bytes or more."""


def _publishable(items: list[ItemBody]) -> list[ItemBody]:
    if len(orjson.dumps([item.model_dump() for item in items])) > MAX_ITEMS_BYTES:
        raise NotAllowed(f"items of at most {MAX_ITEMS_BYTES} bytes as JSON")
    return items


Items = Annotated[list[ItemBody], Field(min_length=1, max_length=200), AfterValidator(_publishable)]


class PlaceOrderBody(Request):
    orderId: CanonicalIdentifier | None = None
    userId: CanonicalIdentifier
    customerPriority: Literal["standard", "high"] = "standard"
    items: Items
    metadata: Metadata | None = None


class ReasonBody(Request):
    reason: Text


class CancelBody(Request):
    reason: Text = "CUSTOMER_CANCELLED"


class ReturnBody(Request):
    returnId: CanonicalIdentifier | None = None
    items: Items
    reason: Text
    restockable: bool = True


class ResolveBody(Request):
    action: ReviewAction
    note: Note = ""
    version: Version
    actionId: Identifier | None = None
    resolutionReason: ResolutionReason | None = None


class ClaimBody(Request):
    """``takeOver`` takes the case from whoever has it; only an admin may."""

    takeOver: bool = False


class RetryReleasesBody(Request):
    orderIds: Annotated[list[CanonicalIdentifier], Field(min_length=1, max_length=200)]


class OverrideBody(Request):
    """``expiresIn`` is in whole milliseconds: at least a second, at most a day."""

    state: Literal["forced_open", "forced_closed"]
    reason: Text
    expiresIn: Annotated[int, Field(ge=1000, le=86_400_000), BeforeValidator(whole_float)]


class NoteBody(Request):
    note: Note = ""


class Query(BaseModel):
    model_config = ConfigDict(extra="forbid")


Limit = Annotated[int, Field(ge=1, le=200)]


class OrdersQuery(Query):
    status: OrderStatus | None = None
    inventoryStatus: InventoryStatus | None = None
    reviewOpen: bool | None = None
    userId: CanonicalIdentifier | None = None
    limit: Limit = 50
    cursor: Annotated[str | None, Field(max_length=1000)] = None


class ReviewsQuery(Query):
    state: Literal["OPEN", "RESOLVED"] = "OPEN"
    reason: ReviewReason | None = None
    orderId: CanonicalIdentifier | None = None
    limit: Limit = 200


class ReleasesQuery(Query):
    state: Literal["PENDING", "FAILED", "DONE"] | None = None
    limit: Limit = 200


class WaitQuery(Query):
    wait: bool = False


class ProductsQuery(Query):
    available: bool | None = None


class DeadLettersQuery(Query):
    state: Literal["OPEN", "REPLAYED", "DISCARDED"] = "OPEN"
    limit: Limit = 200


class OutboxQuery(Query):
    state: Literal["UNDELIVERABLE"] = "UNDELIVERABLE"
    limit: Limit = 200


class DifferencesQuery(Query):
    state: Literal["OPEN", "COMPENSATING", "ACCEPTED", "SETTLED"] | None = None
    limit: Limit = 200


class ListQuery(Query):
    limit: Limit = 200


class ItemView(BaseModel):
    productId: str
    variantId: str
    quantity: int
    returnedQuantity: int


class ReviewReference(BaseModel):
    reviewId: str
    reason: ReviewReason
    state: Literal["OPEN", "RESOLVED"]


class FailureView(BaseModel):
    code: str
    message: str
    details: dict[str, Any]
    retryable: bool


class OrderView(BaseModel):
    orderId: str
    userId: str
    customerPriority: Literal["standard", "high"]
    status: OrderStatus
    inventoryStatus: InventoryStatus
    paymentStatus: PaymentStatus
    reservationId: str | None
    reservationExpiresAt: datetime | None
    confirmedAt: datetime | None
    items: list[ItemView]
    reviews: list[ReviewReference]
    failure: FailureView | None
    metadata: dict[str, Any] | None
    createdAt: datetime
    updatedAt: datetime
    version: int


class TimelineEntryView(BaseModel):
    at: datetime
    kind: Literal["transition", "call", "event_out", "event_in", "action"]
    title: str
    details: dict[str, Any]
    detailsAreCut: bool = False
    """Details larger than four kilobytes are cut."""
    actor: str | None = None


class ReviewView(BaseModel):
    reviewId: str
    orderId: str
    reason: ReviewReason
    state: Literal["OPEN", "RESOLVED"]
    detail: str
    openedAt: datetime
    version: int
    allowedActions: list[ReviewAction]
    resolvedAt: datetime | None
    resolvedBy: str | None
    resolution: str | None
    resolutionReason: str | None
    note: str | None
    owner: str | None
    claimedUntil: datetime | None


class ReleaseView(BaseModel):
    orderId: str
    reason: str
    state: Literal["PENDING", "FAILED", "DONE"]
    attempts: int
    nextAttemptAt: datetime | None
    lastError: str | None
    createdAt: datetime
    updatedAt: datetime


class OperationView(BaseModel):
    """``ledger`` counts the items per state; ``notIncluded`` matched at the commit without having been shown."""

    operationId: str
    verb: BulkAction
    action: ReviewAction | None
    actor: str
    reason: str | None
    filter: str
    state: BulkJobState
    note: str | None
    total: int
    ledger: dict[BulkItemState, int]
    notIncluded: int
    newFailures: int
    seenAt: datetime
    createdAt: datetime
    waitsUntil: datetime | None
    endedAt: datetime | None


class OperationItemView(BaseModel):
    itemId: str
    orderId: str | None
    seenVersion: int
    state: BulkItemState
    sentAt: datetime | None
    acceptedAt: datetime | None
    settledAt: datetime | None
    detail: str | None


class OperationLedgerView(OperationView):
    items: list[OperationItemView]


class ReplicaBreakerView(BaseModel):
    replica: str
    state: str
    since: datetime
    retryInMs: int | None
    calls: int
    failures: int
    failureRate: float | None
    denied: int


class OverrideView(BaseModel):
    state: Literal["forced_open", "forced_closed"]
    reason: str
    actor: str
    createdAt: datetime
    expiresAt: datetime


class BreakerView(BaseModel):
    name: str
    state: Literal["closed", "open", "half_open", "forced_open", "forced_closed"]
    since: datetime
    retryInMs: int | None
    calls: int
    failures: int
    failureRate: float | None
    thresholdPercentage: float
    volumeThreshold: int
    denied: int
    override: OverrideView | None
    replicas: list[ReplicaBreakerView]


class ProductView(BaseModel):
    productId: str
    variantId: str
    available: bool
    level: Literal["in_stock", "low", "out"]
    availableQuantity: int | None
    threshold: int | None
    source: str
    changedAt: datetime
    expiresAt: datetime | None


class DeadLetterView(BaseModel):
    id: str
    stream: str
    streamIncarnation: str
    streamSequence: int
    subject: str
    orderId: str | None
    payload: str
    payloadBytes: int
    payloadIsCut: bool
    headers: dict[str, str]
    reason: str
    attempts: int
    state: Literal["OPEN", "REPLAYED", "DISCARDED"]
    createdAt: datetime
    resolvedAt: datetime | None
    resolvedBy: str | None
    note: str | None


class OutboxEventView(BaseModel):
    """An event that the broker could not take. ``state``: PENDING is to be published, DISCARDED is given up."""

    id: int
    eventId: str
    subject: str
    orderId: str
    payload: str
    payloadBytes: int
    payloadIsCut: bool
    attempts: int
    state: Literal["UNDELIVERABLE", "PENDING", "DISCARDED"]
    reason: str
    createdAt: datetime
    undeliverableAt: datetime


class AuditEntryView(BaseModel):
    at: datetime
    actor: str
    action: str
    target: str
    orderId: str | None
    reason: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    result: str
    correlationId: str | None
    """The command or request that the action belongs to; a request may give it as X-Correlation-Id."""


class DifferenceView(BaseModel):
    orderId: str
    kind: DifferenceKind
    detail: str
    compensation: str
    state: Literal["OPEN", "COMPENSATING", "ACCEPTED", "SETTLED"]
    firstSeenAt: datetime
    lastSeenAt: datetime
    settledAt: datetime | None
    compensatedBy: str | None


class ReturnView(BaseModel):
    returnId: str
    order: OrderView


class ErrorBody(BaseModel):
    code: str
    message: str
    details: dict[str, Any]
    retryable: bool


class Meta(BaseModel):
    timestamp: datetime


class ErrorAnswer(BaseModel):
    success: Literal[False]
    error: ErrorBody
    meta: Meta
