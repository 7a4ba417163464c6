"""JSON bodies over HTTP: reading with a size limit, envelopes, and values in error messages."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from itertools import islice
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from services.domain.external import cut_text
from services.domain.orders.events import timestamp

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
