"""The conservation audit: compares orders with their stock and their money at the other services.

An order is compared when it has not changed for RESTED. A stored difference is compared again until it is gone.
A person starts the compensation of a difference.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from services.clients.inventory.http import InventoryLookup
from services.clients.payments import PaymentGateway, PaymentState
from services.domain import conservation as rules
from services.domain.conservation import MoneyState
from services.domain.errors import InvalidState, PaymentOutcomeUnknown, existing
from services.domain.orders.changes import Change
from services.domain.orders.model import Order
from services.domain.reconciliation import CANNOT_ANSWER, NO_ANSWER, LookupResult
from services.unit_of_work import OrdersContext, action_entry
from state import audit, conservation, orders
from state.audit import AuditEntry
from state.conservation import KnownDifference

logger = logging.getLogger("holdfast.conservation")

RESTED = timedelta(seconds=60)
"""Time without a change after which an order is compared; the events of later changes may still be in transit."""

SLACK = timedelta(seconds=60)
"""Tolerated clock skew. A change with a time further in the future is treated as old."""

MAX_ORDERS_PER_ROUND = 10
"""Orders per round; few, to avoid overloading the Inventory Service."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The stock and the money of one order, as the other services report them."""

    lookup: LookupResult
    money: MoneyState | None
    is_whole: bool
    """Whether all services that can answer have answered."""

    @property
    def judged(self) -> frozenset[str]:
        return rules.judged(self.lookup.stock, self.money)


_MONEY = {PaymentState.CAPTURED: MoneyState.TAKEN}


@dataclass(slots=True)
class ConservationAudit:
    """Compares orders, stores differences, and applies compensations."""

    context: OrdersContext
    lookup: InventoryLookup
    payments: PaymentGateway | None
    """None: money is not compared."""
    rested: timedelta = RESTED

    async def compare_next(self) -> bool:
        """Run one round of a Loop; returns whether more orders wait for comparison."""
        now = self.context.clock()

        def moving(at: datetime) -> bool:
            return now - self.rested <= at <= now + SLACK

        grown, asked = await self.context.database.read(lambda c: _to_ask(c, moving))
        answers = await self._answers(asked)
        reached = _answered(grown, asked, answers)
        if asked or reached:
            await self.context.database.write(lambda c: self._note(c, asked, answers, reached))
        return len(grown) == MAX_ORDERS_PER_ROUND and len(reached) == MAX_ORDERS_PER_ROUND

    async def compare(self, order_ids: Sequence[str]) -> None:
        """Compare these orders at once, and store their differences."""
        for start in range(0, len(order_ids), MAX_ORDERS_PER_ROUND):
            await self._compare(order_ids[start : start + MAX_ORDERS_PER_ROUND])

    async def _compare(self, order_ids: Sequence[str]) -> None:
        found = await self.context.database.read(lambda c: orders.get_many(c, order_ids))
        asked = {order.order_id: order for order in found}
        answers = await self._answers(asked)
        await self.context.database.write(lambda c: self._note(c, asked, answers, []))

    async def compensate(
        self, order_id: str, kind: str, *, actor: str, reason: str, action_id: str | None = None
    ) -> KnownDifference:
        """Apply the compensation of a difference. Raises NotFound, or InvalidState when the difference is not open.

        A repeated ``action_id`` changes nothing.
        """

        def decide(connection: Connection, order: Order) -> Change | None:
            known = existing(conservation.get(connection, order_id, kind), "difference", f"{order_id}/{kind}")
            if action_id is not None and audit.find_action(connection, action_id) is not None:
                return None
            if not conservation.begin_compensation(connection, order_id, kind, by=actor):
                raise InvalidState(f"This difference is {known.state}.", {"orderId": order_id, "kind": kind})
            at = self.context.clock()
            audited = AuditEntry(
                at,
                actor,
                "COMPENSATE",
                f"difference:{order_id}/{kind}",
                order_id,
                reason,
                before={"state": known.state, "detail": known.detail},
                after={"state": conservation.COMPENSATING},
                result="started",
                action_id=action_id,
            )
            audit.add(connection, audited)
            entry = action_entry(at, f"Compensate {kind}", actor, reason)
            return Change({}, (entry,)).then(rules.compensate(order, kind, at))

        await self.context.decide(order_id, decide, actor=actor)
        known = await self.context.database.read(lambda c: conservation.get(c, order_id, kind))
        return existing(known, "difference", f"{order_id}/{kind}")

    async def _answers(self, asked: dict[str, Order]) -> dict[str, Answer]:
        return dict(zip(asked, await asyncio.gather(*map(self._ask, asked.values())), strict=True))

    async def _ask(self, order: Order) -> Answer:
        try:
            return await self._answer(order)
        except Exception as error:
            logger.warning("order_not_compared", extra={"order_id": order.order_id}, exc_info=error)
            return Answer(LookupResult(None, problem=NO_ANSWER), None, is_whole=True)

    async def _answer(self, order: Order) -> Answer:
        lookup, money = await asyncio.gather(self.lookup.find(order.order_id), self._money_of(order.order_id))
        has_said = lookup.stock is not None or lookup.said is not None
        # An Inventory Service without the lookup route is not waited for when the payment gateway can answer.
        needs_stock = lookup.problem != CANNOT_ANSWER or self.payments is None
        needs_money = self.payments is not None
        return Answer(lookup, money, (has_said or not needs_stock) and (money is not None or not needs_money))

    async def _money_of(self, order_id: str) -> MoneyState | None:
        if self.payments is None:
            return None
        try:
            state, _ = await self.payments.find(order_id)
        except PaymentOutcomeUnknown:
            return None
        return _MONEY.get(state, MoneyState.NOT_TAKEN)

    def _note(
        self, connection: Connection, asked: dict[str, Order], answers: dict[str, Answer], reached: list[int]
    ) -> None:
        at = self.context.clock()
        for order_id, answer in answers.items():
            found = rules.differences(asked[order_id], answer.lookup.stock, answer.money)
            conservation.note(connection, order_id, found, at, judged=answer.judged)
        if reached:
            known, compared = conservation.progress(connection)
            conservation.advance(connection, max(known, *reached), compared + len(reached))


def _to_ask(
    connection: Connection, moving: Callable[[datetime], bool]
) -> tuple[list[tuple[int, str]], dict[str, Order]]:
    """The next history entries, and the orders to compare: unchanged for RESTED, or with unsettled differences."""
    grown = conservation.next_rested(connection, moving, MAX_ORDERS_PER_ROUND)
    rested = orders.get_many(connection, [order_id for _, order_id in grown])
    wanted = [order for order in rested if not moving(order.updated_at)]
    wanted += conservation.unsettled(connection, MAX_ORDERS_PER_ROUND)
    return grown, {order.order_id: order for order in wanted}


def _answered(grown: list[tuple[int, str]], asked: dict[str, Order], answers: dict[str, Answer]) -> list[int]:
    """Ids of the entries before the first order without a complete answer; the next round starts at that order.

    Entries of orders that were not compared are included: such an order has changed, and has later entries.
    """
    reached = []
    for history_id, order_id in grown:
        if order_id in asked and not answers[order_id].is_whole:
            break
        reached.append(history_id)
    return reached
