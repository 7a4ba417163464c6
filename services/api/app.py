"""The ASGI application of the service: the routes of the contract, metrics and health."""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus

from sqlalchemy.exc import DBAPIError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Match, Route

from services.api import schemas
from services.api.alerts import alert_endpoints
from services.api.auth import OPERATE, TRADE, Authenticator
from services.api.endpoints import ITEMS_BODY_BYTES, Call, Endpoint, SlashesInIds
from services.api.handlers import Handlers
from services.api.http import RouteError, failure, header_text, json_response, read_body, read_query
from services.api.openapi import document
from services.api.outbox import OutboxHandlers, outbox_endpoints
from services.api.reviews import ReviewHandlers
from services.api.service import OrderService
from services.base.context import HEADER, begin, correlated, received
from services.base.ids import new_id
from services.domain.errors import ApiError
from services.orders.placement import Overloaded
from services.tracing.port import Tracer
from state.engine.failures import failure_of, is_passing
from state.engine.transactions import DatabaseClosed, DatabaseOverloaded, DatabaseReplaced

logger = logging.getLogger("holdfast.api")

MAX_CORRELATION_ID = 128


class DatabaseAway(ApiError):
    """The request may be repeated, under the same idempotency key, as soon as the database is back."""

    code = "SERVICE_UNAVAILABLE"
    retryable = True


class Stopping(ApiError):
    """The process ends before the answer is known; an order under way goes on, here or after the next start."""

    code = "SERVICE_UNAVAILABLE"
    retryable = True


def endpoints(handlers: Handlers) -> list[Endpoint]:
    """Every endpoint below /api but the OpenAPI document itself."""
    order, orders = "/api/v1/orders/{orderId}", "/api/v1/orders"
    return [
        Endpoint(
            "POST",
            orders,
            "Place an order",
            handlers.place_order,
            {201: schemas.OrderView, 202: schemas.OrderView},
            body=schemas.PlaceOrderBody,
            max_body_bytes=ITEMS_BODY_BYTES,
            errors=(402, 408, 409, 422, 503),
            roles=TRADE,
            headers=("Idempotency-Key",),
        ),
        Endpoint(
            "GET",
            orders,
            "Orders, newest first",
            handlers.list_orders,
            {200: schemas.OrderView},
            query=schemas.OrdersQuery,
            is_list=True,
        ),
        Endpoint("GET", order, "One order", handlers.get_order, {200: schemas.OrderView}),
        Endpoint(
            "GET",
            f"{order}/timeline",
            "Every step of one order, oldest first",
            handlers.get_timeline,
            {200: schemas.TimelineEntryView},
            is_list=True,
        ),
        Endpoint(
            "POST",
            f"{order}/cancel",
            "Cancel an order",
            handlers.cancel_order,
            {200: schemas.OrderView},
            body=schemas.CancelBody,
            errors=(409,),
            roles=TRADE,
        ),
        Endpoint(
            "POST",
            f"{order}/return",
            "Return items of an order",
            handlers.return_items,
            {200: schemas.ReturnView},
            body=schemas.ReturnBody,
            max_body_bytes=ITEMS_BODY_BYTES,
            errors=(409, 422),
            roles=TRADE,
        ),
        *_review_endpoints(ReviewHandlers(handlers.service)),
        *_operator_endpoints(handlers),
        *alert_endpoints(handlers.alerts),
        *outbox_endpoints(OutboxHandlers(handlers.service)),
    ]


def _review_endpoints(handlers: ReviewHandlers) -> list[Endpoint]:
    return [
        Endpoint(
            "GET",
            "/api/v1/reviews",
            "The manual-review queue",
            handlers.list_reviews,
            {200: schemas.ReviewView},
            query=schemas.ReviewsQuery,
            is_list=True,
        ),
        Endpoint(
            "POST",
            "/api/v1/reviews/{reviewId}/claim",
            "Take a case; the claim ends by itself",
            handlers.claim_review,
            {200: schemas.ReviewView},
            body=schemas.ClaimBody,
            errors=(409,),
            roles=OPERATE,
        ),
        Endpoint(
            "POST",
            "/api/v1/reviews/{reviewId}/release-claim",
            "Hand a case back",
            handlers.release_claim,
            {200: schemas.ReviewView},
            errors=(409,),
            roles=OPERATE,
        ),
        Endpoint(
            "POST",
            "/api/v1/reviews/{reviewId}/resolve",
            "Resolve a case",
            handlers.resolve_review,
            {200: schemas.ReviewView},
            body=schemas.ResolveBody,
            errors=(408, 409, 422, 503),
            roles=OPERATE,
        ),
    ]


