"""A Starlette application for JSON: strict bodies, whole numbers in queries, one envelope for errors.

The sandbox services use it. Holdfast's own API uses FastAPI with the same envelope.
Source: requirements 3.1.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel
from sqlalchemy import Row
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.http_server.envelope import (
    ROUTING_CODES,
    BodyEndedEarly,
    BodyTooLarge,
    bounded_body,
    failed,
    json_response,
    shown,
    succeeded,
)

Clock = Callable[[], datetime]
Endpoint = Callable[[Request], Awaitable[Response]]
Model = TypeVar("Model", bound=BaseModel)

logger = logging.getLogger("holdfast.sandbox")

MAX_BODY_BYTES = 256 * 1024


class RequestBody(BaseModel):
    """A strict body. Unknown fields are errors, so a misspelt field does not get its default."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Rejection(Exception):
    """An error answer: HTTP status, code, message and details."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        details: Mapping[str, Any] | None = None,
        *,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.details = status, code, message, dict(details or {})
        self.retry_after_seconds = retry_after_seconds


def answer(data: Any, at: datetime) -> Response:
    """Return a response 200 with the data in the envelope."""
    return json_response(succeeded(data, at))


def wire(row: Row[Any]) -> dict[str, Any]:
    """Return a row as a JSON object: the names of its columns in camelCase, with their values."""
    return {str(to_camel(name)): value for name, value in row._mapping.items()}  # noqa: SLF001 - public in SQLAlchemy


def refusal(rejection: Rejection, at: datetime) -> Response:
    """Return the response for a rejection. Its only retry advice is the header Retry-After."""
    response = json_response(failed(rejection.code, rejection.message, rejection.details, at), rejection.status)
    if rejection.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(rejection.retry_after_seconds)
    return response


async def read_body(request: Request, model: type[Model]) -> Model:
    """Read and validate the body. Raises Rejection 400 with field, value and what is allowed, or Rejection 413."""
    try:
        return model.model_validate_json(await bounded_body(request, MAX_BODY_BYTES))
    except BodyTooLarge:
        raise Rejection(413, "BODY_TOO_LARGE", f"The body is larger than {MAX_BODY_BYTES} bytes.") from None
    except BodyEndedEarly:
        raise Rejection(400, "VALIDATION_ERROR", "The body ended early.") from None
    except ValidationError as error:
        raise invalid([_fault(fault) for fault in error.errors()]) from None


def invalid(faults: Sequence[Mapping[str, Any]]) -> Rejection:
    """Return the Rejection 400 for invalid fields, each ``{field, value, allowed}``; the message has the first."""
    first = faults[0]
    message = f"{first['field']}: {first['value']!r} is not valid; allowed: {first['allowed']}"
    return Rejection(400, "VALIDATION_ERROR", message, {**first, "errors": list(faults)})


def query_int(request: Request, name: str, *, default: int, low: int, high: int) -> int:
    """Return a whole number of the query string, from ``low`` to ``high``. Raises Rejection 400."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and low <= int(text[:10]) <= high):
        raise invalid([{"field": name, "value": text[:100], "allowed": f"a whole number from {low} to {high}"}])
    return int(text)


def application(routes: Sequence[Route], clock: Clock) -> Starlette:
    """Return the application of the routes, which answers every error in the envelope."""

    async def rejected(request: Request, error: Exception) -> Response:
        if isinstance(error, Rejection):
            return refusal(error, clock())
        if isinstance(error, HTTPException):
            code = ROUTING_CODES.get(error.status_code, "HTTP_ERROR")
            return refusal(Rejection(error.status_code, code, error.detail), clock())
        logger.error("request_failed", extra={"path": request.url.path}, exc_info=error)
        return refusal(Rejection(500, "INTERNAL_ERROR", "The request failed."), clock())

    handlers = dict.fromkeys((Rejection, HTTPException, Exception), rejected)
    return Starlette(routes=list(routes), exception_handlers=handlers)


_ALLOWED = {"extra_forbidden": "no such field", "missing": "a value: the field is required"}


def _fault(fault: Any) -> dict[str, Any]:
    field = ".".join(map(str, fault["loc"])) or "body"
    value = None if fault["type"] in ("missing", "json_invalid") else _plain(fault["input"])
    return {"field": field, "value": value, "allowed": _ALLOWED.get(fault["type"], fault["msg"])}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 2**53):
        return value
    return shown(value)
