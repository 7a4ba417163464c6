"""Events to publish, stored in the transaction that caused them, and handled events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, delete, func, insert, or_, select, tuple_, update

from services.base.context import current_traceparent
from services.domain.orders.events import OutgoingEvent
from services.messaging import envelope
from services.messaging.outbox_relay import OutboxRow, Undeliverable
from services.sandbox.inventory_service.tables import inbox, outbox
from state.engine.database import Database

SOURCE = "inventory-service"

CLAIM = timedelta(seconds=15)
"""How long a claim by the relay lasts before the event is claimed again."""

FAILED_DELAY = timedelta(seconds=1)

PUBLISHED_KEPT = timedelta(days=1)
HANDLED_KEPT = timedelta(days=8)
"""Longer than the streams keep messages, so that every replayed event is still in the inbox."""

_COLUMNS = [
    outbox.c[name] for name in ("id", "event_id", "subject", "payload", "order_id", "created_at", "traceparent")
]

_UNDELIVERABLE = [
    outbox.c[name]
    for name in ("id", "event_id", "subject", "order_id", "attempts", "undeliverable_at", "undeliverable_reason")
]
_WAITS = (outbox.c.published_at.is_(None), outbox.c.undeliverable_at.is_(None))
_IS_UNDELIVERABLE = outbox.c.undeliverable_at.is_not(None)


def add(connection: Connection, event: OutgoingEvent, now: datetime) -> None:
    """Store one event with a new id and the current traceparent; a repeated answer is a new event."""
    event_id = str(uuid4())
    row = {
        "event_id": event_id,
        "subject": event.type,
        "order_id": event.order_id,
        "payload": envelope.encode(event, event_id, now, source=SOURCE),
        "created_at": now,
        "traceparent": current_traceparent(),
    }
    connection.execute(insert(outbox), row)


def settle_and_claim(
    connection: Connection, settled: Sequence[int], failed: Sequence[tuple[int, str]], limit: int, now: datetime
) -> list[Any]:
    """Mark published events, store failures, and claim the next waiting rows, oldest first.

    An event that failed as Undeliverable is not claimed again until retry().
    """
    if settled:
        connection.execute(update(outbox).where(outbox.c.id.in_(settled)).values(published_at=now, claimed_until=None))
    for row_id, error in failed:
        # The claim is kept, so that it delays the next attempt.
        again = {"attempts": outbox.c.attempts + 1, "last_error": str(error), "claimed_until": now + FAILED_DELAY}
        if isinstance(error, Undeliverable):
            again |= {"claimed_until": None, "undeliverable_at": now, "undeliverable_reason": str(error)}
        connection.execute(update(outbox).where(outbox.c.id == row_id).values(again))
    is_free = or_(outbox.c.claimed_until.is_(None), outbox.c.claimed_until <= now)
    free = select(*_COLUMNS).where(*_WAITS, is_free).order_by(outbox.c.id).limit(limit)
    rows = list(connection.execute(free))
    if rows:
        ids = [row.id for row in rows]
        connection.execute(update(outbox).where(outbox.c.id.in_(ids)).values(claimed_until=now + CLAIM))
    return rows


class SqlOutbox:
    """The outbox as the relay uses it."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def settle_and_claim(
        self, settled: Sequence[int], failed: Sequence[tuple[int, str]], limit: int
    ) -> list[OutboxRow]:
        """Settle the last batch and claim the next, in one transaction."""
        rows = await self._database.write(
            lambda connection: settle_and_claim(connection, settled, failed, limit, self._clock())
        )
        return [OutboxRow(*row) for row in rows]


def pending(connection: Connection) -> int:
    """Number of events that wait to be published."""
    return connection.scalar(select(func.count()).where(*_WAITS)) or 0


def count_undeliverable(connection: Connection) -> int:
    """Number of events that the broker can never accept as they are."""
    return connection.scalar(select(func.count()).where(_IS_UNDELIVERABLE)) or 0


def undeliverable(connection: Connection, limit: int) -> list[Row[Any]]:
    """The oldest undeliverable events."""
    return list(connection.execute(select(*_UNDELIVERABLE).where(_IS_UNDELIVERABLE).order_by(outbox.c.id).limit(limit)))


def retry(connection: Connection, row_id: int) -> bool:
    """Publish an undeliverable event again. Returns False if there is none with this id."""
    free = {"undeliverable_at": None, "undeliverable_reason": None}
    return connection.execute(update(outbox).where(outbox.c.id == row_id, _IS_UNDELIVERABLE).values(free)).rowcount == 1


def discard(connection: Connection, row_id: int) -> bool:
    """Delete an undeliverable event. Returns False if there is none with this id."""
    return connection.execute(delete(outbox).where(outbox.c.id == row_id, _IS_UNDELIVERABLE)).rowcount == 1


def prune(connection: Connection, now: datetime, limit: int = 500) -> None:
    """Delete a batch of old published and old handled events."""
    for table, at, kept in (
        (outbox, outbox.c.published_at, PUBLISHED_KEPT),
        (inbox, inbox.c.handled_at, HANDLED_KEPT),
    ):
        key = tuple_(*table.primary_key)
        old = select(*table.primary_key).where(at < now - kept).limit(limit)
        connection.execute(delete(table).where(key.in_(old)))
