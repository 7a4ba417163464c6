"""A reference payment gateway: captures and refunds, each once per order, in a process of its own.

A void refuses every later capture of an order (410), unless the money was captured before.

Tests select an outcome by ``metadata.sandboxPayment``: ``decline`` refuses the payment, ``timeout`` captures it and
answers after ten seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import (
    JSON,
    CheckConstraint,
    Column,
    Connection,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    insert,
    select,
)
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.base.identity import utc_now
from services.domain.external import Identifier
from services.http_server.envelope import (
    Clock,
    Rejection,
    RequestBody,
    answer,
    application,
    query_int,
    read_body,
    wire,
)
from services.http_server.process import listen, serving
from services.sandbox.settings import PaymentSettings, run_process
from state.engine.database import Database, UtcDateTime, opened
from state.engine.rows import change, has_any

CAPTURED = "CAPTURED"
DECLINED = "DECLINED"
REFUNDED = "REFUNDED"
VOIDED = "VOIDED"

SLOW_SECONDS = 10.0
"""Delay of the answer to a ``timeout`` payment, longer than the timeout of every caller."""

metadata = MetaData()

payments = Table(
    "payments",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("order_id", String(128), nullable=False, unique=True),
    Column("user_id", String(128), nullable=False),
    Column("state", String(16), nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("captured_at", UtcDateTime),
    Column("refunded_at", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    CheckConstraint(f"state IN ('{CAPTURED}', '{DECLINED}', '{REFUNDED}')", name="state_is_known"),
    CheckConstraint(f"(captured_at IS NULL) = (state = '{DECLINED}')", name="captured_unless_declined"),
    CheckConstraint(f"(refunded_at IS NOT NULL) = (state = '{REFUNDED}')", name="refunded_at_a_time"),
)

voided = Table(
    "voided",
    metadata,
    Column("order_id", String(128), primary_key=True),
    Column("voided_at", UtcDateTime, nullable=False),
)
"""Orders whose captures are refused."""


class CaptureBody(RequestBody):
    orderId: Identifier
    userId: Identifier
    items: Annotated[list[dict[str, Any]], Field(default_factory=list, max_length=200)]
    metadata: Annotated[dict[str, Any], Field(default_factory=dict)]


def find(connection: Connection, order_id: str) -> Row[Any] | None:
    """The payment of an order, or None."""
    return connection.execute(select(payments).where(payments.c.order_id == order_id)).one_or_none()


def is_voided(connection: Connection, order_id: str) -> bool:
    """Whether captures of the order are refused."""
    return has_any(connection, voided, voided.c.order_id == order_id)


def void(connection: Connection, order_id: str, now: datetime) -> Row[Any] | None:
    """Refuse later captures; a payment made before is left unchanged and returned."""
    payment = find(connection, order_id)
    if payment is None and not is_voided(connection, order_id):
        connection.execute(insert(voided), {"order_id": order_id, "voided_at": now})
    return payment


def capture(
    connection: Connection, order_id: str, user_id: str, metadata: dict[str, Any], now: datetime
) -> tuple[Row[Any] | None, bool]:
    """Capture or decline once per order; returns the payment (None: voided) and whether this call made it."""
    existing = find(connection, order_id)
    if existing is not None:
        return existing, False
    if is_voided(connection, order_id):
        return None, False
    is_declined = metadata.get("sandboxPayment") == "decline"
    row = {"order_id": order_id, "user_id": user_id, "metadata": metadata, "created_at": now}
    outcome = {"state": DECLINED} if is_declined else {"state": CAPTURED, "captured_at": now}
    connection.execute(insert(payments), row | outcome)
    return find(connection, order_id), True


def refund(connection: Connection, order_id: str, now: datetime) -> Row[Any] | None:
    """Refund captured money once; a payment in another state is left unchanged."""
    captured = (payments.c.order_id == order_id, payments.c.state == CAPTURED)
    change(connection, payments, *captured, state=REFUNDED, refunded_at=now)
    return find(connection, order_id)


def page(connection: Connection, after_id: int, limit: int) -> list[Row[Any]]:
    """Payments after the given id, oldest first."""
    statement = select(payments).where(payments.c.id > after_id).order_by(payments.c.id).limit(limit)
    return list(connection.execute(statement))


class PaymentApi:
    """The endpoints; every call is idempotent per order."""

    def __init__(
        self, database: Database, clock: Clock, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._database = database
        self._clock = clock
        self._sleep = sleep

    def application(self) -> Starlette:
        """All routes of the gateway."""
        return application(
            [
                Route("/api/v1/payments", self.list_payments, methods=["GET"]),
                Route("/api/v1/payments/capture", self.capture, methods=["POST"]),
                Route("/api/v1/payments/{order_id:path}", self.show, methods=["GET"]),
                Route("/api/v1/payments/{order_id:path}/refund", self.refund, methods=["POST"]),
                Route("/api/v1/payments/{order_id:path}/void", self.void, methods=["POST"]),
                Route("/healthz", self.healthz, methods=["GET"]),
            ],
            self._clock,
        )

    async def capture(self, request: Request) -> Response:
        body = await read_body(request, CaptureBody)
        now = self._clock()
        row, is_new = await self._database.write(
            lambda connection: capture(connection, body.orderId, body.userId, body.metadata, now)
        )
        if row is None:
            raise Rejection(410, "PAYMENT_VOIDED", "Captures of this order are refused.", {"orderId": body.orderId})
        if row.state == DECLINED:
            raise Rejection(402, "PAYMENT_DECLINED", "The payment was declined.", {"orderId": body.orderId})
        if is_new and body.metadata.get("sandboxPayment") == "timeout":
            await self._sleep(SLOW_SECONDS)
        return answer(_view(row), now)

    async def show(self, request: Request) -> Response:
        order_id = request.path_params["order_id"]
        row, fenced = await self._database.read(lambda c: (find(c, order_id), is_voided(c, order_id)))
        view = _voided(order_id) if row is None and fenced else _view(_existing(row, order_id))
        return answer(view, self._clock())

    async def refund(self, request: Request) -> Response:
        order_id = request.path_params["order_id"]
        now = self._clock()
        row = _existing(await self._database.write(lambda connection: refund(connection, order_id, now)), order_id)
        if row.state == DECLINED:
            raise Rejection(409, "PAYMENT_NOT_CAPTURED", "Nothing was captured for this order.", {"orderId": order_id})
        return answer(_view(row), now)

    async def void(self, request: Request) -> Response:
        order_id = request.path_params["order_id"]
        now = self._clock()
        row = await self._database.write(lambda connection: void(connection, order_id, now))
        return answer(_voided(order_id) if row is None else _view(row), now)

    async def list_payments(self, request: Request) -> Response:
        limit = query_int(request, "limit", default=100, low=1, high=1000)
        after_id = query_int(request, "cursor", default=0, low=0, high=2**31)
        rows = await self._database.read(lambda connection: page(connection, after_id, limit + 1))
        more = len(rows) > limit
        cursor = str(rows[limit - 1].id) if more else None
        return answer({"items": [_view(row) for row in rows[:limit]], "nextCursor": cursor}, self._clock())

    async def healthz(self, _request: Request) -> Response:
        return answer({"state": "ok"}, self._clock())


def _existing(row: Row[Any] | None, order_id: str) -> Row[Any]:
    if row is None:
        raise Rejection(404, "PAYMENT_NOT_FOUND", f"No payment of order {order_id!r} is known.", {"orderId": order_id})
    return row


def _voided(order_id: str) -> dict[str, Any]:
    return {"orderId": order_id, "state": VOIDED, "capturedAt": None, "refundedAt": None}


def _view(row: Row[Any]) -> dict[str, Any]:
    return wire(row, ("order_id", "state", "captured_at", "refunded_at"))


async def serve(
    settings: PaymentSettings, stop: asyncio.Event, *, on_listening: Callable[[str], None] = lambda _url: None
) -> None:
    """Serve until ``stop`` is set; calls ``on_listening`` with the base URL."""
    listener = listen(settings.host, settings.port)
    with opened(settings.database_url) as database:
        metadata.create_all(database.engine)
        async with serving(PaymentApi(database, utc_now).application(), listener) as url:
            on_listening(url)
            await stop.wait()


if __name__ == "__main__":
    run_process(PaymentSettings, serve)
