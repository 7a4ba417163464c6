"""Events waiting to be published, stored in the transaction that caused them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    LargeBinary,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    text,
    update,
)

from state.engine.keyset import WINDOW, Keyset
from state.engine.statements import Prepared
from state.tables import outbox

PENDING, FAILING, UNDELIVERABLE, PUBLISHED = "pending", "failing", "undeliverable", "published"
OUTCOMES = (PENDING, FAILING, UNDELIVERABLE, PUBLISHED)
"""Waiting; waiting after a refusal; undeliverable; published."""

CLAIM = timedelta(seconds=8)
"""How long a relay may take to publish its claimed rows before another relay claims them."""

LONGEST_DELAY = timedelta(seconds=5)
"""Longest delay between two attempts to publish a row that the broker refuses."""

_WAITS = (outbox.c.published_at.is_(None), outbox.c.undeliverable_at.is_(None))
# The condition of a partial index, verbatim, so that the index is used.
_IS_UNDELIVERABLE: ColumnElement[bool] = text("outbox.undeliverable_at IS NOT NULL")  # type: ignore[assignment]
_SHOWN_BYTES = 2000
_LISTED_BYTES = 16 * 1024

_INSERT = Prepared(insert(outbox), ("event_id", "subject", "order_id", "payload", "created_at", "traceparent"))
_SETTLE = Prepared(
    update(outbox)
    .where(outbox.c.id == bindparam("row_id"))
    .values(published_at=bindparam("settled_at"), claimed_until=None, undeliverable_at=None, undeliverable_reason=None)
)
_FREE = (
    select(outbox.c.id)
    .where(
        *_WAITS,
        or_(outbox.c.claimed_until.is_(None), outbox.c.claimed_until < bindparam("now")),
    )
    .order_by(outbox.c.id)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)
_CLAIM = Prepared(
    update(outbox)
    .where(outbox.c.id.in_(_FREE.scalar_subquery()))
    .values(claimed_until=bindparam("until"))
    .returning(
        outbox.c.id,
        outbox.c.event_id,
        outbox.c.subject,
        outbox.c.payload,
        outbox.c.order_id,
        outbox.c.created_at,
        outbox.c.traceparent,
    )
)


class Claimed(NamedTuple):
    """An event that this relay has claimed."""

    id: int
    event_id: str
    subject: str
    payload: bytes
    order_id: str
    created_at: datetime
    traceparent: str | None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One stored event that was or will be published."""

    id: int
    event_id: str
    subject: str
    order_id: str
    payload: bytes
    """The first 16 KiB of the payload."""
    size: int
    """Bytes of the whole payload."""
    created_at: datetime
    published_at: datetime | None
    attempts: int
    """Number of failed attempts."""
    last_error: str | None
    undeliverable_at: datetime | None
    """When the event became undeliverable."""

    @property
    def outcome(self) -> str:
        """One of OUTCOMES."""
        if self.published_at is not None:
            return PUBLISHED
        if self.undeliverable_at is not None:
            return UNDELIVERABLE
        return FAILING if self.attempts else PENDING


_COLUMNS = [
    *(outbox.c[name] for name in ("id", "event_id", "subject", "order_id")),
    func.substr(outbox.c.payload, 1, _LISTED_BYTES, type_=LargeBinary).label("payload"),
    func.length(outbox.c.payload).label("size"),
    *(outbox.c[name] for name in ("created_at", "published_at", "attempts", "last_error", "undeliverable_at")),
]


@dataclass(frozen=True, slots=True)
class UndeliverableEvent:
    """An event that the broker can never take."""

    id: int
    event_id: str
    subject: str
    order_id: str
    payload: bytes
    """The beginning of the payload."""
    size: int
    """Bytes of the whole payload."""
    attempts: int
    created_at: datetime
    undeliverable_at: datetime
    reason: str


_UNDELIVERABLE_COLUMNS = [
    *(outbox.c[name] for name in ("id", "event_id", "subject", "order_id")),
    func.substr(outbox.c.payload, 1, _SHOWN_BYTES, type_=LargeBinary),
    func.length(outbox.c.payload),
    *(outbox.c[name] for name in ("attempts", "created_at", "undeliverable_at", "undeliverable_reason")),
]


