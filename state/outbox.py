"""Events waiting to be published, stored in the transaction that caused them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, LargeBinary, bindparam, func, insert, or_, select, text, update

from state.engine import rows
from state.engine.keyset import WINDOW, Keyset
from state.engine.rows import Rows
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
_SIZE = func.length(outbox.c.payload).label("size")


def _beginning(size: int) -> ColumnElement[bytes]:
    return func.substr(outbox.c.payload, 1, size, type_=LargeBinary).label("payload")


class Claimed(NamedTuple):
    """An event that this relay has claimed."""

    id: int
    event_id: str
    subject: str
    payload: bytes
    order_id: str
    created_at: datetime
    traceparent: str | None


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
    .returning(*(outbox.c[name] for name in Claimed._fields))
)


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


_OUTGOING = Rows(outbox, Outgoing, payload=_beginning(_LISTED_BYTES), size=_SIZE)


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


_UNDELIVERABLE = Rows(
    outbox, UndeliverableEvent, payload=_beginning(_SHOWN_BYTES), size=_SIZE, reason="undeliverable_reason"
)


def add(connection: Connection, events: Sequence[dict[str, Any]]) -> None:
    """Store events, each ``{event_id, subject, order_id, payload, created_at, traceparent?}``."""
    _INSERT.run_many(connection, [{"traceparent": None, **event} for event in events])


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
    claimed = _CLAIM.fetch(connection, {"now": now, "until": now + CLAIM, "most": limit})
    return sorted(Claimed(*row) for row in claimed)


def _note_failures(connection: Connection, errors: dict[int, str], now: datetime) -> None:
    made = connection.execute(select(outbox.c.id, outbox.c.attempts).where(outbox.c.id.in_(errors)))
    for row_id, attempts in made.all():
        delay = min(timedelta(seconds=0.5 * 2 ** min(attempts, 10)), LONGEST_DELAY)
        failure = {"attempts": attempts + 1, "last_error": errors[row_id], "claimed_until": now + delay}
        rows.change(connection, outbox, outbox.c.id == row_id, **failure)


def _note_undeliverable(connection: Connection, row_id: int, reason: str, now: datetime) -> None:
    end = {"undeliverable_at": now, "undeliverable_reason": reason, "last_error": reason, "claimed_until": None}
    unpublished = (outbox.c.id == row_id, outbox.c.published_at.is_(None))
    rows.change(connection, outbox, *unpublished, attempts=outbox.c.attempts + 1, **end)


def send_again(connection: Connection, subjects: Sequence[str], after: datetime, before: datetime, limit: int) -> int:
    """Queue events again that were published between two times; returns how many."""
    is_lost = (outbox.c.published_at > after, outbox.c.published_at < before, outbox.c.subject.in_(subjects))
    ids = connection.scalars(select(outbox.c.id).where(*is_lost).order_by(outbox.c.id).limit(limit)).all()
    if ids:
        rows.change(connection, outbox, outbox.c.id.in_(ids), *is_lost, published_at=None, claimed_until=None)
    return len(ids)


def pending(connection: Connection) -> tuple[int, datetime | None]:
    """The number of events that wait to be published, and when the oldest was stored."""
    statement = select(func.count(), func.min(outbox.c.created_at)).where(*_WAITS)
    count, oldest = connection.execute(statement).one()
    return count, oldest


def count_undeliverable(connection: Connection) -> int:
    """The number of undeliverable events."""
    return rows.count(connection, outbox, _IS_UNDELIVERABLE)


def undeliverable(connection: Connection, limit: int) -> list[UndeliverableEvent]:
    """Undeliverable events, oldest first."""
    return _UNDELIVERABLE.some(connection, _IS_UNDELIVERABLE, order=[outbox.c.id], limit=limit)


def get_undeliverable(connection: Connection, row_id: int) -> UndeliverableEvent | None:
    """One undeliverable event, locked until the end of the transaction."""
    one = select(*_UNDELIVERABLE.columns).where(outbox.c.id == row_id, _IS_UNDELIVERABLE).with_for_update()
    return next(iter(_UNDELIVERABLE.read(connection, one)), None)


def payload(connection: Connection, row_id: int) -> bytes | None:
    """The whole payload of an event, published or not."""
    return connection.scalar(select(outbox.c.payload).where(outbox.c.id == row_id))


def has(connection: Connection, row_id: int) -> bool:
    """Whether the event is still stored, in any state."""
    return rows.has_any(connection, outbox, outbox.c.id == row_id)


def retry(connection: Connection, row_id: int) -> None:
    """Queue an undeliverable event again."""
    free = {"undeliverable_at": None, "undeliverable_reason": None, "claimed_until": None}
    rows.change(connection, outbox, outbox.c.id == row_id, _IS_UNDELIVERABLE, **free)


def discard(connection: Connection, row_id: int) -> None:
    """Delete an undeliverable event; the timeline of its order keeps its content."""
    rows.remove(connection, outbox, outbox.c.id == row_id, _IS_UNDELIVERABLE)


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
    return Keyset(_OUTGOING.columns, (outbox.c.id,), driving, residual if is_filtered else None, window)
