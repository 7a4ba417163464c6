"""How a route of the API is served: tracing, authentication, reading of the body, envelope, errors.

A handler is a FastAPI function that returns its resource. ApiRoute puts the resource into the envelope.
"""

from __future__ import annotations

import asyncio
import functools
from codecs import BOM_UTF8
from collections.abc import Awaitable, Callable, Coroutine
from typing import Annotated, Any, TypeVar, get_type_hints
from urllib.parse import unquote_to_bytes

from fastapi import Depends, Path
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import AfterValidator, BaseModel, ValidationError
from pydantic_core import from_json
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, request_response
from starlette.types import ASGIApp, Receive, Scope, Send

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
from services.api.service import OrderService
from services.base.context import HEADER, begin, correlated, received
from services.base.ids import new_id
from services.domain.errors import ApiError
from services.domain.external import id_key
from services.http_server.envelope import BodyEndedEarly, BodyTooLarge, bounded_body, header_text
from services.tracing.port import Tracer

Model = TypeVar("Model", bound=BaseModel)
Served = Callable[[Request], Coroutine[Any, Any, Response]]

SLASH = "\ue000"
"""Stands in a path for a slash that belongs to an id, so that it does not part the path; no id contains it."""

MAX_PARAMETERS = 20
MAX_CORRELATION_ID = 128


class RoutedIds:
    """Middleware: a slash that was sent as ``%2F`` belongs to an id, and HEAD is routed as GET."""

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
    # A NUL, which PostgreSQL refuses, is replaced so that nothing is found.
    return id_key(value.replace(SLASH, "/").replace("\x00", "\ufffd"))


PATH_ID = AfterValidator(_id_of_path)
"""An id in the path, in the form by which ids are compared."""

OrderId = Annotated[str, Path(alias="orderId"), PATH_ID]


class AllowedTo:
    """Dependency: the caller, whose role ApiRoute has checked."""

    def __init__(self, roles: frozenset[str]) -> None:
        self.roles = roles

    async def __call__(self, request: Request) -> Caller:
        caller: Caller = request.state.caller
        return caller


async def _service(request: Request) -> OrderService:
    service: OrderService = request.app.state.service
    return service


Service = Annotated[OrderService, Depends(_service)]
Trader = Annotated[Caller, Depends(AllowedTo(TRADE))]
Operator = Annotated[Caller, Depends(AllowedTo(OPERATE))]


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """``responses`` of a route: what it may answer besides success and the errors that every route has."""
    return {status: {"model": ErrorAnswer} for status in statuses}


class ApiRoute(APIRoute):
    """A route whose answers, errors included, are in the envelope.

    The caller is authenticated before the body is read. A handler with a Trader or an Operator among its parameters
    is for these roles, any other for every role.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if options.get("response_model") is None or not isinstance(options["response_model"], type):
            resource = get_type_hints(endpoint, include_extras=True)["return"]
            options["response_model"] = Answer[resource]  # type: ignore[valid-type]
        # A body without a Content-Type is taken for JSON.
        options["strict_content_type"] = False
        super().__init__(path, self._enveloped(endpoint, options["response_model"]), **options)

    @property
    def roles(self) -> frozenset[str]:
        """Who may call it."""
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
                # The server runs requests in the contexts of earlier ones, so that every request sets its own trace.
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
                # A person's actions are audited under the caller's correlation id, or under a new one.
                with correlated((header_text(request, "x-correlation-id") or new_id())[:MAX_CORRELATION_ID]):
                    return await answered(request, caller, body)
            except ApiError as error:
                return failure(error)
            except RequestValidationError as error:
                places = [problem | {"loc": problem["loc"][1:]} for problem in error.errors()]
                return failure(validation_failed(places))
            except asyncio.CancelledError:
                # Only the HTTP server cancels, once its grace is over; it would answer 500 in plain text.
                return failure(ServiceUnavailable("The service is being stopped; repeat the request in a few seconds."))

        return serve

    def _answered(self, handler: Served) -> Callable[[Request, Caller, Any], Awaitable[Response]]:
        """How a request that was authenticated and read gets its answer."""

        async def answered(request: Request, caller: Caller, body: Any) -> Response:
            request.state.caller = caller
            return await handler(_ReadRequest(request.scope, request.receive, body))

        return answered


class DirectRoute(ApiRoute):
    """Goes round FastAPI's solving of parameters, which costs more than a twentieth of an order's CPU time.

    It is documented like any other route. The handler takes ``(request, body, caller, service)`` and returns a
    response.
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
    """A request whose body has been validated; parameters without a value count as not given."""

    def __init__(self, scope: Scope, receive: Receive, body: Any) -> None:
        super().__init__(scope, receive)
        self._validated = body

    async def body(self) -> bytes:
        # FastAPI calls json() only if there are bytes.
        return b"{}"

    async def json(self) -> Any:
        return self._validated

    @property
    def query_params(self) -> QueryParams:
        return QueryParams([(name, value) for name, value in super().query_params.items() if value])


async def read_body(request: Request, model: type[RequestBody]) -> BaseModel:
    """The JSON body as a model; raises ValidationFailed naming every field, its value and what is allowed."""
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
    """JSON as Python values; numbers stay as they were written, so that an error can name their field."""
    try:
        return from_json(body.removeprefix(BOM_UTF8) or b"{}", allow_inf_nan=True)
    except ValueError as error:
        raise wrong_value("body", "", f"valid JSON in UTF-8 ({error})") from None


def operation_id(route: APIRoute) -> str:
    """The method and the words of the path in camelCase."""
    (method,) = route.methods or {"GET"}
    words = "".join(c if c.isalpha() else " " for c in route.path.removeprefix("/api/v1")).split()
    return method.lower() + "".join(word[0].upper() + word[1:] for word in words)
