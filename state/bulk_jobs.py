"""Bulk jobs and their items. A job's id is its idempotency key."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, or_, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from services.domain.bulk import BulkItemState, BulkJobState
from state.tables import operation_items as items
from state.tables import operations

MAX_PAGE = 200


@dataclass(frozen=True, slots=True)
class BulkJob:
    """One action of one actor on many items."""

    job_id: str
    bulk_action: str
    action: str | None
    """The action on each case, for ``resolve_review``."""
    actor: str
    reason: str | None
    filter: str
    """The filter or selection, as text for people."""
    causes: list[str]
    """Failure causes of the items; later failures with the same causes are counted."""
    total: int
    unseen: int
    """Number of items that matched when the job was stored but had not been shown; the job does not include them."""
    seen_at: datetime
    """When the actor saw the items and their versions."""
    created_at: datetime
    state: str = BulkJobState.RUNNING
    note: str | None = None
    """Why the job stopped, or what it is waiting for."""
    stage: int = 0
    batch: int = 0
    """Serial number of the current stage; it never repeats, unlike ``stage``."""
    in_flight: int = 0
    tally: dict[str, int] = field(default_factory=dict)
    """Number of items by state, at the last count."""
    new_failures: int = 0
    waits_until: datetime | None = None
    """When the open breaker allows a trial call."""
    claimed_by: str | None = None
    claimed_until: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class BulkItem:
    """One item of a job: its version when the actor saw it, and its state."""

    job_id: str
    item_id: str
    order_id: str
    """The order of the item; empty for an event without an order."""
    position: int
    version: int
    seen_state: str
    state: str = BulkItemState.ASKED
    batch: int | None = None
    sent_at: datetime | None = None
    accepted_at: datetime | None = None
    settled_at: datetime | None = None
    detail: str | None = None

    @property
    def action_id(self) -> str:
        """The idempotency key of the action on this item."""
        return f"{self.job_id}/{self.item_id}"


_COLUMN_OF = {"job_id": "operation_id", "bulk_action": "verb"}
"""Fields whose column has another name."""

_FIELDS = {one.name: _COLUMN_OF.get(one.name, one.name) for one in fields(BulkJob)}
_ITEM_FIELDS = {one.name: _COLUMN_OF.get(one.name, one.name) for one in fields(BulkItem)}
_COLUMNS = [operations.c[column] for column in _FIELDS.values()]
_ITEM_COLUMNS = [items.c[column] for column in _ITEM_FIELDS.values()]


def add(connection: Connection, job: BulkJob, rows: Sequence[BulkItem]) -> bool:
    """Store a job with its items. Returns False and stores nothing when the id is known."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    row = {column: getattr(job, name) for name, column in _FIELDS.items()}
    statement = dialect.insert(operations).on_conflict_do_nothing(index_elements=["operation_id"])
    if not connection.execute(statement, row).rowcount:
        return False
    connection.execute(
        insert(items), [{column: getattr(item, name) for name, column in _ITEM_FIELDS.items()} for item in rows]
    )
    return True


def get(connection: Connection, job_id: str) -> BulkJob | None:
    row = connection.execute(select(*_COLUMNS).where(operations.c.operation_id == job_id)).one_or_none()
    return _job(row) if row else None


def _job(row: Any) -> BulkJob:
    job = BulkJob(*row)
    tally = {state: number for state, number in job.tally.items() if isinstance(number, int)}
    return job if len(tally) == len(job.tally) else replace(job, tally=tally)


def page(
    connection: Connection, *, bulk_actions: Sequence[str] | None = None, limit: int = MAX_PAGE, offset: int = 0
) -> list[BulkJob]:
    """Jobs, newest first."""
    statement = select(*_COLUMNS).order_by(operations.c.created_at.desc(), operations.c.operation_id)
    if bulk_actions is not None:
        statement = statement.where(operations.c.verb.in_(bulk_actions))
    return [_job(row) for row in connection.execute(statement.limit(min(limit, MAX_PAGE)).offset(offset))]


def unended(connection: Connection, limit: int = MAX_PAGE) -> list[BulkJob]:
    """Jobs that have not ended, oldest first."""
    statement = select(*_COLUMNS).where(text("operations.ended_at IS NULL")).order_by(operations.c.created_at)
    return [_job(row) for row in connection.execute(statement.limit(limit))]


