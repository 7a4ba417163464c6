"""One table of endpoints, from which both the routes and the OpenAPI document are made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from services.api.auth import READ, Caller
from services.domain.external import id_key

SLASH = "\ue000"
"""Stands in a path for a slash that belongs to an id, so that it does not part the path; no id contains it."""

SMALL_BODY_BYTES = 32 * 1024
"""Of a body that holds a note or a reason."""

ITEMS_BODY_BYTES = 768 * 1024
"""Of a body with 200 lines, whose ids may be written with six bytes a character, and metadata."""


class SlashesInIds:
    """Middleware: a slash that was sent as ``%2F`` belongs to an id."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = scope.get("raw_path") or b""
        if b"%2F" in raw or b"%2f" in raw:
            parts = (unquote_to_bytes(part).decode("utf-8", "replace") for part in raw.split(b"/"))
            path = "/".join(part.replace(SLASH, "\ufffd").replace("/", SLASH) for part in parts)
            scope = {**scope, "path": path}
        await self._app(scope, receive, send)


@dataclass(slots=True)
class Call:
    """One request, read and checked, as handlers get it."""

    request: Request
    caller: Caller
    body: Any
    query: Any

    def path(self, name: str) -> str:
        """A parameter of the path, ids in the form by which they are compared.

        A NUL, which PostgreSQL refuses, is replaced so that nothing is found.
        """
        value = str(self.request.path_params[name]).replace(SLASH, "/").replace("\x00", "\ufffd")
        return id_key(value)


Handler = Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A method on a path: what it reads, what it answers, who may call it."""

    method: str
    path: str
    summary: str
    handler: Handler
    answers: dict[int, type[BaseModel] | None]
    """Model of ``data`` per successful status."""
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    is_list: bool = False
    """Whether ``data`` is ``{items: [...], nextCursor?}`` of the model."""
    errors: tuple[int, ...] = ()
    roles: frozenset[str] = READ
    max_body_bytes: int = SMALL_BODY_BYTES
    headers: tuple[str, ...] = ()
    """Optional request headers that mean something here."""
