"""Actions on events that the broker can never accept: publish again, or discard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from services.domain.errors import InvalidState, NotFound
from services.domain.external import INT64, NotAllowed, whole_number
from services.domain.orders.changes import ACTION, TimelineEntry
from state import audit, orders, outbox
from state.audit import AuditEntry
from state.engine.database import Database
from state.outbox import UndeliverableEvent

KIND = "outbox-event"
UNDELIVERABLE, PENDING, DISCARDED = "UNDELIVERABLE", "PENDING", "DISCARDED"


class UndeliverableEvents:
    """Retries and discards events, each in one transaction with an audit entry and a timeline entry of the order."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def is_done(self, action_id: str) -> bool:
        """True when the action with this id was carried out."""
        return await self._database.read(lambda connection: audit.find_action(connection, action_id)) is not None

    async def retry(
        self, row_id: str, *, actor: str, reason: str | None, action_id: str | None = None
    ) -> UndeliverableEvent:
        """Publish the event again. Raises NotFound, InvalidState."""
        return await self._act(
            row_id, outbox.retry, _Resolution("RETRY_OUTGOING_EVENT", PENDING, actor, reason, action_id)
        )

    async def discard(
        self, row_id: str, *, actor: str, reason: str, action_id: str | None = None
    ) -> UndeliverableEvent:
        """Discard the event: no consumer receives it. Raises NotFound, InvalidState."""
        return await self._act(
            row_id, outbox.discard, _Resolution("DISCARD_OUTGOING_EVENT", DISCARDED, actor, reason, action_id)
        )

    async def _act(
        self, row_id: str, change: Callable[[Connection, int], object], resolution: _Resolution
    ) -> UndeliverableEvent:
        def transaction(connection: Connection) -> UndeliverableEvent:
            event = _found(connection, row_id)
            change(connection, event.id)
            self._record(connection, event, resolution)
            return event

        return await self._database.write(transaction)

    def _record(self, connection: Connection, event: UndeliverableEvent, resolution: _Resolution) -> None:
        at = self._clock()
        entry = AuditEntry(
            at=at,
            actor=resolution.actor,
            action=resolution.action,
            target=f"{KIND}:{event.id}",
            order_id=event.order_id,
            reason=resolution.reason,
            before={"state": UNDELIVERABLE, "eventId": event.event_id, "reason": event.reason},
            after={"state": resolution.state},
            action_id=resolution.action_id,
        )
        audit.add(connection, entry)
        details = {"note": resolution.reason} if resolution.reason else {}
        shown = TimelineEntry(at, ACTION, _title(event, resolution.state), details, resolution.actor)
        orders.add_timeline(connection, event.order_id, [shown])


@dataclass(frozen=True, slots=True)
class _Resolution:
    """An action on an event."""

    action: str
    state: str
    """The state of the event after the action."""
    actor: str
    reason: str | None
    action_id: str | None


def _title(event: UndeliverableEvent, state: str) -> str:
    return f"Event {event.subject} {'is published again' if state == PENDING else 'was given up'}"


def _found(connection: Connection, written: str) -> UndeliverableEvent:
    try:
        row_id = whole_number(written, 1, INT64[1])
    except NotAllowed:
        raise NotFound(KIND, written) from None
    event = outbox.get_undeliverable(connection, row_id)
    if event is not None:
        return event
    if outbox.has(connection, row_id):
        raise InvalidState("This event is published or waits to be published.", {"outboxEventId": str(row_id)})
    raise NotFound(KIND, str(row_id))
