"""The envelope of every answer, and the HTTP status of every error code. Source: contract 3.

``{"success":true,"data":...,"meta":{"timestamp":...}}``, or
``{"success":false,"error":{"code","message","details","retryable"},"meta":{...}}``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel
from starlette.responses import Response

from services.api.models import Timestamp
from services.domain.errors import ApiError, DependencyError, ValidationFailed
from services.domain.orders.events import timestamp
from services.http_server.envelope import ROUTING_CODES, failed, json_response, shown

Data = TypeVar("Data")
MAX_PROBLEMS = 20
DEFAULT_RETRY_AFTER_SECONDS = 5

STATUS_OF = {
    "VALIDATION_ERROR": 400,
    "UNAUTHORIZED": 401,
    "PAYMENT_DECLINED": 402,
    "FORBIDDEN": 403,
    "ALERT_NOT_FOUND": 404,
    "BREAKER_NOT_FOUND": 404,
    "DEAD_LETTER_NOT_FOUND": 404,
    "DIFFERENCE_NOT_FOUND": 404,
    "DRILL_NOT_FOUND": 404,
    "NOT_FOUND": 404,
    "OPERATION_NOT_FOUND": 404,
    "ORDER_NOT_FOUND": 404,
    "OUTBOX_EVENT_NOT_FOUND": 404,
    "RELEASE_NOT_FOUND": 404,
    "REVIEW_NOT_FOUND": 404,
    "SILENCE_NOT_FOUND": 404,
    "METHOD_NOT_ALLOWED": 405,
    "INVENTORY_TIMEOUT": 408,
    "REQUEST_TIMEOUT": 408,
    "CLAIMED_BY_OTHER": 409,
    "INSUFFICIENT_INVENTORY": 409,
    "INVALID_STATE": 409,
    "RELEASE_CONFLICT": 409,
    "REVIEW_CONFLICT": 409,
    "PAYLOAD_TOO_LARGE": 413,
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "IDEMPOTENCY_KEY_REUSED": 422,
    "RESERVATION_FAILED": 422,
    "ALERT_NOT_STORED": 500,
    "INTERNAL_ERROR": 500,
    "RELEASE_FAILED": 500,
    "ALERTS_FULL": 503,
    "INVENTORY_UNAVAILABLE": 503,
    "PAYMENT_UNKNOWN": 503,
    "SERVICE_OVERLOADED": 503,
    "SERVICE_UNAVAILABLE": 503,
}
"""HTTP status of every error code."""


class Meta(BaseModel):
    timestamp: Timestamp


class Answer(BaseModel, Generic[Data]):
    """A successful answer."""

    success: Literal[True]
    data: Data
    meta: Meta


class ErrorBody(BaseModel):
    code: str
    message: str
    details: dict[str, Any]
    retryable: bool


class ErrorAnswer(BaseModel):
    """An error answer."""

    success: Literal[False]
    error: ErrorBody
    meta: Meta


class UnsupportedMediaType(ApiError):
    """The body is not declared as JSON."""

    code = "UNSUPPORTED_MEDIA_TYPE"


class PayloadTooLarge(ApiError):
    """The body is larger than the route's limit."""

    code = "PAYLOAD_TOO_LARGE"


class BodyIncomplete(ApiError):
    """The client disconnected or timed out before the end of its body."""

    code = "REQUEST_TIMEOUT"
    retryable = True


class ServiceUnavailable(ApiError):
    """The database is unavailable or the process stops. Repeat the request under the same idempotency key."""

    code = "SERVICE_UNAVAILABLE"
    retryable = True


class RouteError(ApiError):
    """No such route or method; ``status`` is the HTTP status of the router."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = ROUTING_CODES.get(status, "HTTP_ERROR")  # type: ignore[misc]


def meta() -> Meta:
    """Return the ``meta`` of an answer, with the present time."""
    return Meta.model_construct(timestamp=datetime.now(UTC))


def written(resource: BaseModel, status: int) -> Response:
    """Return a response with the resource in its envelope; faster than the validation and serialisation of FastAPI."""
    data = resource.__pydantic_serializer__.to_json(resource, by_alias=True)
    now = timestamp(datetime.now(UTC)).encode()
    content = b'{"success":true,"data":%b,"meta":{"timestamp":"%b"}}' % (data, now)
    return Response(content, status, media_type="application/json")


def failure(error: ApiError) -> Response:
    """Return the response for an error; 408 and 503 have the header Retry-After."""
    status = error.status if isinstance(error, RouteError) else STATUS_OF.get(error.code, 500)
    body = failed(error.code, error.message, error.details, datetime.now(UTC), retryable=error.retryable)
    response = json_response(body, status)
    if status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    if status in (408, 503):
        response.headers["Retry-After"] = str(_retry_after(error))
    return response


def validation_failed(problems: Sequence[Any]) -> ValidationFailed:
    """Return the error for the problems of a pydantic error, each as ``{field, value, allowed}``."""
    described = [
        {
            "field": shown(".".join(map(str, problem["loc"]))) or "body",
            "value": None if problem["type"] == "missing" else shown(problem["input"]),
            "allowed": problem["msg"].removeprefix("Value error, "),
        }
        for problem in problems[:MAX_PROBLEMS]
    ]
    fields = ", ".join(str(problem["field"]) for problem in described)
    return ValidationFailed(f"Not valid: {fields}.", {"problems": described})


def wrong_value(field: str, value: str, allowed: str) -> ValidationFailed:
    """Return the error for one invalid value that no pydantic model validates."""
    problem = {"field": field, "value": shown(value), "allowed": allowed}
    return ValidationFailed(f"Not valid: {field}.", {"problems": [problem]})


def _retry_after(error: ApiError) -> int:
    # The details of a stored error contain the Retry-After of its first answer.
    recorded = error.details.get("retryAfterSeconds")
    seconds = error.retry_after_seconds if isinstance(error, DependencyError) else recorded
    return max(1, math.ceil(seconds if seconds is not None else DEFAULT_RETRY_AFTER_SECONDS))
