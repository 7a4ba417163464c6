"""Cancelling and returning orders. Source: requirements 4.2 and 2.2; contract 3."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from services.domain.errors import IdempotencyKeyReused
from services.domain.external import id_key
from services.domain.orders import ending
from services.domain.orders.changes import Change
from services.domain.orders.model import Line, Order, OrderStatus, aggregated
from services.unit_of_work import OrdersContext, action_entry
from state import audit, orders
from state.audit import AuditEntry


class OrderCancellation:
    """The use case of POST /api/v1/orders/{orderId}/cancel and of the console's button."""

    def __init__(self, context: OrdersContext) -> None:
        self._context = context

    async def cancel(self, order_id: str, reason: str, *, actor: str, by_person: bool = False) -> Order:
        """Cancel the order; a repeated call returns it unchanged. Raises NotFound, InvalidState.

        ``by_person`` writes an audit entry; the cancel of a customer is recorded on the timeline only.
        """

        def decide(connection: Connection, order: Order) -> Change | None:
            if order.status == OrderStatus.CANCELLED or _is_cancelling(order):
                return None
            at = self._context.clock()
            change = ending.cancel(order, reason, at)
            if by_person:
                changed = [name for name in ("status", "inventory_status", "payment_status") if name in change.values]
                before: dict[str, Any] = {name: getattr(order, name) for name in changed}
                after: dict[str, Any] = {name: change.values[name] for name in changed}
                _audit(connection, order, at, actor, "CANCEL_ORDER", reason, before, after)
            entry = action_entry(at, "Cancel order", actor, reason)
            return Change({}, (entry,)).then(change)

        return await self._context.decide(order_id, decide, actor=actor)


@dataclass(frozen=True, slots=True)
class ReturnItems:
    """The command of POST /api/v1/orders/{orderId}/return."""

    order_id: str
    lines: tuple[Line, ...]
    reason: str
    restockable: bool = True
    return_id: str | None = None


class OrderReturns:
    """Records returns; each returnId takes effect once, and no line is returned more often than it was bought."""

    def __init__(self, context: OrdersContext) -> None:
        self._context = context

    async def take_back(self, command: ReturnItems, *, actor: str, by_person: bool = False) -> tuple[Order, str]:
        """Record the return; returns the changed order and the returnId.

        Raises NotFound, InvalidState, IdempotencyKeyReused. ``by_person`` writes an audit entry as well.
        """
        return_id = id_key(command.return_id or self._context.new_id())
        lines = aggregated(command.lines)
        items = [line.wire() for line in lines]
        digest = _digest(command.order_id, lines)

        def decide(connection: Connection, order: Order) -> Change | None:
            known = orders.find_return(connection, order.order_id, return_id)
            if known is not None:
                if known != digest:
                    raise IdempotencyKeyReused(
                        "This returnId was used for another return of the order.", {"returnId": return_id}
                    )
                return None
            at = self._context.clock()
            reason, restockable = command.reason, command.restockable
            change = ending.return_lines(
                order, lines, return_id=return_id, reason=reason, restockable=restockable, at=at
            )
            bought = {line.sku: line for line in order.lines}
            returned = [replace(bought[line.sku], quantity=line.quantity) for line in lines]
            orders.add_returned(connection, order.order_id, returned)
            orders.add_return(
                connection, return_id, order.order_id, digest, items, reason=reason, restockable=restockable, at=at
            )
            if by_person:
                after = {"status": change.values.get("status", order.status), "returnId": return_id, "items": items}
                before = {"status": order.status}
                _audit(connection, order, at, actor, "RETURN_ITEMS", reason, before, after)
            return Change({}, (action_entry(at, "Return items", actor, reason),)).then(change)

        try:
            await self._context.decide(command.order_id, decide, actor=actor)
        except IntegrityError:
            # A concurrent return was committed first, so decide again on the changed order.
            await self._context.decide(command.order_id, decide, actor=actor)
        return await self._context.get(command.order_id), return_id


def _is_cancelling(order: Order) -> bool:
    return order.status == OrderStatus.PAYING and order.cancel_reason is not None


def _audit(
    connection: Connection,
    order: Order,
    at: datetime,
    actor: str,
    action: str,
    reason: str,
    before: dict[str, Any],
    after: dict[str, Any],
) -> None:
    target = f"order:{order.order_id}"
    audit.add(connection, AuditEntry(at, actor, action, target, order.order_id, reason, before, after))


def _digest(order_id: str, lines: tuple[Line, ...]) -> str:
    body = [order_id, sorted((*line.sku, line.quantity) for line in lines)]
    return hashlib.sha256(orjson.dumps(body)).hexdigest()
