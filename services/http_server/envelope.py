"""JSON over HTTP: bodies with a size limit, one envelope for answers and errors, and a Starlette application.

The sandbox services use the application. Holdfast's own API uses FastAPI with the same envelope.
Source: requirements 3.1.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from services.domain.external import cut_text
from services.domain.orders.events import timestamp

Clock = Callable[[], datetime]
Endpoint = Callable[[Request], Awaitable[Response]]
Model = TypeVar("Model", bound=BaseModel)

logger = logging.getLogger("holdfast.sandbox")

MAX_BODY_BYTES = 256 * 1024

MAX_SHOWN = 200
"""Characters of an invalid value, or of the name of its field, in an error."""


ROUTING_CODES = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}
"""Error codes of the HTTP statuses of the router; any other status has HTTP_ERROR."""


class BodyTooLarge(Exception):
    """The body exceeds the limit; the rest of it was not read."""


class BodyEndedEarly(Exception):
    """The client disconnected before the end of its body."""


async def bounded_body(request: Request, max_bytes: int) -> bytes:
    """Return the whole body. Raises BodyTooLarge or BodyEndedEarly."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > max_bytes:
        # Check the declared size first: "100 Continue" would make the client send the body.
        raise BodyTooLarge
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > max_bytes:
                raise BodyTooLarge
    except ClientDisconnect:
        raise BodyEndedEarly from None
    return bytes(body)


def succeeded(data: Any, at: datetime) -> dict[str, Any]:
    """The envelope of a successful answer."""
    return {"success": True, "data": data, "meta": {"timestamp": timestamp(at)}}


def failed(
    code: str, message: str, details: Mapping[str, Any], at: datetime, *, retryable: bool | None = None
) -> dict[str, Any]:
    """The envelope of an error; ``retryable`` is left out when None."""
    error = {"code": code, "message": message, "details": details}
    advice = {} if retryable is None else {"retryable": retryable}
    return {"success": False, "error": error | advice, "meta": {"timestamp": timestamp(at)}}


def json_response(body: Any, status: int = 200) -> Response:
    """Return a response with ``body`` as JSON; times are in UTC with milliseconds."""
    return Response(orjson.dumps(body, _encode, orjson.OPT_PASSTHROUGH_DATETIME), status, media_type="application/json")


def shown(value: Any) -> str:
    """An invalid value as text for an error, at most MAX_SHOWN characters."""
    if isinstance(value, dict | list):
        # Cut the value before formatting it, because it may be as large as the body.
        value = dict(islice(value.items(), 5)) if isinstance(value, dict) else value[:5]
    return cut_text(value if isinstance(value, str) else repr(value), MAX_SHOWN)


def utf8_header(request: Request, name: str) -> str | None:
    """The value of a header, decoded as UTF-8 if its bytes are valid UTF-8, else as Latin-1."""
    value = request.headers.get(name)
    if value is not None and not value.isascii():
        with suppress(UnicodeDecodeError):
            # Starlette decodes every header as Latin-1.
            return value.encode("latin-1").decode()
    return value


def header_text(request: Request, name: str) -> str | None:
    """The value of a header with every unprintable character replaced."""
    value = utf8_header(request, name)
    if value is None or value.isprintable():
        return value
    return "".join(character if character.isprintable() else "\ufffd" for character in value)


def _encode(value: Any) -> Any:
    if isinstance(value, datetime):
        return timestamp(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


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


def wire(record: Any, names: Iterable[str] | None = None) -> dict[str, Any]:
    """Return fields of a row or dataclass as a JSON object, with their names in camelCase; default: all of a row."""
    return {str(to_camel(name)): getattr(record, name) for name in names or record._fields}


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
