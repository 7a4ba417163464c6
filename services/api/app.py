"""The ASGI application of the service: the routes of the contract, their documentation, metrics and health."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus

from fastapi import FastAPI
from sqlalchemy.exc import DBAPIError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Match, Route

from services.api.auth import Authenticator
from services.api.envelope import RouteError, ServiceUnavailable, failure
from services.api.openapi import docs_routes
from services.api.routes import (
    alerts,
    breakers,
    bulk_jobs,
    events,
    orders,
    records,
    releases,
    reviews,
    timeline,
)
from services.api.routing import OrderService, RoutedIds
from services.domain.errors import ApiError
from services.http_server.envelope import json_response
from services.orders.placement import Overloaded
from services.tracing.port import Tracer
from state.engine.transactions import DatabaseClosed, DatabaseOverloaded, DatabaseReplaced, failure_of, is_passing

logger = logging.getLogger("holdfast.api")

ROUTERS = (
    orders.direct,
    orders.router,
    timeline.router,
    reviews.router,
    releases.router,
    bulk_jobs.router,
    breakers.router,
    events.router,
    alerts.router,
    records.router,
)

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
CLOSE = {"Connection": "close"}
"""Headers of every answer of waiting_app(): the real service does not take over its open connections."""


def create_app(
    service: OrderService, authenticator: Authenticator, version: str, tracer: Tracer | None = None
) -> FastAPI:
    """Return the application. It answers every error in the envelope of the contract."""
    app = FastAPI(
        title="Holdfast",
        version=version,
        description="Order and inventory integration service.",
        openapi_url=None,
        middleware=[Middleware(RoutedIds)],
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
    app.state.service, app.state.authenticator, app.state.tracer = service, authenticator, tracer
    # Add the routes directly, because include_router() would build the handler of a route at each request.
    app.router.routes[:0] = [route for router in ROUTERS for route in router.routes]
    app.router.routes += [*docs_routes(app), *_routes_for_machines(service)]
    return app


def _routes_for_machines(service: OrderService) -> list[BaseRoute]:
    async def metrics(_: Request) -> Response:
        await service.recorder.refresh_gauges()
        return Response(service.metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok")

    async def readyz(_: Request) -> Response:
        parts = await service.readiness()
        is_ready = all(works for works in parts.values() if isinstance(works, bool))
        return json_response({"ready": is_ready, **parts}, 200 if is_ready else 503)

    return [
        Route(bulk_jobs.FORMER_PATH, bulk_jobs.moved),
        Route(f"{bulk_jobs.FORMER_PATH}/{{jobId}}", bulk_jobs.moved),
        Route("/metrics", metrics),
        Route("/healthz", healthz),
        Route("/readyz", readyz),
    ]


def waiting_app(reason: Callable[[], str]) -> Starlette:
    """Return an application that answers 503 to every request except /healthz.

    ``reason`` returns one sentence for the engineer on call.
    """

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok", headers=CLOSE)

    async def readyz(_: Request) -> Response:
        answer = json_response({"ready": False, "database": False, "reason": reason()}, 503)
        answer.headers.update(CLOSE)
        return answer

    async def refused(_: Request) -> Response:
        message = "The service waits for its database; repeat the request in a few seconds."
        answer = failure(ServiceUnavailable(message))
        answer.headers.update(CLOSE)
        return answer

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/{anything:path}", refused, methods=METHODS),
        ]
    )


async def _api_error(_: Request, error: Exception) -> Response:
    return failure(error) if isinstance(error, ApiError) else failure(ApiError("Internal error."))


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    response = failure(RouteError(status, str(getattr(error, "detail", error))))
    response.headers.update(getattr(error, "headers", None) or {})
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        # The router lists only the methods of the first matching route, but a path may have several routes.
        response.headers["Allow"] = ", ".join(_allowed_methods(request))
    return response


def _allowed_methods(request: Request) -> list[str]:
    fitting = (route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE)
    methods = {method for route in fitting for method in getattr(route, "methods", None) or ()}
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()))


async def _overloaded(_: Request, error: Exception) -> Response:
    return failure(Overloaded(f"The database has too much to do: {error}; come back in a few seconds."))


async def _database_away(request: Request, error: Exception) -> Response:
    logger.warning("database_away", extra={"path": request.url.path, "error": repr(error)})
    return failure(ServiceUnavailable("The database cannot be reached; come back in a few seconds."))


async def _database_failed(request: Request, error: Exception) -> Response:
    if not is_passing(error):
        return await _unexpected(request, error)
    sentence = failure_of(error).sentence
    logger.warning("database_away", extra={"path": request.url.path, "reason": sentence, "error": repr(error)})
    return failure(ServiceUnavailable(f"{sentence} Come back in a few seconds."))


async def _unexpected(request: Request, error: Exception) -> Response:
    logger.error("request_failed", extra={"path": request.url.path}, exc_info=error)
    return failure(ApiError("The request could not be served; the error was logged."))
