"""How the sandbox services speak HTTP: envelopes, validation and errors in the seed's style.

Source: seed 3.1; contract section 3.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from services.domain.orders.events import timestamp

Clock = Callable[[], datetime]
Endpoint = Callable[[Request], Awaitable[Response]]
Model = TypeVar("Model", bound=BaseModel)

logger = logging.getLogger("holdfast.sandbox")

MAX_BODY_BYTES = 256 * 1024


def utc_now() -> datetime:
    """The clock of a running process."""
    return datetime.now(UTC)


class RequestBody(BaseModel):
    """A strict body: a misspelt field is an error, not a silent default."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Rejection(Exception):
    """An answer other than success."""

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


def answer(data: Any, at: datetime, status: int = 200) -> Response:
    """``{"success":true,"data":...,"meta":{"timestamp":...}}``"""
    return _json({"success": True, "data": data, "meta": {"timestamp": timestamp(at)}}, status)


def refusal(rejection: Rejection, at: datetime) -> Response:
    """``{"success":false,"error":{"code","message","details"},"meta":{"timestamp":...}}``"""
    error = {"code": rejection.code, "message": rejection.message, "details": rejection.details}
    response = _json({"success": False, "error": error, "meta": {"timestamp": timestamp(at)}}, rejection.status)
    if rejection.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(rejection.retry_after_seconds)
    return response


async def read_body(request: Request, model: type[Model]) -> Model:
    """The request's body, checked; raises Rejection 400 naming field, value and what is allowed."""
    body = await _bytes(request)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise invalid([_fault(fault) for fault in error.errors()]) from None


async def _bytes(request: Request) -> bytes:
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise Rejection(413, "BODY_TOO_LARGE", f"The body is larger than {MAX_BODY_BYTES} bytes.")
    except ClientDisconnect as error:
        raise Rejection(400, "VALIDATION_ERROR", "The body ended early.") from error
    return bytes(body)


def invalid(faults: Sequence[Mapping[str, Any]]) -> Rejection:
    """400 for faulty fields: ``{field, value, allowed}`` each, the first one in the message too."""
    first = faults[0]
    message = f"{first['field']}: {first['value']!r} is not valid; allowed: {first['allowed']}"
    return Rejection(400, "VALIDATION_ERROR", message, {**first, "errors": list(faults)})


def query_int(request: Request, name: str, *, default: int, low: int, high: int) -> int:
    """A whole number from the query string, within bounds."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and low <= int(text[:10]) <= high):
        raise invalid([{"field": name, "value": text[:100], "allowed": f"a whole number from {low} to {high}"}])
    return int(text)


def application(routes: Sequence[Route], clock: Clock) -> Starlette:
    """The routes, with every error answered in the one format."""

    async def rejected(_request: Request, error: Exception) -> Response:
        assert isinstance(error, Rejection)  # noqa: S101 - registered for this type only
        return refusal(error, clock())

    async def unroutable(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for this type only
        return refusal(Rejection(error.status_code, _code(error), error.detail), clock())

    async def failed(request: Request, error: Exception) -> Response:
        logger.error("request_failed", extra={"path": request.url.path}, exc_info=error)
        return refusal(Rejection(500, "INTERNAL_ERROR", "The request failed."), clock())

    handlers = {Rejection: rejected, HTTPException: unroutable, Exception: failed}
    return Starlette(routes=list(routes), exception_handlers=handlers)


def _code(error: HTTPException) -> str:
    return {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}.get(error.status_code, "HTTP_ERROR")


def _json(body: Any, status: int) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")


def _fault(fault: Any) -> dict[str, Any]:
    field = ".".join(map(str, fault["loc"])) or "body"
    value = None if fault["type"] in ("missing", "json_invalid") else _shown(fault["input"])
    return {"field": field, "value": value, "allowed": _ALLOWED.get(fault["type"], fault["msg"])}


_ALLOWED = {"extra_forbidden": "no such field", "missing": "a value: the field is required"}


def _shown(value: Any) -> Any:
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 2**53):
        return value
    return str(value)[:200]
