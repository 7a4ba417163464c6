"""Keeping steps that raise something unforeseen from stopping anything else: each is counted on its order."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import TypeVar

from sqlalchemy import Connection

from services.domain.orders import failed_steps
from services.domain.orders.lifecycle import Change
from services.domain.orders.model import Order
from services.orders.context import OrdersContext
from state.engine.failures import is_of_database
from state.orders import StaleOrder

logger = logging.getLogger("holdfast.steps")

T = TypeVar("T")


async def counted(context: OrdersContext, order_id: str, step: Awaitable[T]) -> T:
    """Await the step; what it raises is raised, after it was counted on the order. StaleOrder is not counted."""
    try:
        return await step
    except StaleOrder:
        raise
    except Exception as error:
        await note_failure(context, order_id, error)
        raise


async def note_failure(context: OrdersContext, order_id: str, error: Exception) -> None:
    """Count a failed step of an order that is still to be carried on; raises nothing.

    A database that cannot be used says nothing about the order and is not counted: the order is due again when the
    claim of its worker ends.
    """
    logger.warning("order_step_failed", extra={"order_id": order_id}, exc_info=error)
    if is_of_database(error):
        return
    reason = failed_steps.reason_of(error)

    def decide(_: Connection, order: Order) -> Change | None:
        # Without a due time the order is at rest: somebody else has carried it on meanwhile.
        return None if order.due_at is None else failed_steps.failed(order, reason, context.clock())

    try:
        await context.decide(order_id, decide)
    except Exception as failure:  # noqa: BLE001 - a boundary: the failure that is noted counts, not that of noting
        logger.warning("order_step_failure_not_noted", extra={"order_id": order_id, "error": repr(failure)})
