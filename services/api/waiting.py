"""What the API answers while the service cannot start yet: alive, not ready, and why."""

from __future__ import annotations

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from services.api.app import DatabaseAway
from services.api.http import failure, json_response

CLOSE = {"Connection": "close"}
"""Of every answer: a request on a connection that was kept would be lost when the service itself takes over."""
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def waiting_app(reason: Callable[[], str]) -> Starlette:
    """Every request but /healthz is answered 503; ``reason`` is one sentence for the engineer on call."""

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok", headers=CLOSE)

    async def readyz(_: Request) -> Response:
        answer = json_response({"ready": False, "database": False, "reason": reason()}, 503)
        answer.headers.update(CLOSE)
        return answer

    async def refused(_: Request) -> Response:
        answer = failure(DatabaseAway("The service waits for its database; repeat the request in a few seconds."))
        answer.headers.update(CLOSE)
        return answer

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/{anything:path}", refused, methods=METHODS),
        ]
    )
