"""Bodies in the seed's style, and errors that name what was wrong.

Source: contract section 3: ``{"success":true,"data":...,"meta":{"timestamp":...}}``.
"""

from __future__ import annotations

import math
from codecs import BOM_UTF8
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus
from itertools import islice
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from services.domain.errors import ApiError, DependencyError, ValidationFailed
from services.domain.external import cut_text
from services.domain.orders.events import timestamp

Model = TypeVar("Model", bound=BaseModel)
MAX_BODY_BYTES = 1 << 20
"""Of the largest body of any route; see Endpoint.max_body_bytes."""
MAX_PARAMETERS = 20
MAX_PROBLEMS = 20
MAX_SHOWN = 200
"""Characters of a wrong value, or of its field's name, that are shown."""
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


class UnsupportedMediaType(ApiError):
    """The body is not declared as JSON."""

    code = "UNSUPPORTED_MEDIA_TYPE"


class PayloadTooLarge(ApiError):
    """The body is larger than a megabyte."""

    code = "PAYLOAD_TOO_LARGE"


class BodyIncomplete(ApiError):
    """The client went away, or took too long, before the end of its body."""

    code = "REQUEST_TIMEOUT"
    retryable = True


class RouteError(ApiError):
    """No such route or method; carries the status that the router found."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}.get(status, "HTTP_ERROR")  # type: ignore[misc]


def success(data: Any, status: int = 200) -> Response:
    """A successful answer around ``data``."""
    body = {"success": True, "data": data, "meta": {"timestamp": timestamp(datetime.now(UTC))}}
    return json_response(body, status)


def failure(error: ApiError) -> Response:
    """The answer for an error; 408 and 503 say when to come back."""
    body = {
        "success": False,
        "error": {
            "code": error.code,
            "message": error.message,
            "details": error.details,
            "retryable": error.retryable,
        },
        "meta": {"timestamp": timestamp(datetime.now(UTC))},
    }
    status = error.status if isinstance(error, RouteError) else STATUS_OF.get(error.code, 500)
    response = json_response(body, status)
    if status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Bearer"
    if status in (408, 503):
        response.headers["Retry-After"] = str(_retry_after(error))
    return response


def json_response(body: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(body, _encode, orjson.OPT_PASSTHROUGH_DATETIME), status, media_type="application/json")


async def read_body(request: Request, model: type[Model], max_bytes: int = MAX_BODY_BYTES) -> Model:
    """The JSON body as a model; raises ValidationFailed naming every field, its value and what is allowed."""
    content_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise UnsupportedMediaType(f"The body must be application/json, not {content_type}.")
    body = await _bounded_body(request, max_bytes)
    try:
        return model.model_validate(_parsed(body))
    except ValidationError as error:
        raise validation_failed(error) from None


def read_query(request: Request, model: type[Model]) -> Model:
    """The query parameters as a model, empty ones as if not given; raises ValidationFailed like read_body()."""
    parameters = request.query_params.items()
    if len(parameters) > MAX_PARAMETERS:
        raise wrong_value("query", f"{len(parameters)} parameters", f"at most {MAX_PARAMETERS} parameters")
    try:
        return model.model_validate({name: value for name, value in parameters if value})
    except ValidationError as error:
        raise validation_failed(error) from None


def validation_failed(error: ValidationError) -> ValidationFailed:
    """Every problem of a pydantic error as ``{field, value, allowed}``."""
    problems = [
        {
            "field": _shown(".".join(map(str, found["loc"]))) or "body",
            "value": None if found["type"] == "missing" else _shown(found["input"]),
            "allowed": found["msg"].removeprefix("Value error, "),
        }
        for found in error.errors(include_url=False, include_context=False)[:MAX_PROBLEMS]
    ]
    fields = ", ".join(str(problem["field"]) for problem in problems)
    return ValidationFailed(f"Not valid: {fields}.", {"problems": problems})


def wrong_value(field: str, value: str, allowed: str) -> ValidationFailed:
    """One problem of a value that no model describes."""
    problem = {"field": field, "value": _shown(value), "allowed": allowed}
    return ValidationFailed(f"Not valid: {field}.", {"problems": [problem]})


def utf8_header(request: Request, name: str) -> str | None:
    """A header as its sender meant it: UTF-8, or else Latin-1."""
    value = request.headers.get(name)
    if value is not None and not value.isascii():
        with suppress(UnicodeDecodeError):
            # Headers arrive as Latin-1, whatever their bytes mean.
            return value.encode("latin-1").decode()
    return value


def header_text(request: Request, name: str) -> str | None:
    """The same without what cannot be printed."""
    value = utf8_header(request, name)
    if value is None or value.isprintable():
        return value
    return "".join(character if character.isprintable() else "\ufffd" for character in value)


def _parsed(body: bytes) -> Any:
    """JSON as Python values: numbers as they were written, so that the field they stand in can be named."""
    try:
        return from_json(body.removeprefix(BOM_UTF8) or b"{}", allow_inf_nan=True)
    except ValueError as error:
        raise wrong_value("body", "", f"valid JSON in UTF-8 ({error})") from None


async def _bounded_body(request: Request, max_bytes: int) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > max_bytes:
        # Before "100 Continue" asks for it.
        raise PayloadTooLarge(f"The body is larger than {max_bytes} bytes.")
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_bytes:
                raise PayloadTooLarge(f"The body is larger than {max_bytes} bytes.")
    except ClientDisconnect:
        raise BodyIncomplete("The body ended early.") from None
    return bytes(body)


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        # Whole, it may be as large as the body; its beginning says enough.
        value = dict(islice(value.items(), 5)) if isinstance(value, dict) else value[:5]
    text = value if isinstance(value, str) else repr(value)
    return cut_text(text, MAX_SHOWN)


def _retry_after(error: ApiError) -> int:
    # An error that ended an order was recorded with its advice.
    recorded = error.details.get("retryAfterSeconds")
    seconds = error.retry_after_seconds if isinstance(error, DependencyError) else recorded
    return max(1, math.ceil(seconds if seconds is not None else DEFAULT_RETRY_AFTER_SECONDS))


def _encode(value: Any) -> Any:
    if isinstance(value, datetime):
        return timestamp(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
