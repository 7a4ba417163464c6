"""Looks up the inventory status before a person acts on an order; the results are stored.

An Inventory Service without the lookup is distinguished from an unavailable one; neither prevents a person from acting.
Source: requirements 11.2, 1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.clients.inventory.http import InventoryLookup
from services.domain.bulk import Gate
from services.domain.conservation import StockState
from services.domain.errors import ValidationFailed, existing
from services.domain.orders.model import Order
from services.domain.reconciliation import CANNOT_ANSWER, MAX_ASKED, NO_ANSWER, LookupResult, is_fresh
from services.unit_of_work import OrdersContext
from state import inventory_lookups, orders
from state.inventory_lookups import StoredLookup

PATIENCE_SECONDS = 3.0
"""Maximum duration of a lookup while a person waits."""

MANY_SECONDS = 2.0
"""A lookup of several orders starts no further calls after this time, since other lookups wait for it."""


@dataclass(frozen=True, slots=True)
class LookupCounts:
    """The result of looking several orders up: the number of orders by outcome."""

    answered: int
    fresh: int
    """Orders with a recent lookup, which were not looked up again."""
    unanswered: int
    not_asked: int
    """Orders that were not looked up, because the breaker opened or the time was over."""


@dataclass(slots=True)
class Reconciliation:
    """Looks the stock of orders up and stores the results."""

    context: OrdersContext
    lookup: InventoryLookup
    patience_seconds: float = PATIENCE_SECONDS
    gate: Callable[[], Gate] = Gate
    """Returns how many lookups of several orders the breaker allows now."""

    async def look_up(self, order_id: str, *, asked_by: str) -> StoredLookup:
        """Look the order up now and store the result. Raises NotFound for an unknown order."""
        existing(await self.context.database.read(lambda c: orders.get(c, order_id)), "order", order_id)
        asked_at = self.context.clock()
        try:
            async with asyncio.timeout(self.patience_seconds):
                result = await self.lookup.find(order_id)
        except TimeoutError:
            result = LookupResult(None, problem=NO_ANSWER)
        answer = StoredLookup(order_id, result, asked_at, asked_by)
        await self.context.database.write(lambda c: inventory_lookups.note(c, answer))
        return answer

    async def look_up_many(self, order_ids: Sequence[str], *, asked_by: str) -> LookupCounts:
        """Look several orders up, a few at a time as the breaker allows, and store the results.

        Ends early when the breaker opens, when no lookup of a group is answered, or after MANY_SECONDS. Raises
        ValidationFailed above MAX_ASKED; unknown orders are skipped.
        """
        if len(order_ids) > MAX_ASKED:
            problem = {"field": "orderIds", "value": len(order_ids), "allowed": f"at most {MAX_ASKED}"}
            raise ValidationFailed("Not valid: orderIds.", {"problems": [problem]})
        wanted = await self.context.database.read(
            lambda c: inventory_lookups.not_fresh(c, order_ids, self.context.clock())
        )
        until = asyncio.get_running_loop().time() + MANY_SECONDS
        answers: list[StoredLookup] = []
        while len(answers) < len(wanted) and asyncio.get_running_loop().time() < until:
            some = wanted[len(answers) : len(answers) + self.gate().budget]
            if not some:
                break
            came = await asyncio.gather(*(self.look_up(order_id, asked_by=asked_by) for order_id in some))
            answers += came
            if all(answer.result.problem == NO_ANSWER for answer in came):
                break
        answered = sum(answer.result.problem != NO_ANSWER for answer in answers)
        fresh = len(set(order_ids)) - len(wanted)
        return LookupCounts(answered, fresh, len(answers) - answered, len(wanted) - len(answers))

    async def current_stock(self, order: Order, *, asked_by: str) -> StockState | None:
        """The present stock state: from a recent lookup or a new one; None when it is unknown."""
        known = await self.context.database.read(lambda c: inventory_lookups.get(c, order.order_id))
        if known is None or not is_fresh(known.asked_at, self.context.clock(), order.updated_at):
            known = await self.look_up(order.order_id, asked_by=asked_by)
        return known.result.stock


def in_words(result: LookupResult) -> str:
    """The result of a lookup, in words, as the outcome of a command."""
    if result.stock is None and result.said:
        return f"The Inventory Service says {result.said}, a word that is not known here"
    if result.problem == CANNOT_ANSWER:
        return "The Inventory Service has no such question"
    if result.stock is None:
        return "The Inventory Service did not answer"
    return f"The Inventory Service says {result.said or result.stock}"


def many_in_words(counts: LookupCounts) -> tuple[str, str | None]:
    """The result of looking several orders up, in words: title and detail of a command's outcome."""
    rest = [
        text
        for count, text in (
            (counts.fresh, f"{counts.fresh} answered a moment ago"),
            (counts.unanswered, f"{counts.unanswered} without an answer"),
            (counts.not_asked, f"{counts.not_asked} not asked"),
        )
        if count
    ]
    return f"The Inventory Service answered for {counts.answered}", "; ".join(rest) or None