def add(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Store events, each ``{event_id, subject, order_id, payload, created_at, traceparent?}``."""
    _INSERT.run_many(connection, [{"traceparent": None, **row} for row in rows])


def settle_and_claim(
    connection: Connection,
    settled: Sequence[int],
    failed: Sequence[tuple[int, str]],
    limit: int,
    now: datetime,
    *,
    undeliverable: Sequence[tuple[int, str]] = (),
) -> list[Claimed]:
    """Mark published rows, record failures, and claim the next waiting rows, oldest first.

    Rows in ``undeliverable`` are not claimed again until retry().
    """
    _SETTLE.run_many(connection, [{"row_id": row_id, "settled_at": now} for row_id in settled])
    if failed:
        _note_failures(connection, dict(failed), now)
    for row_id, reason in undeliverable:
        _note_undeliverable(connection, row_id, reason, now)
    if limit == 0:
        return []
    rows = _CLAIM.fetch(connection, {"now": now, "until": now + CLAIM, "most": limit})
    return sorted(Claimed(*row) for row in rows)


def _note_failures(connection: Connection, errors: dict[int, str], now: datetime) -> None:
    made = connection.execute(select(outbox.c.id, outbox.c.attempts).where(outbox.c.id.in_(errors)))
    for row_id, attempts in made.all():
        delay = min(timedelta(seconds=0.5 * 2 ** min(attempts, 10)), LONGEST_DELAY)
        values = {"attempts": attempts + 1, "last_error": errors[row_id], "claimed_until": now + delay}
        connection.execute(update(outbox).where(outbox.c.id == row_id).values(values))


def _note_undeliverable(connection: Connection, row_id: int, reason: str, now: datetime) -> None:
    values = {"undeliverable_at": now, "undeliverable_reason": reason, "last_error": reason, "claimed_until": None}
    statement = update(outbox).where(outbox.c.id == row_id, outbox.c.published_at.is_(None))
    connection.execute(statement.values(attempts=outbox.c.attempts + 1, **values))


def send_again(connection: Connection, subjects: Sequence[str], after: datetime, before: datetime, limit: int) -> int:
    """Queue events again that were published between two times; returns how many."""
    is_lost = (outbox.c.published_at > after, outbox.c.published_at < before, outbox.c.subject.in_(subjects))
    ids = connection.scalars(select(outbox.c.id).where(*is_lost).order_by(outbox.c.id).limit(limit)).all()
    if ids:
        free = {"published_at": None, "claimed_until": None}
        connection.execute(update(outbox).where(outbox.c.id.in_(ids), *is_lost).values(free))
    return len(ids)


def pending(connection: Connection) -> tuple[int, datetime | None]:
    """The number of events that wait to be published, and when the oldest was stored."""
    statement = select(func.count(), func.min(outbox.c.created_at)).where(*_WAITS)
    count, oldest = connection.execute(statement).one()
    return count, oldest


def count_undeliverable(connection: Connection) -> int:
    """The number of undeliverable events."""
    return connection.scalar(select(func.count()).select_from(outbox).where(_IS_UNDELIVERABLE)) or 0


def undeliverable(connection: Connection, limit: int) -> list[UndeliverableEvent]:
    """Undeliverable events, oldest first."""
    statement = select(*_UNDELIVERABLE_COLUMNS).where(_IS_UNDELIVERABLE).order_by(outbox.c.id).limit(limit)
    return [UndeliverableEvent(*row) for row in connection.execute(statement)]


def get_undeliverable(connection: Connection, row_id: int) -> UndeliverableEvent | None:
    """One undeliverable event, locked until the end of the transaction."""
    statement = select(*_UNDELIVERABLE_COLUMNS).where(outbox.c.id == row_id, _IS_UNDELIVERABLE)
    row = connection.execute(statement.with_for_update()).one_or_none()
    return UndeliverableEvent(*row) if row else None


def payload(connection: Connection, row_id: int) -> bytes | None:
    """The whole payload of an event, published or not."""
    return connection.scalar(select(outbox.c.payload).where(outbox.c.id == row_id))


def has(connection: Connection, row_id: int) -> bool:
    """Whether the event is still stored, in any state."""
    return connection.execute(select(outbox.c.id).where(outbox.c.id == row_id)).first() is not None


def retry(connection: Connection, row_id: int) -> None:
    """Queue an undeliverable event again."""
    free = {"undeliverable_at": None, "undeliverable_reason": None, "claimed_until": None}
    connection.execute(update(outbox).where(outbox.c.id == row_id, _IS_UNDELIVERABLE).values(free))


def discard(connection: Connection, row_id: int) -> None:
    """Delete an undeliverable event; the timeline of its order keeps its content."""
    connection.execute(delete(outbox).where(outbox.c.id == row_id, _IS_UNDELIVERABLE))


def listed(
    *, subject: str | None = None, order_id: str | None = None, outcome: str | None = None, window: int = WINDOW
) -> Keyset:
    """Rows of Outgoing, newest first by ``(id,)``."""
    driving: list[ColumnElement[bool]] = []
    if order_id:
        driving.append(outbox.c.order_id == order_id)
    if outcome in (PENDING, FAILING):
        driving += _WAITS
    if outcome == UNDELIVERABLE:
        driving.append(_IS_UNDELIVERABLE)
    if outcome == FAILING:
        # The condition of a partial index, verbatim, so that the index is used.
        driving.append(text("outbox.attempts > 0"))  # type: ignore[arg-type]

    def residual(row: Any) -> list[ColumnElement[bool]]:
        wanted = [row.subject == subject] if subject else []
        return [*wanted, row.published_at.is_not(None)] if outcome == PUBLISHED else wanted

    is_filtered = bool(subject) or outcome == PUBLISHED
    return Keyset(_COLUMNS, (outbox.c.id,), driving, residual if is_filtered else None, window)