def _operator_endpoints(handlers: Handlers) -> list[Endpoint]:
    return [
        Endpoint(
            "GET",
            "/api/v1/releases",
            "Release jobs",
            handlers.list_releases,
            {200: schemas.ReleaseView},
            query=schemas.ReleasesQuery,
            is_list=True,
        ),
        Endpoint(
            "POST",
            "/api/v1/releases/retry",
            "Retry several release jobs now",
            handlers.retry_releases,
            {202: schemas.ReleaseView},
            body=schemas.RetryReleasesBody,
            max_body_bytes=ITEMS_BODY_BYTES,
            is_list=True,
            roles=OPERATE,
        ),
        Endpoint(
            "POST",
            "/api/v1/releases/{orderId}/retry",
            "Retry a release job now",
            handlers.retry_release,
            {202: schemas.ReleaseView},
            query=schemas.WaitQuery,
            roles=OPERATE,
        ),
        Endpoint(
            "GET",
            "/api/v1/operations",
            "Bulk operations, newest first",
            handlers.operations.list_operations,
            {200: schemas.OperationView},
            query=schemas.ListQuery,
            is_list=True,
        ),
        Endpoint(
            "GET",
            "/api/v1/operations/{operationId}",
            "One bulk operation with the ledger of its items",
            handlers.operations.get_operation,
            {200: schemas.OperationLedgerView},
        ),
        Endpoint(
            "GET",
            "/api/v1/breakers",
            "Live state of the circuit breakers",
            handlers.list_breakers,
            {200: schemas.BreakerView},
            is_list=True,
        ),
        Endpoint(
            "PUT",
            "/api/v1/breakers/{name}/override",
            "Force a breaker open or closed for a while",
            handlers.force_breaker,
            {200: schemas.BreakerView},
            body=schemas.OverrideBody,
            roles=OPERATE,
        ),
        Endpoint(
            "DELETE",
            "/api/v1/breakers/{name}/override",
            "End a forced state early",
            handlers.end_breaker_override,
            {200: schemas.BreakerView},
            roles=OPERATE,
        ),
        Endpoint(
            "GET",
            "/api/v1/products",
            "The availability cache",
            handlers.list_products,
            {200: schemas.ProductView},
            query=schemas.ProductsQuery,
            is_list=True,
        ),
        Endpoint(
            "GET",
            "/api/v1/dead-letters",
            "Events that could not be handled",
            handlers.list_dead_letters,
            {200: schemas.DeadLetterView},
            query=schemas.DeadLettersQuery,
            is_list=True,
        ),
        Endpoint(
            "GET",
            "/api/v1/dead-letters/{id}",
            "One event that could not be handled, with its whole payload",
            handlers.get_dead_letter,
            {200: schemas.DeadLetterView},
        ),
        Endpoint(
            "POST",
            "/api/v1/dead-letters/{id}/replay",
            "Run the handler on a dead letter again",
            handlers.replay_dead_letter,
            {200: schemas.DeadLetterView},
            errors=(409,),
            roles=OPERATE,
        ),
        Endpoint(
            "POST",
            "/api/v1/dead-letters/{id}/discard",
            "Give a dead letter up",
            handlers.discard_dead_letter,
            {200: schemas.DeadLetterView},
            body=schemas.NoteBody,
            errors=(409,),
            roles=OPERATE,
        ),
        Endpoint(
            "GET",
            "/api/v1/differences",
            "What does not add up between the services",
            handlers.list_differences,
            {200: schemas.DifferenceView},
            query=schemas.DifferencesQuery,
            is_list=True,
        ),
        Endpoint(
            "POST",
            "/api/v1/differences/{orderId}/{kind}/compensate",
            "Apply the compensation that is offered for a difference",
            handlers.compensate,
            {200: schemas.DifferenceView},
            body=schemas.ReasonBody,
            errors=(409,),
            roles=OPERATE,
        ),
        Endpoint(
            "GET",
            "/api/v1/audit",
            "Who did what, when and why",
            handlers.list_audit,
            {200: schemas.AuditEntryView},
            query=schemas.ListQuery,
            is_list=True,
        ),
    ]


