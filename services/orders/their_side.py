"""Asking the Inventory Service what it knows of an order before a person acts on it; the answer is kept.

Source: console, "what none of them has" 1. The seed's Inventory Service has no such question; one that
cannot answer is told apart from one that is away, and neither keeps a person from acting.
"""

from __future__ import annotations

import asyncio

from services.domain.both_sides import CANNOT_ANSWER, NO_ANSWER, Statement, is_fresh
from services.domain.conservation import StockState
from services.domain.errors import NotFound
from services.domain.order import Order
from services.inventory.witness import InventoryWitness
from services.orders.context import OrdersContext
from state import orders, their_answers
from state.their_answers import TheirAnswer

PATIENCE_SECONDS = 3.0
"""A person waits for the answer; after this long the case is worked without it."""


class TheirSide:
    """Asks, remembers, and says how fresh what it remembers is."""

    def __init__(
        self, context: OrdersContext, witness: InventoryWitness, *, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self._context = context
        self._witness = witness
        self._patience_seconds = patience_seconds

    async def ask(self, order_id: str, *, asked_by: str) -> TheirAnswer:
        """Ask now and keep the answer; raises NotFound for an unknown order."""
        if await self._context.database.read(lambda c: orders.get(c, order_id)) is None:
            raise NotFound("order", order_id)
        asked_at = self._context.clock()
        try:
            async with asyncio.timeout(self._patience_seconds):
                statement = await self._witness.ask(order_id)
        except TimeoutError:
            statement = Statement(None, problem=NO_ANSWER)
        answer = TheirAnswer(order_id, statement, asked_at, asked_by)
        await self._context.database.write(lambda c: their_answers.note(c, answer))
        return answer

    async def now(self, order: Order, *, asked_by: str) -> StockState | None:
        """What they say now: a fresh answer is used, an older one asked for again; None when they do not say."""
        known = await self._context.database.read(lambda c: their_answers.get(c, order.order_id))
        if known is None or not is_fresh(known.asked_at, self._context.clock(), order.updated_at):
            known = await self.ask(order.order_id, asked_by=asked_by)
        return known.statement.stock


def in_words(statement: Statement) -> str:
    """The answer as the outcome of a command."""
    if statement.stock is None and statement.said:
        return f"The Inventory Service says {statement.said}, a word that is not known here"
    if statement.problem == CANNOT_ANSWER:
        return "The Inventory Service has no such question"
    if statement.stock is None:
        return "The Inventory Service did not answer"
    return f"The Inventory Service says {statement.said or statement.stock}"
