"""Route classes of the API: tracing, authentication, reading of the body, envelope and errors.

A handler is a FastAPI endpoint that returns a resource. ApiRoute puts the resource into the envelope.
"""

from __future__ import annotations

import asyncio
import functools
from codecs import BOM_UTF8
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, TypeVar, get_type_hints
from urllib.parse import unquote_to_bytes

from fastapi import Depends, Path, Query
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import AfterValidator, BaseModel, ValidationError
from pydantic_core import from_json
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, request_response
from starlette.types import ASGIApp, Receive, Scope, Send

from services.alerting.receiver import AlertReceiver
from services.alerting.threshold_rule import Rule
from services.api.auth import OPERATE, READ, TRADE, Authenticator, Caller
from services.api.envelope import (
    Answer,
    BodyIncomplete,
    ErrorAnswer,
    PayloadTooLarge,
    ServiceUnavailable,
    UnsupportedMediaType,
    failure,
    meta,
    validation_failed,
    wrong_value,
)
from services.api.models import RequestBody
from services.base.context import HEADER, begin, correlated, received
from services.base.identity import new_id
from services.domain.errors import ApiError
from services.domain.external import id_key
from services.http_server.envelope import BodyEndedEarly, BodyTooLarge, bounded_body, header_text
from services.metrics.recorder import Recorder
from services.metrics.registry import Metrics
from services.tracing.port import Tracer
from services.use_cases import UseCases
from state.engine.database import Database

Model = TypeVar("Model", bound=BaseModel)
Served = Callable[[Request], Coroutine[Any, Any, Response]]

SLASH = "\ue000"
"""Replaces a slash inside an id, so that the slash does not split the path. No id contains this character."""

MAX_PARAMETERS = 20
MAX_CORRELATION_ID = 128


class RoutedIds:
    """Middleware: keeps a slash sent as ``%2F`` as a part of an id, and routes HEAD as GET."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = scope.get("raw_path") or b""
        if b"%2F" in raw or b"%2f" in raw:
            parts = (unquote_to_bytes(part).decode("utf-8", "replace") for part in raw.split(b"/"))
            path = "/".join(part.replace(SLASH, "\ufffd").replace("/", SLASH) for part in parts)
            scope = {**scope, "path": path}
        if scope.get("method") == "HEAD":
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)


def _id_of_path(value: str) -> str:
    # PostgreSQL refuses a NUL. An id with the replacement character matches no row.
    return id_key(value.replace(SLASH, "/").replace("\x00", "\ufffd"))


PATH_ID = AfterValidator(_id_of_path)
"""An id in the path, in canonical form."""

OrderId = Annotated[str, Path(alias="orderId"), PATH_ID]


class AllowedTo:
    """FastAPI dependency: returns the caller, whose role ApiRoute has checked."""

    def __init__(self, roles: frozenset[str]) -> None:
        self.roles = roles

    async def __call__(self, request: Request) -> Caller:
        caller: Caller = request.state.caller
        return caller


@dataclass(frozen=True, slots=True)
class OrderService:
    """What the routes of the API use."""

    use_cases: UseCases
    database: Database
    clock: Callable[[], datetime]
    metrics: Metrics
    recorder: Recorder
    alert_rules: Sequence[Rule]
    alert_receiver: AlertReceiver
    wake_releases: Callable[[], None]
    readiness: Callable[[], Awaitable[dict[str, bool | str]]]
    """Returns by name whether each dependency is reachable; text values are reasons."""


async def _service(request: Request) -> OrderService:
    service: OrderService = request.app.state.service
    return service


Service = Annotated[OrderService, Depends(_service)]
Parameters = Annotated[Model, Query()]
"""A model of the query string."""
Trader = Annotated[Caller, Depends(AllowedTo(TRADE))]
Operator = Annotated[Caller, Depends(AllowedTo(OPERATE))]


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the ``responses`` of a route: the error statuses beyond those that every route may answer."""
    return {status: {"model": ErrorAnswer} for status in statuses}


