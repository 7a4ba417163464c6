"""Places orders: the row is written before any call to another service, and a repeated request repeats nothing.

A request that was refused for a transient reason is retried as the same order when it is sent again.
Source: requirements 4.1; contract 3, POST /api/v1/orders; docs/adr/0025.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from services.base.context import current_traceparent, trace_id
from services.domain.errors import ApiError, IdempotencyKeyReused
from services.domain.external import id_key
from services.domain.orders import lifecycle
from services.domain.orders.changes import TRANSITION, TimelineEntry
from services.domain.orders.model import Line, Order, OrderStatus, PaymentStatus, aggregated
from services.orders.fulfilment import OrderFulfilment
from services.unit_of_work import OrdersContext, Recorded, UnitOfWork, counted
from state import orders, releases
from state.orders import KeyTaken

MAX_IN_FLIGHT = 1000
"""Orders that one replica places at a time; further requests raise Overloaded."""


LOOK_SECONDS = 0.05
"""Pause between two reads of an order that another replica places."""


@dataclass(frozen=True, slots=True)
class PlaceOrder:
    """The command of POST /api/v1/orders."""

    user_id: str
    lines: tuple[Line, ...]
    customer_priority: str = "standard"
    order_id: str | None = None
    metadata: dict[str, Any] | None = None
    idempotency_key: str | None = None
    caller: str = ""
    """Sender of the idempotency key; keys are unique per caller."""


class Overloaded(ApiError):
    """This replica is placing MAX_IN_FLIGHT orders; nothing was written."""

    code = "SERVICE_OVERLOADED"
    retryable = True


class OrderPlacement:
    """Places orders; an order in flight continues after its client has disconnected."""

    def __init__(
        self,
        context: OrdersContext,
        fulfilment: OrderFulfilment,
        step_deadline: timedelta,
        patience: timedelta | None = None,
    ) -> None:
        """``patience``: how long a repeated request waits for a run on another replica; None: the step deadline."""
        self._context = context
        self._fulfilment = fulfilment
        self._step_deadline = step_deadline
        self._patience = step_deadline if patience is None else patience
        self._in_flight: dict[str, asyncio.Task[Order]] = {}
        self._arriving = 0
        """Number of orders whose rows are being written."""

    async def place(self, command: PlaceOrder) -> Order:
        """Place the order and return it when no step is due: placed, waiting or rejected (see its ``failure``).

        A request with a known idempotency key (or order id) and the same body returns the order of the first request.
        An order that was refused for a transient reason is retried first. Another body raises IdempotencyKeyReused.
        """
        if len(self._in_flight) + self._arriving >= MAX_IN_FLIGHT:
            raise Overloaded(f"{MAX_IN_FLIGHT} orders are being placed; come back in a second.")
        order = self._new_order(command)
        digest = _digest(order)
        self._arriving += 1
        try:
            await self._context.unit_of_work(lambda unit: _insert(unit, order, digest, command), tries=1)
        except (IntegrityError, KeyTaken):
            return await self._repeated(command, order.order_id, digest)
        finally:
            self._arriving -= 1
        return await self._run(order)

    async def drain(self, timeout_seconds: float) -> None:
        """Wait for orders in flight; the sweeper of the next start settles those that take longer."""
        if self._in_flight:
            await asyncio.wait(self._in_flight.values(), timeout=timeout_seconds)

    async def _run(self, order: Order) -> Order:
        task = asyncio.ensure_future(counted(self._context, order.order_id, self._fulfilment.place(order)))
        self._in_flight[order.order_id] = task
        task.add_done_callback(lambda _: self._in_flight.pop(order.order_id, None))
        return await asyncio.shield(task)

    async def _repeated(self, command: PlaceOrder, order_id: str, digest: str) -> Order:
        key = command.idempotency_key
        known = await self._context.database.read(lambda c: _known(c, order_id, command))
        if known is None or known != (order_id if command.order_id else known[0], digest):
            subject = {"idempotencyKey": key} if key else {"orderId": order_id}
            raise IdempotencyKeyReused("This key was used for another order before.", subject)
        running = self._in_flight.get(known[0])
        if running is not None:
            return await asyncio.shield(running)
        order = await self._context.get(known[0])
        if lifecycle.may_try_again(order):
            again = await self._try_again(order.order_id)
            if again is not None:
                return await self._run(again)
            order = await self._context.get(order.order_id)
        return await self._at_rest(order)

    async def _try_again(self, order_id: str) -> Order | None:
        """Start the rejected order again; None if another request has started it or it may not start again."""

        def work(unit: UnitOfWork) -> Order | None:
            order = orders.get(unit.connection, order_id)
            if order is None or not lifecycle.may_try_again(order):
                return None
            if releases.get(unit.connection, order_id) is not None:
                return None
            at = self._context.clock()
            return unit.record(order, lifecycle.try_again(order, at, at + self._step_deadline))

        return await self._context.unit_of_work(work)

    async def _at_rest(self, order: Order) -> Order:
        """Wait until the run of the order on any replica ends; after the patience, return the stored order."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._patience.total_seconds()
        while _is_under_way(order) and loop.time() < until:
            running = self._in_flight.get(order.order_id)
            if running is not None:
                return await asyncio.shield(running)
            await asyncio.sleep(LOOK_SECONDS)
            order = await self._context.get(order.order_id)
        return order

    def _new_order(self, command: PlaceOrder) -> Order:
        at = self._context.clock()
        return Order(
            order_id=id_key(command.order_id or self._context.new_id()),
            user_id=command.user_id,
            customer_priority=command.customer_priority,
            lines=aggregated(command.lines),
            created_at=at,
            updated_at=at,
            metadata=command.metadata,
            due_at=at + self._step_deadline,
            traceparent=current_traceparent(),
        )


def _insert(unit: UnitOfWork, order: Order, digest: str, command: PlaceOrder) -> None:
    """Store the order; raises IntegrityError for a known order id and KeyTaken for a known idempotency key."""
    orders.add(unit.connection, order, digest)
    if (key := command.idempotency_key) is not None:
        orders.remember_key(unit.connection, key, command.caller, order.order_id, digest, order.created_at)
    details = {"to": order.status, "items": [line.wire() for line in order.lines]}
    if order.traceparent is not None:
        details["traceId"] = trace_id(order.traceparent)
    entry = TimelineEntry(order.created_at, TRANSITION, "Order received", details)
    orders.add_timeline(unit.connection, order.order_id, [entry])
    unit.recorded.append(Recorded(order, (order.status,)))


def _is_under_way(order: Order) -> bool:
    """Whether the request that places the order is still running."""
    if order.status == OrderStatus.PAYING:
        return order.payment_status == PaymentStatus.NONE
    return order.status in (OrderStatus.RECEIVED, OrderStatus.RESERVING)


def _known(connection: Connection, order_id: str, command: PlaceOrder) -> tuple[str, str] | None:
    if command.idempotency_key is not None:
        found = orders.find_key(connection, command.idempotency_key, command.caller)
        if found is not None:
            return found
    digest = orders.request_hash(connection, order_id)
    return (order_id, digest) if digest else None


def _digest(order: Order) -> str:
    """SHA-256 of the request without the order id, because a repeated request may lack the id."""
    body = {
        "userId": order.user_id,
        "customerPriority": order.customer_priority,
        "items": sorted((*line.sku, line.quantity) for line in order.lines),
        "metadata": order.metadata,
    }
    return hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()