def create_app(
    service: OrderService, authenticator: Authenticator, version: str, tracer: Tracer | None = None
) -> Starlette:
    """The application; errors of every kind are answered in the contract's form."""
    table = endpoints(Handlers(service))
    description = json_response(document(table, version)).body

    async def openapi(_: Request) -> Response:
        return Response(description, media_type="application/json")

    async def metrics(_: Request) -> Response:
        await service.refresh_gauges()
        return Response(service.metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok")

    async def readyz(_: Request) -> Response:
        parts = await service.readiness()
        is_ready = all(works for works in parts.values() if isinstance(works, bool))
        return json_response({"ready": is_ready, **parts}, 200 if is_ready else 503)

    return Starlette(
        routes=[
            *[_route(endpoint, authenticator, tracer) for endpoint in table],
            Route("/api/v1/openapi.json", openapi),
            Route("/metrics", metrics),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
        ],
        middleware=[Middleware(SlashesInIds)],
        exception_handlers={
            ApiError: _api_error,
            HTTPException: _http_error,
            DatabaseOverloaded: _overloaded,
            DatabaseClosed: _database_away,
            DatabaseReplaced: _database_away,
            DBAPIError: _database_failed,
            Exception: _unexpected,
        },
    )


def _route(endpoint: Endpoint, authenticator: Authenticator, tracer: Tracer | None) -> Route:
    async def serve(request: Request) -> Response:
        if tracer is None:
            # The caller's trace is passed on as it came; the server runs requests in contexts of earlier ones.
            begin(request.headers.get(HEADER))
        try:
            caller = authenticator.caller(request, endpoint.roles)
            body = await read_body(request, endpoint.body, endpoint.max_body_bytes) if endpoint.body else None
            query = read_query(request, endpoint.query) if endpoint.query else None
            call = Call(request, caller, body, query)
            if not (caller.is_person and endpoint.method != "GET"):
                return await endpoint.handler(call)
            # What a person does is audited under the id that the caller gave, or under one of its own.
            with correlated((header_text(request, "x-correlation-id") or new_id())[:MAX_CORRELATION_ID]):
                return await endpoint.handler(call)
        except ApiError as error:
            # Answered here: the middleware that would do it costs as much as the routing.
            return failure(error)
        except asyncio.CancelledError:
            # Only the HTTP server cancels, once its grace is over; it would answer 500 in plain text.
            return failure(Stopping("The service is being stopped; repeat the request in a few seconds."))

    async def traced(request: Request) -> Response:
        assert tracer is not None  # noqa: S101 - routed only with one
        parent = received(request.headers.get(HEADER))
        with tracer.request(endpoint.method, endpoint.path, request.url.path, parent) as answered:
            response = await serve(request)
            answered(response.status_code)
            return response

    return Route(endpoint.path, traced if tracer else serve, methods=[endpoint.method])


async def _api_error(_: Request, error: Exception) -> Response:
    return failure(error) if isinstance(error, ApiError) else failure(ApiError("Internal error."))


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    response = failure(RouteError(status, str(getattr(error, "detail", error))))
    response.headers.update(getattr(error, "headers", None) or {})
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        # The router names the methods of the first route that fits; a path may have several.
        response.headers["Allow"] = ", ".join(_allowed_methods(request))
    return response


def _allowed_methods(request: Request) -> list[str]:
    fitting = (route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE)
    return sorted({method for route in fitting for method in route.methods or ()})


async def _overloaded(_: Request, error: Exception) -> Response:
    return failure(Overloaded(f"The database has too much to do: {error}; come back in a few seconds."))


async def _database_away(request: Request, error: Exception) -> Response:
    logger.warning("database_away", extra={"path": request.url.path, "error": repr(error)})
    return failure(DatabaseAway("The database cannot be reached; come back in a few seconds."))


async def _database_failed(request: Request, error: Exception) -> Response:
    if not is_passing(error):
        return await _unexpected(request, error)
    sentence = failure_of(error).sentence
    logger.warning("database_away", extra={"path": request.url.path, "reason": sentence, "error": repr(error)})
    return failure(DatabaseAway(f"{sentence} Come back in a few seconds."))


async def _unexpected(request: Request, error: Exception) -> Response:
    logger.error("request_failed", extra={"path": request.url.path}, exc_info=error)
    return failure(ApiError("The request could not be served; the error was logged."))
