"""One table of endpoints, from which both the routes and the OpenAPI document are made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from services.api.auth import READ, Caller


@dataclass(slots=True)
class Call:
    """One request, read and checked, as handlers get it."""

    request: Request
    caller: Caller
    body: Any
    query: Any

    def path(self, name: str) -> str:
        """A parameter of the path; a NUL, which PostgreSQL refuses, is replaced so that nothing is found."""
        return str(self.request.path_params[name]).replace("\x00", "\ufffd")


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
    headers: tuple[str, ...] = ()
    """Optional request headers that mean something here."""
