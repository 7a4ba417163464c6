"""Units of work: the context of every use case, and the transaction that records a Change.

A Change is recorded with its row, timeline, events, cases and release job in one transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from sqlalchemy import Connection

from services.base.context import continuing, current_traceparent
from services.domain import incident_impact
from services.domain.calls import Attempts, attempts_of
from services.domain.errors import existing, reason_of
from services.domain.orders import lifecycle
from services.domain.orders.changes import ACTION, CALL, EVENT_OUT, TRANSITION, Change, TimelineEntry
from services.domain.orders.model import Order
from services.messaging.envelope import encode
from services.tracing.port import Tracer
from state import incident_impacts, orders, outbox, releases, reviews
from state.engine.database import Database
from state.engine.transactions import is_of_database
from state.orders import StaleOrder

SYSTEM = "system"

_CALL_TITLES = {
    "check_availability": "Check availability",
    "reserve": "Reserve inventory",
    "release": "Release reservation",
    "capture": "Capture payment",
    "find_payment": "Ask for the payment",
    "refund": "Refund payment",
    "void": "Fence payment",
}


@dataclass(frozen=True, slots=True)
class Recorded:
    """One recorded change, for the metrics and wake-ups that follow its commit."""

    order: Order
    became: tuple[str, ...]
    """The statuses that the order went through."""
    opened: tuple[str, ...] = ()
    """Reasons of the cases that were opened."""
    stored_events: bool = False
    started_release: bool = False
    failure_code: str | None = None


class UnitOfWork:
    """Records changes of orders in one transaction; ``recorded`` lists the changes for after the commit."""

    def __init__(self, connection: Connection, clock: Callable[[], datetime], new_id: Callable[[], str]) -> None:
        self.connection = connection
        self.recorded: list[Recorded] = []
        self._clock = clock
        self._new_id = new_id

    def record(self, order: Order, change: Change, *, attempts: Attempts = (), actor: str | None = None) -> Order:
        """Write a change under the order's version check; raises StaleOrder and writes nothing when it fails."""
        connection, at = self.connection, self._clock()
        change = lifecycle.with_success_noted(order, change)
        saved = orders.save(connection, order, change.values, at)
        timeline = [*call_entries(attempts), *change.timeline]
        timeline += self._store_events(order, change, at)
        opened = self._open_cases(order.order_id, change, at, timeline)
        if change.closes:
            by = actor or SYSTEM
            for reason in reviews.close_cases(
                connection, order.order_id, change.closes, by=by, resolution="SETTLED", at=at
            ):
                timeline.append(TimelineEntry(at, TRANSITION, f"Review settled: {reason}", actor=actor))
        if change.release_because:
            releases.start(connection, order.order_id, change.release_because, at)
        orders.add_timeline(connection, order.order_id, timeline)
        if found := incident_impact.of_change(change, timeline, opened, at):
            incident_impacts.add(connection, order.order_id, found)
        became = tuple(entry.details["to"] for entry in change.timeline if "to" in entry.details)
        failure_code = (change.values.get("failure") or {}).get("code")
        started_release = change.release_because is not None
        self.recorded.append(Recorded(saved, became, opened, bool(change.events), started_release, failure_code))
        return saved

    def _store_events(self, order: Order, change: Change, at: datetime) -> list[TimelineEntry]:
        entries, rows = [], []
        traceparent = current_traceparent() or order.traceparent
        for event in change.events:
            event_id = self._new_id()
            rows.append(
                {
                    "event_id": event_id,
                    "subject": event.type,
                    "order_id": order.order_id,
                    "payload": encode(event, event_id, at),
                    "created_at": at,
                    "traceparent": traceparent,
                }
            )
            entries.append(TimelineEntry(at, EVENT_OUT, event.type, {"eventId": event_id, "data": event.data}))
        outbox.add(self.connection, rows)
        return entries

    def _open_cases(
        self, order_id: str, change: Change, at: datetime, timeline: list[TimelineEntry]
    ) -> tuple[str, ...]:
        opened = []
        for case in change.opens:
            if reviews.open_case(
                self.connection,
                self._new_id(),
                order_id,
                case.reason,
                case.detail,
                at,
                cause=case.cause,
                failure_class=case.failure_class,
            ):
                opened.append(case.reason)
                details = {"detail": case.detail}
                timeline.append(TimelineEntry(at, TRANSITION, f"Flagged for review: {case.reason}", details))
        return tuple(opened)


def call_entries(attempts: Attempts) -> list[TimelineEntry]:
    """The attempts of remote calls as timeline entries."""
    return [
        TimelineEntry(
            attempt.at,
            CALL,
            f"{_CALL_TITLES[attempt.call]}: {attempt.outcome.replace('_', ' ')}",
            {
                "operation": attempt.call,
                "outcome": attempt.outcome,
                "attempt": attempt.number,
                "durationMs": round(attempt.duration_seconds * 1000, 1),
                **attempt.details,
            },
        )
        for attempt in attempts
    ]


