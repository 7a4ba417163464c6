"""The conservation audit: every unit and every payment adds up between the services, continuously.

Each order is compared once it has rested for a while; what does not add up is listed and compared
again until both sides agree. A person applies the compensation that is offered.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from sqlalchemy import Connection

from services.domain import conservation as rules
from services.domain.conservation import MoneyState, StockState
from services.domain.errors import InvalidState, NotFound, PaymentOutcomeUnknown
from services.domain.lifecycle import Change
from services.domain.order import Order
from services.inventory.witness import InventoryWitness
from services.orders.context import OrdersContext
from services.orders.unit_of_work import action_entry
from services.payments.gateway import PaymentGateway, PaymentState
from state import audit, conservation
from state.audit import AuditEntry
from state.conservation import KnownDifference

RESTED = timedelta(seconds=60)
"""An order that changed more recently may still be on its way through the other services."""

AT_ONCE = 10
"""Orders of one round; the audit must not be what overloads the Inventory Service."""

_MONEY = {PaymentState.CAPTURED: MoneyState.TAKEN}


class ConservationAudit:
    """Compares, remembers, and compensates when a person says so."""

    def __init__(
        self,
        context: OrdersContext,
        witness: InventoryWitness,
        payments: PaymentGateway | None,
        *,
        rested: timedelta = RESTED,
    ) -> None:
        """``payments`` None: there is no gateway that could be asked."""
        self._context = context
        self._witness = witness
        self._payments = payments
        self._rested = rested

    async def compare_next(self) -> bool:
        """One round of a Loop; returns whether more orders wait to be compared."""
        before = self._context.clock() - self._rested
        database = self._context.database
        fresh = await database.read(lambda c: conservation.next_settled(c, before, AT_ONCE))
        known = await database.read(lambda c: conservation.unsettled(c, AT_ONCE))
        again = [order for order in known if order.order_id not in {fresh_one.order_id for fresh_one in fresh}]
        answers = await asyncio.gather(*(self._ask(order) for order in (*fresh, *again)))
        compared = self._answered_prefix(fresh, answers[: len(fresh)])
        await database.write(lambda c: self._note(c, [*fresh, *again], answers, compared))
        return len(compared) == AT_ONCE

    async def compensate(self, order_id: str, kind: str, *, actor: str, reason: str) -> KnownDifference:
        """Apply the move that settles a difference; raises NotFound, InvalidState when it is not open any more."""

        def decide(connection: Connection, order: Order) -> Change:
            known = conservation.get(connection, order_id, kind)
            if known is None:
                raise NotFound("difference", f"{order_id}/{kind}")
            if not conservation.begin_compensation(connection, order_id, kind, by=actor):
                raise InvalidState(f"This difference is {known.state}.", {"orderId": order_id, "kind": kind})
            at = self._context.clock()
            audit.add(connection, self._entry(order, known, actor, reason))
            entry = action_entry(at, f"Compensate {kind}", actor, reason)
            return Change({}, (entry,)).then(rules.compensate(order, kind, at))

        await self._context.decide(order_id, decide, actor=actor)
        known = await self._context.database.read(lambda c: conservation.get(c, order_id, kind))
        if known is None:
            raise NotFound("difference", f"{order_id}/{kind}")
        return known

    async def _ask(self, order: Order) -> tuple[StockState | None, MoneyState | None]:
        stock, money = await asyncio.gather(self._witness.stock_of(order.order_id), self._money_of(order.order_id))
        return stock, money

    async def _money_of(self, order_id: str) -> MoneyState | None:
        if self._payments is None:
            return None
        try:
            state = await self._payments.find(order_id, [])
        except PaymentOutcomeUnknown:
            return None
        return _MONEY.get(state, MoneyState.NOT_TAKEN)

    def _answered_prefix(
        self, fresh: list[Order], answers: list[tuple[StockState | None, MoneyState | None]]
    ) -> list[Order]:
        """Orders up to the first that nobody could say anything about: the audit goes on there later."""
        compared = []
        for order, answer in zip(fresh, answers, strict=True):
            if answer == (None, None):
                break
            compared.append(order)
        return compared

    def _note(
        self,
        connection: Connection,
        asked: list[Order],
        answers: list[tuple[StockState | None, MoneyState | None]],
        compared: list[Order],
    ) -> None:
        at = self._context.clock()
        for order, (stock, money) in zip(asked, answers, strict=True):
            if (stock, money) != (None, None):
                conservation.note(connection, order.order_id, rules.differences(order, stock, money), at)
        if compared:
            total = conservation.progress(connection)[2] + len(compared)
            conservation.advance(connection, compared[-1], total)

    def _entry(self, order: Order, known: KnownDifference, actor: str, reason: str) -> AuditEntry:
        return AuditEntry(
            at=self._context.clock(),
            actor=actor,
            action="COMPENSATE",
            target=f"difference:{known.order_id}/{known.kind}",
            order_id=order.order_id,
            reason=reason,
            before={"state": known.state, "detail": known.detail},
            after={"state": conservation.COMPENSATING},
            result="started",
            action_id=None,
        )