class ApiRoute(APIRoute):
    """A route whose answers, errors included, are in the envelope.

    The caller is authenticated before the body is read. A handler with a Trader or Operator parameter is restricted to
    these roles; any other handler is open to every role.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if options.get("response_model") is None or not isinstance(options["response_model"], type):
            resource = get_type_hints(endpoint, include_extras=True)["return"]
            options["response_model"] = Answer[resource]  # type: ignore[valid-type]
        # A body without a Content-Type is read as JSON.
        options["strict_content_type"] = False
        super().__init__(path, self._enveloped(endpoint, options["response_model"]), **options)

    @property
    def roles(self) -> frozenset[str]:
        """The roles that may call this route."""
        calls = [dependency.call for dependency in self.dependant.dependencies]
        return next((call.roles for call in calls if isinstance(call, AllowedTo)), READ)

    def _enveloped(self, endpoint: Callable[..., Any], answer: type[Answer[Any]]) -> Callable[..., Any]:
        @functools.wraps(endpoint)
        async def enveloped(*args: Any, **named: Any) -> Any:
            return answer.model_construct(success=True, data=await endpoint(*args, **named), meta=meta())

        return enveloped

    def get_route_handler(self) -> Served:
        (method,) = self.methods or {"GET"}
        body_model: Any = self.body_field.field_info.annotation if self.body_field else None
        roles, limits_query = self.roles, bool(self.dependant.query_params)
        answered = self._answered(super().get_route_handler())

        async def serve(request: Request) -> Response:
            state = request.app.state
            if state.tracer is None:
                # A request may run in the context of an earlier request, so every request sets its trace.
                begin(request.headers.get(HEADER))
                return await guarded(request, state.authenticator)
            parent = received(request.headers.get(HEADER))
            tracer: Tracer = state.tracer
            with tracer.request(method, self.path, request.url.path, parent) as ended:
                response = await guarded(request, state.authenticator)
                ended(response.status_code)
                return response

        async def guarded(request: Request, authenticator: Authenticator) -> Response:
            try:
                caller = authenticator.caller(request, roles)
                body = await read_body(request, body_model) if body_model else None
                if limits_query and len(request.query_params) > MAX_PARAMETERS:
                    given = f"{len(request.query_params)} parameters"
                    raise wrong_value("query", given, f"at most {MAX_PARAMETERS} parameters")
                if not (caller.is_person and method != "GET"):
                    return await answered(request, caller, body)
                # Actions of a person are audited under the correlation id of the request, or under a new id.
                with correlated((header_text(request, "x-correlation-id") or new_id())[:MAX_CORRELATION_ID]):
                    return await answered(request, caller, body)
            except ApiError as error:
                return failure(error)
            except RequestValidationError as error:
                places = [problem | {"loc": problem["loc"][1:]} for problem in error.errors()]
                return failure(validation_failed(places))
            except asyncio.CancelledError:
                # The HTTP server cancels requests at the end of its grace period, and would answer 500 in plain text.
                return failure(ServiceUnavailable("The service is being stopped; repeat the request in a few seconds."))

        return serve

    def _answered(self, handler: Served) -> Callable[[Request, Caller, Any], Awaitable[Response]]:
        """Return a function that answers a request whose caller and body are known."""

        async def answered(request: Request, caller: Caller, body: Any) -> Response:
            request.state.caller = caller
            return await handler(_ReadRequest(request.scope, request.receive, body))

        return answered


class DirectRoute(ApiRoute):
    """A route that bypasses FastAPI's parameter resolution, which costs more than 5 % of an order's CPU time.

    The OpenAPI document describes it like any other route. The handler takes ``(request, body, caller, service)`` and
    returns a response.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        self._direct = endpoint
        super().__init__(path, endpoint, **options)
        self.app = request_response(self.get_route_handler())

    matches = Route.matches
    handle = Route.handle

    def _answered(self, handler: Served) -> Callable[[Request, Caller, Any], Awaitable[Response]]:
        direct = self._direct

        async def answered(request: Request, caller: Caller, body: Any) -> Response:
            response: Response = await direct(request, body, caller, request.app.state.service)
            return response

        return answered


class _ReadRequest(Request):
    """A request with a validated body. Query parameters without a value are left out."""

    def __init__(self, scope: Scope, receive: Receive, body: Any) -> None:
        super().__init__(scope, receive)
        self._validated = body

    async def body(self) -> bytes:
        # FastAPI calls json() only for a body that is not empty.
        return b"{}"

    async def json(self) -> Any:
        return self._validated

    @property
    def query_params(self) -> QueryParams:
        return QueryParams([(name, value) for name, value in super().query_params.items() if value])


async def read_body(request: Request, model: type[RequestBody]) -> BaseModel:
    """Read the JSON body as a model.

    Raises ValidationFailed with every invalid field, its value and what is allowed. Also raises UnsupportedMediaType,
    PayloadTooLarge and BodyIncomplete.
    """
    content_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise UnsupportedMediaType(f"The body must be application/json, not {content_type}.")
    try:
        body = await bounded_body(request, model.max_bytes)
        return model.model_validate(_parsed(body))
    except BodyTooLarge:
        raise PayloadTooLarge(f"The body is larger than {model.max_bytes} bytes.") from None
    except BodyEndedEarly:
        raise BodyIncomplete("The body ended early.") from None
    except ValidationError as error:
        raise validation_failed(error.errors(include_url=False, include_context=False)) from None


def _parsed(body: bytes) -> Any:
    """Parse JSON. NaN and infinite numbers are accepted here, so that the model's error can name their field."""
    try:
        return from_json(body.removeprefix(BOM_UTF8) or b"{}", allow_inf_nan=True)
    except ValueError as error:
        raise wrong_value("body", "", f"valid JSON in UTF-8 ({error})") from None


def operation_id(route: APIRoute) -> str:
    """Return the OpenAPI operation id: the method and the words of the path in camelCase."""
    (method,) = route.methods or {"GET"}
    words = "".join(c if c.isalpha() else " " for c in route.path.removeprefix("/api/v1")).split()
    return method.lower() + "".join(word[0].upper() + word[1:] for word in words)