def workable(connection: Connection, runner: str, now: datetime, limit: int) -> list[str]:
    """Ids of jobs that this runner may continue because items wait to be sent or confirmed.

    The job with the oldest lease comes first, so that waiting jobs do not delay the others.
    """
    statement = (
        select(operations.c.operation_id)
        .where(
            # The condition of the partial index ix_operations_unended, verbatim.
            text("operations.ended_at IS NULL"),
            or_(operations.c.state.in_((BulkJobState.RUNNING, BulkJobState.CANCELLED)), operations.c.in_flight > 0),
            _is_free(runner, now),
        )
        .order_by(operations.c.claimed_until.nulls_first(), operations.c.created_at)
        .limit(limit)
    )
    return list(connection.scalars(statement))


def claim(connection: Connection, job_id: str, runner: str, now: datetime, until: datetime) -> BulkJob | None:
    """Take or renew the lease of a job that has not ended; None when another runner has the lease."""
    taken = connection.execute(
        update(operations)
        .where(operations.c.operation_id == job_id, operations.c.ended_at.is_(None), _is_free(runner, now))
        .values(claimed_by=runner, claimed_until=until)
    )
    return get(connection, job_id) if taken.rowcount else None


def _is_free(runner: str, now: datetime) -> Any:
    lapsed = or_(operations.c.claimed_until.is_(None), operations.c.claimed_until < now)
    return or_(operations.c.claimed_by == runner, lapsed)


def change(
    connection: Connection,
    job_id: str,
    *,
    only_from: Collection[str] | None = None,
    runner: str | None = None,
    **values: Any,
) -> bool:
    """Update columns of a job; False when its state is not in ``only_from``, or ``runner`` has lost the lease."""
    statement = update(operations).where(operations.c.operation_id == job_id)
    if only_from is not None:
        statement = statement.where(operations.c.state.in_(only_from))
    if runner is not None:
        statement = statement.where(operations.c.claimed_by == runner)
    return connection.execute(statement.values(**values)).rowcount == 1


def tally(connection: Connection, job_id: str, *, batch: int | None = None) -> dict[str, int]:
    """Number of items by state, of the whole job or of one batch."""
    statement = select(items.c.state, func.count()).where(items.c.operation_id == job_id)
    if batch is not None:
        statement = statement.where(items.c.batch == batch)
    return dict(connection.execute(statement.group_by(items.c.state)).all())


def items_in(connection: Connection, job_id: str, states: Sequence[str], limit: int) -> list[BulkItem]:
    """Items in the given states, in the order in which they were shown."""
    statement = (
        select(*_ITEM_COLUMNS)
        .where(items.c.operation_id == job_id, items.c.state.in_(states))
        .order_by(items.c.position)
        .limit(limit)
    )
    return [BulkItem(*row) for row in connection.execute(statement)]


def item_page(
    connection: Connection, job_id: str, *, states: Sequence[str] | None = None, limit: int, offset: int = 0
) -> list[BulkItem]:
    """Items in the order in which they were shown."""
    statement = select(*_ITEM_COLUMNS).where(items.c.operation_id == job_id)
    if states:
        statement = statement.where(items.c.state.in_(states))
    rows = connection.execute(statement.order_by(items.c.position).limit(limit).offset(offset))
    return [BulkItem(*row) for row in rows]


def send(connection: Connection, job_id: str, batch: int, limit: int, at: datetime) -> list[BulkItem]:
    """Mark the next waiting items as sent in this batch; the actions start after the commit."""
    waiting = items_in(connection, job_id, (BulkItemState.ASKED,), limit)
    values = {"state": BulkItemState.SENT, "batch": batch, "sent_at": at, "detail": None}
    connection.execute(
        update(items)
        .where(items.c.operation_id == job_id, items.c.item_id.in_([item.item_id for item in waiting]))
        .values(values)
    )
    return waiting


def settle(
    connection: Connection, item: BulkItem, only_from: Collection[str], *, runner: str | None = None, **values: Any
) -> bool:
    """Store the state of an item; False when its state is not in ``only_from``, or ``runner`` has lost the lease."""
    statement = update(items).where(
        items.c.operation_id == item.job_id, items.c.item_id == item.item_id, items.c.state.in_(only_from)
    )
    if runner is not None:
        held = select(operations.c.operation_id).where(
            operations.c.operation_id == item.job_id, operations.c.claimed_by == runner
        )
        statement = statement.where(held.exists())
    return connection.execute(statement.values(**values)).rowcount == 1


def withdraw(connection: Connection, job_id: str, state: str, at: datetime) -> int:
    """End every item that has not been sent; returns how many."""
    done = connection.execute(
        update(items)
        .where(items.c.operation_id == job_id, items.c.state == BulkItemState.ASKED)
        .values(state=state, settled_at=at)
    )
    return done.rowcount