def after_calls(attempts: Attempts, change: Change) -> Change:
    """The change, with timeline entries for the calls that led to it before its own entries."""
    return Change({}, tuple(call_entries(attempts))).then(change)


def action_entry(at: datetime, title: str, actor: str, note: str | None = None) -> TimelineEntry:
    """A manual action as a timeline entry."""
    return TimelineEntry(at, ACTION, title, {"note": note} if note else {}, actor)


logger = logging.getLogger("holdfast.steps")

T = TypeVar("T")
STALE_TRIES = 8
"""Maximum number of runs of a unit of work whose version checks fail."""

Decision = Callable[[Connection, Order], Change | None]


def _uncounted(_: str) -> None:
    """Default for contexts without metrics."""


@dataclass(frozen=True, slots=True)
class OrdersContext:
    """Passed to every use case; has no state of its own."""

    database: Database
    clock: Callable[[], datetime]
    """Aware UTC, truncated to milliseconds."""
    new_id: Callable[[], str]
    randomness: Callable[[], float]
    after_commit: list[Callable[[Recorded], None]] = field(default_factory=list)
    """Called in sequence for each committed change: metrics, and wake-ups of the relay and the release jobs."""
    tracer: Tracer | None = None
    failed: Callable[[str], None] = field(default=_uncounted)
    """Counts an unexpected failure of one item, by the name of the background loop."""

    async def unit_of_work(self, work: Callable[[UnitOfWork], T], *, tries: int = STALE_TRIES) -> T:
        """Run ``work`` in one transaction, repeat it when a version check failed, then call the listeners.

        Raises StaleOrder when the last try failed too.
        """

        def transaction(connection: Connection) -> tuple[T, tuple[Recorded, ...]]:
            unit = UnitOfWork(connection, self.clock, self.new_id)
            return work(unit), tuple(unit.recorded)

        while True:
            tries -= 1
            try:
                result, recorded = await self.database.write(transaction)
            except StaleOrder:
                if not tries:
                    raise
            else:
                break
        for one in recorded:
            if self.tracer is not None:
                self.tracer.became(one.order.order_id, one.became)
            for listener in self.after_commit:
                listener(one)
        return result

    async def commit(self, order: Order, change: Change, *, attempts: Attempts = (), actor: str | None = None) -> Order:
        """Record a change of an order that was read before; raises StaleOrder when the order changed meanwhile."""
        return await self.unit_of_work(lambda unit: unit.record(order, change, attempts=attempts, actor=actor), tries=1)

    async def decide(
        self, order_id: str, decision: Decision, *, attempts: Attempts = (), actor: str | None = None
    ) -> Order:
        """Read an order, decide and record in one transaction; repeated when the order changed meanwhile.

        A decision of None records nothing. Raises NotFound for an unknown order.
        """

        def work(unit: UnitOfWork) -> Order:
            order = existing(orders.get(unit.connection, order_id), "order", order_id)
            change = decision(unit.connection, order)
            return order if change is None else unit.record(order, change, attempts=attempts, actor=actor)

        return await self.unit_of_work(work)

    def step(self, name: str, order_id: str, traceparent: str | None) -> AbstractContextManager[None]:
        """A span for work on an order, in the current trace, else in the trace stored with the order."""
        parent = current_traceparent() or traceparent
        return continuing(parent) if self.tracer is None else self.tracer.step(name, order_id, parent)

    async def get(self, order_id: str) -> Order:
        """The stored order; raises NotFound."""
        order = await self.database.read(lambda connection: orders.get(connection, order_id))
        return existing(order, "order", order_id)


async def counted(context: OrdersContext, order_id: str, step: Awaitable[T]) -> T:
    """Await the step. Before raising an unexpected error, count it on the order; StaleOrder is not counted."""
    try:
        return await step
    except StaleOrder:
        raise
    except Exception as error:
        await note_failure(context, order_id, error)
        raise


async def note_failure(context: OrdersContext, order_id: str, error: Exception) -> None:
    """Count a failed step of an unfinished order; raises nothing.

    The timeline shows the failed step with the attempts that the error carries. A database failure is not counted: the
    order becomes due again when the claim of its worker ends.
    """
    logger.warning("order_step_failed", extra={"order_id": order_id}, exc_info=error)
    if is_of_database(error):
        return
    reason = reason_of(error)

    def decide(_: Connection, order: Order) -> Change | None:
        # An order without a due time was finished by another run meanwhile.
        if order.due_at is None:
            return None
        change = lifecycle.step_failed(order, reason, context.clock())
        return after_calls(attempts_of(error), change) if change.timeline else change

    try:
        await context.decide(order_id, decide)
    except Exception as failure:  # noqa: BLE001 - a boundary: only the first failure matters
        logger.warning("order_step_failure_not_noted", extra={"order_id": order_id, "error": repr(failure)})


def raise_first(ends: Sequence[object]) -> None:
    """Raise the first exception among the results of several tasks."""
    for end in ends:
        if isinstance(end, BaseException):
            raise end
