"""Records a Change: the row, its timeline, events, cases and release job in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from services.base.context import current_traceparent
from services.domain import incident_impact
from services.domain.call_attempts import Attempts
from services.domain.orders.changes import ACTION, CALL, EVENT_OUT, TRANSITION, Change, TimelineEntry
from services.domain.orders.failed_steps import with_success_noted
from services.domain.orders.model import Order
from services.messaging.envelope import encode
from state import history, incident_impacts, orders, outbox, releases, reviews

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
        change = with_success_noted(order, change)
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
        history.add(connection, order.order_id, timeline)
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
