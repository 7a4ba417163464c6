"""Bulk jobs and their items. A job's id is its idempotency key."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, exists, or_, select, text

from services.domain.bulk import BulkItemState, BulkJobState
from state.engine import rows
from state.engine.rows import Rows
from state.tables import operation_items as items
from state.tables import operations

MAX_PAGE = 200

_IS_UNENDED: Any = text("operations.ended_at IS NULL")
"""The condition of the partial index ix_operations_unended, verbatim."""


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


_JOBS = Rows(operations, BulkJob, job_id="operation_id", bulk_action="verb")
_ITEMS = Rows(items, BulkItem, job_id="operation_id")


def add(connection: Connection, job: BulkJob, chosen: Sequence[BulkItem]) -> bool:
    """Store a job with its items. Returns False and stores nothing when the id is known."""
    if not rows.insert_new(connection, operations, _JOBS.values(job)):
        return False
    _ITEMS.add(connection, *chosen)
    return True


def get(connection: Connection, job_id: str) -> BulkJob | None:
    return _JOBS.one(connection, operations.c.operation_id == job_id)


def page(
    connection: Connection, *, bulk_actions: Sequence[str] | None = None, limit: int = MAX_PAGE, offset: int = 0
) -> list[BulkJob]:
    """Jobs, newest first."""
    wanted = [] if bulk_actions is None else [operations.c.verb.in_(bulk_actions)]
    newest = [operations.c.created_at.desc(), operations.c.operation_id]
    return _JOBS.some(connection, *wanted, order=newest, limit=min(limit, MAX_PAGE), offset=offset)


def unended(connection: Connection, limit: int = MAX_PAGE) -> list[BulkJob]:
    """Jobs that have not ended, oldest first."""
    return _JOBS.some(connection, _IS_UNENDED, order=[operations.c.created_at], limit=limit)


def workable(connection: Connection, runner: str, now: datetime, limit: int) -> list[str]:
    """Ids of jobs that this runner may continue because items wait to be sent or confirmed.

    The job with the oldest lease comes first, so that waiting jobs do not delay the others.
    """
    has_work = or_(operations.c.state.in_((BulkJobState.RUNNING, BulkJobState.CANCELLED)), operations.c.in_flight > 0)
    statement = (
        select(operations.c.operation_id)
        .where(_IS_UNENDED, has_work, _is_free(runner, now))
        .order_by(operations.c.claimed_until.nulls_first(), operations.c.created_at)
        .limit(limit)
    )
    return list(connection.scalars(statement))


def claim(connection: Connection, job_id: str, runner: str, now: datetime, until: datetime) -> BulkJob | None:
    """Take or renew the lease of a job that has not ended; None when another runner has the lease."""
    is_free = (operations.c.operation_id == job_id, operations.c.ended_at.is_(None), _is_free(runner, now))
    taken = rows.change(connection, operations, *is_free, claimed_by=runner, claimed_until=until)
    return get(connection, job_id) if taken else None


def _is_free(runner: str, now: datetime) -> ColumnElement[bool]:
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
    conditions = [operations.c.operation_id == job_id]
    if only_from is not None:
        conditions.append(operations.c.state.in_(only_from))
    if runner is not None:
        conditions.append(operations.c.claimed_by == runner)
    return rows.change(connection, operations, *conditions, **values) == 1


def tally(connection: Connection, job_id: str, *, batch: int | None = None) -> dict[str, int]:
    """Number of items by state, of the whole job or of one batch."""
    of_batch = [] if batch is None else [items.c.batch == batch]
    return rows.count_by(connection, items.c.state, items.c.operation_id == job_id, *of_batch)


def item_page(
    connection: Connection, job_id: str, *, states: Sequence[str] | None = None, limit: int, offset: int = 0
) -> list[BulkItem]:
    """Items in the order in which they were shown."""
    wanted = [items.c.operation_id == job_id, *([items.c.state.in_(states)] if states else ())]
    return _ITEMS.some(connection, *wanted, order=[items.c.position], limit=limit, offset=offset)


def send(connection: Connection, job_id: str, batch: int, limit: int, at: datetime) -> list[BulkItem]:
    """Mark the next waiting items as sent in this batch; the actions start after the commit."""
    waiting = item_page(connection, job_id, states=(BulkItemState.ASKED,), limit=limit)
    chosen = (items.c.operation_id == job_id, items.c.item_id.in_([item.item_id for item in waiting]))
    rows.change(connection, items, *chosen, state=BulkItemState.SENT, batch=batch, sent_at=at, detail=None)
    return waiting


def settle(
    connection: Connection, item: BulkItem, only_from: Collection[str], *, runner: str | None = None, **values: Any
) -> bool:
    """Store the state of an item; False when its state is not in ``only_from``, or ``runner`` has lost the lease."""
    conditions = [
        items.c.operation_id == item.job_id,
        items.c.item_id == item.item_id,
        items.c.state.in_(only_from),
    ]
    if runner is not None:
        has_lease = exists().where(operations.c.operation_id == item.job_id, operations.c.claimed_by == runner)
        conditions.append(has_lease)
    return rows.change(connection, items, *conditions, **values) == 1


def withdraw(connection: Connection, job_id: str, state: str, at: datetime) -> int:
    """End every item that has not been sent; returns how many."""
    waiting = (items.c.operation_id == job_id, items.c.state == BulkItemState.ASKED)
    return rows.change(connection, items, *waiting, state=state, settled_at=at)


def is_outside(item_id: ColumnElement[str], job_id: str) -> ColumnElement[bool]:
    """Condition: the job does not include the item."""
    return item_id.not_in(select(items.c.item_id).where(items.c.operation_id == job_id))
