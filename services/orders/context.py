"""What every use case needs: the database, time, identities and what follows a commit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from sqlalchemy import Connection

from services.base.context import carried, continuing, current_traceparent
from services.domain.call_attempts import Attempt
from services.domain.errors import NotFound
from services.domain.orders.lifecycle import Change
from services.domain.orders.model import Order
from services.tracing.port import Tracer
from services.unit_of_work import Recorded, record
from state import orders
from state.engine.database import Database
from state.orders import StaleOrder

T = TypeVar("T")
STALE_TRIES = 8
"""How often a decision is taken anew because another replica was faster."""

Decision = Callable[[Connection, Order], Change | None]


def _ignore(_: Recorded) -> None:
    """For contexts that nobody listens to."""


def _uncounted(_: str) -> None:
    """The same."""


@dataclass(frozen=True, slots=True)
class OrdersContext:
    """Passed to every use case; holds no state of its own."""

    database: Database
    clock: Callable[[], datetime]
    """Aware UTC, truncated to milliseconds."""
    new_id: Callable[[], str]
    randomness: Callable[[], float]
    after_commit: Callable[[Recorded], None] = field(default=_ignore)
    """Counts metrics and wakes the relay and the release worker."""
    tracer: Tracer | None = None
    failed: Callable[[str], None] = field(default=_uncounted)
    """Counts what raised something unforeseen in the background loop of that name, and kept no other from going on."""

    async def commit(
        self, order: Order, change: Change, *, trail: Sequence[Attempt] = (), actor: str | None = None
    ) -> Order:
        """Record a change of an order read before; raises StaleOrder when somebody was faster."""
        at = self.clock()
        recorded = await self.database.write(
            carried(lambda connection: record(connection, order, change, at, self.new_id, trail=trail, actor=actor))
        )
        self.after_commit(recorded)
        return recorded.order

    async def decide(
        self, order_id: str, decision: Decision, *, trail: Sequence[Attempt] = (), actor: str | None = None
    ) -> Order:
        """Read an order, decide and record in one transaction; decided anew when somebody was faster.

        A decision of None records nothing. Raises NotFound for an unknown order.
        """
        return (await self.decided(order_id, decision, trail=trail, actor=actor))[0]

    async def decided(
        self, order_id: str, decision: Decision, *, trail: Sequence[Attempt] = (), actor: str | None = None
    ) -> tuple[Order, Recorded | None]:
        """The same; what was recorded besides the order, None when nothing was."""

        def transaction(connection: Connection) -> tuple[Order, Recorded | None]:
            order = orders.get(connection, order_id)
            if order is None:
                raise NotFound("order", order_id)
            change = decision(connection, order)
            if change is None:
                return order, None
            recorded = record(connection, order, change, self.clock(), self.new_id, trail=trail, actor=actor)
            return recorded.order, recorded

        order, recorded = await self.transact(transaction)
        if recorded is not None:
            self.after_commit(recorded)
        return order, recorded

    async def transact(self, transaction: Callable[[Connection], T]) -> T:
        """Run a transaction, again from its beginning when a version check failed."""
        transaction = carried(transaction)
        for _ in range(STALE_TRIES - 1):
            try:
                return await self.database.write(transaction)
            except StaleOrder:
                continue
        return await self.database.write(transaction)

    def step(self, name: str, order_id: str, traceparent: str | None) -> AbstractContextManager[None]:
        """Work on an order within the present trace or, where no request waits for it, within the order's own."""
        parent = current_traceparent() or traceparent
        return continuing(parent) if self.tracer is None else self.tracer.step(name, order_id, parent)

    async def get(self, order_id: str) -> Order:
        """The order as it stands now; raises NotFound."""
        order = await self.database.read(lambda connection: orders.get(connection, order_id))
        if order is None:
            raise NotFound("order", order_id)
        return order


def raise_first(ends: Sequence[object]) -> None:
    """Raise the first exception among the results of several tasks."""
    for end in ends:
        if isinstance(end, BaseException):
            raise end
