"""The runner of bulk jobs: sends the frozen items stage by stage under a lease, and stores each result.

Every item is marked as sent before its action starts, and every action has an idempotency key. After a crash another
runner repeats the action without a second effect.
Source: requirements 11.2, 2, 3 and 4.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from services.base.context import correlated
from services.bulk.actions import CHANGED, ItemAction
from services.clients.breaker import CLOSED, FORCED_OPEN, HALF_OPEN, OPEN, AsyncBreaker
from services.clients.inventory.resilient import InventoryBreakers
from services.domain.bulk import (
    ENDED,
    IN_FLIGHT,
    MAX_IN_FLIGHT,
    THROTTLED,
    BulkItemState,
    BulkJobState,
    Gate,
    ItemResult,
    StepKind,
    count,
    next_step,
)
from services.domain.calls import InventoryCall
from services.domain.errors import reason_of
from services.domain.orders.lifecycle import TRIES
from services.unit_of_work import OrdersContext, raise_first
from state import bulk_jobs
from state.bulk_jobs import BulkItem, BulkJob
from state.engine.transactions import is_of_database

logger = logging.getLogger("holdfast.operations")

LEASE = timedelta(seconds=60)
"""Duration of a lease. When it expires without renewal, another runner takes the job."""

JOBS_PER_ROUND = 5

REST_SECONDS, LONGEST_REST_SECONDS = 1.0, 60.0
"""Pause of a job after a round without work, and its upper limit; each consecutive failed round doubles it."""

MAX_NOTE = 300

GateOf = Callable[[str | None], Gate]
"""Returns the gate of an inventory call; None stands for an action without an inventory call."""


def breaker_gate(breakers: InventoryBreakers) -> GateOf:
    """The gate of this replica's circuit breakers."""
    by_call: dict[str, AsyncBreaker] = {
        InventoryCall.CHECK_AVAILABILITY: breakers.checker,
        InventoryCall.RESERVE: breakers.reserver,
        InventoryCall.RELEASE: breakers.releaser,
    }
    states = {OPEN: OPEN, FORCED_OPEN: OPEN, HALF_OPEN: HALF_OPEN}

    def gate_of(remote: str | None) -> Gate:
        if remote is None:
            return Gate()
        snapshot = by_call[remote].snapshot()
        return Gate(states.get(snapshot.state, CLOSED), snapshot.retry_in_ms / 1000)

    return gate_of


def paced_gate(gate_of: GateOf, rest_seconds: Callable[[], float]) -> GateOf:
    """Return a gate that is also closed during the ``rest_seconds()`` of a pause after a 429."""

    def paced(remote: str | None) -> Gate:
        gate = gate_of(remote)
        seconds = rest_seconds() if remote is not None and gate.budget else 0.0
        return Gate(THROTTLED, seconds) if seconds > 0 else gate

    return paced


@dataclass
class BulkRunner:
    """Runs bulk jobs, a few items of each job per round. Every replica has one runner with its own name."""

    context: OrdersContext
    actions: Mapping[str, ItemAction]
    gate_of: GateOf
    answer_within: timedelta
    """Time after which an accepted item without confirmation ends as UNANSWERED."""
    name: str
    lease: timedelta = LEASE
    """Must be longer than one step of any item."""
    monotonic: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._resting: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        """Number of consecutive rounds that raised, by job id."""

    async def run_due(self) -> bool:
        """Run one round of a Loop; always returns False, so that the loop's pause paces the jobs."""
        now, passed = self.context.clock(), self.monotonic()
        ids = await self.context.database.read(lambda c: bulk_jobs.workable(c, self.name, now, JOBS_PER_ROUND))
        due = [one for one in ids if self._resting.get(one, passed) <= passed]
        moved = await asyncio.gather(*map(self._run_round_of, due), return_exceptions=True)
        still = {one: until for one, until in self._resting.items() if one in ids and one not in due}
        self._resting = still | {
            one: passed + self._rest_seconds(one) for one, has in zip(due, moved, strict=True) if has is False
        }
        raise_first(moved)
        return False

    async def _run_round_of(self, job_id: str) -> bool:
        """Run one round of one job; returns False when the round did nothing."""
        with correlated(job_id):
            try:
                has_moved = await self._round(job_id)
            except Exception as error:
                # A boundary: a job with an unexpected error must not block the other jobs.
                if is_of_database(error):
                    raise
                logger.warning("operation_round_failed", exc_info=error)
                self.context.failed("operations")
                await self._count_failure(job_id, error)
                return False
            self._failures.pop(job_id, None)
            return has_moved

    async def _count_failure(self, job_id: str, error: Exception) -> None:
        """Stop a job after TRIES consecutive rounds that raised. An actor can resume the job."""
        failures = self._failures[job_id] = self._failures.get(job_id, 0) + 1
        if failures < TRIES:
            return
        note = f"Stopped by itself: {failures} rounds in a row failed unexpectedly. {reason_of(error)}"
        values = {"state": BulkJobState.STOPPED, "note": note[:MAX_NOTE]}
        running = (BulkJobState.RUNNING,)
        await self.context.database.write(
            lambda c: bulk_jobs.change(c, job_id, only_from=running, runner=self.name, **values)
        )

    def _rest_seconds(self, job_id: str) -> float:
        return min(REST_SECONDS * 2.0 ** min(self._failures.get(job_id, 0), 10), LONGEST_REST_SECONDS)

    async def _round(self, job_id: str) -> bool:
        now = self.context.clock()

        def begin(connection: Connection) -> tuple[BulkJob, list[BulkItem], int] | None:
            job = bulk_jobs.claim(connection, job_id, self.name, now, now + self.lease)
            if job is None:
                return None
            ended = self._follow(connection, job, now)
            stuck = bulk_jobs.item_page(connection, job_id, states=(BulkItemState.SENT,), limit=MAX_IN_FLIGHT)
            return job, stuck, ended

        begun = await self.context.database.write(begin)
        if begun is None:
            return False
        job, interrupted, ended = begun
        # A runner that crashed had sent these items, so their actions run again under the same keys.
        await self._execute(job, interrupted)
        sent = await self.context.database.write(lambda c: self._step(c, job_id))
        if sent:
            await self._execute(job, sent)
            await self.context.database.write(lambda c: self._count(c, job_id))
        return bool(sent or interrupted or ended)

    # ------------------------------------------------------------ one round

    def _follow(self, connection: Connection, job: BulkJob, now: datetime) -> int:
        """End accepted items that have a result or have waited too long; returns their number."""
        ended = 0
        accepted = bulk_jobs.item_page(
            connection, job.job_id, states=(BulkItemState.ACCEPTED,), limit=bulk_jobs.MAX_PAGE
        )
        ends = self._followed(connection, job, accepted) if accepted else {}
        for item in accepted:
            end = ends.get(item.item_id)
            if end is None and item.accepted_at is not None and now - item.accepted_at > self.answer_within:
                end = ItemResult(BulkItemState.UNANSWERED, "Accepted, and never confirmed.")
            if end is not None:
                _settle(connection, item, end, now, self.name)
                ended += 1
        return ended

    def _followed(self, connection: Connection, job: BulkJob, accepted: list[BulkItem]) -> dict[str, ItemResult]:
        """Results of accepted items; an item that raises does not block the others."""
        try:
            return self.actions[job.bulk_action].follow(connection, job, accepted)
        except DBAPIError:
            raise
        except Exception as error:
            if len(accepted) == 1:
                logger.warning("operation_item_failed", extra={"action_id": accepted[0].action_id}, exc_info=error)
                self.context.failed("operations")
                why = f"Accepted, and not known how it ended: {type(error).__name__}."
                return {accepted[0].item_id: ItemResult(BulkItemState.UNANSWERED, why)}
        return {key: end for item in accepted for key, end in self._followed(connection, job, [item]).items()}

    def _step(self, connection: Connection, job_id: str) -> list[BulkItem]:
        """Decide the next step, mark its items as sent and return them."""
        job = bulk_jobs.get(connection, job_id)
        if job is None or job.claimed_by != self.name or job.ended_at is not None:
            return []
        now = self.context.clock()
        if job.state != BulkJobState.RUNNING:
            self._count(connection, job_id)
            return []
        gate = self.gate_of(self.actions[job.bulk_action].guarded_by(job))
        stage, batch = job.stage, job.batch
        while True:
            whole = bulk_jobs.tally(connection, job_id)
            of_batch = bulk_jobs.tally(connection, job_id, batch=batch)
            step = next_step(stage, whole.get(BulkItemState.ASKED, 0), count(whole, IN_FLIGHT), of_batch, gate)
            if step.kind != StepKind.ADVANCE:
                break
            stage, batch = stage + 1, batch + 1
        values: dict[str, Any] = {"stage": stage, "batch": batch, "claimed_until": now + self.lease}
        values |= _state_after(step.kind, step.reason, now) | _waiting(step.kind, gate, now)
        if not bulk_jobs.change(connection, job_id, only_from=(BulkJobState.RUNNING,), runner=self.name, **values):
            return []
        sent = bulk_jobs.send(connection, job_id, batch, step.send, now) if step.send else []
        self._count(connection, job_id)
        return sent

    def _count(self, connection: Connection, job_id: str) -> None:
        """Store the number of items by state, and end a cancelled job whose items have all ended."""
        job = bulk_jobs.get(connection, job_id)
        if job is None:
            return
        if job.state == BulkJobState.CANCELLED:
            # Items that an open breaker stopped are not sent again once the job is cancelled.
            bulk_jobs.withdraw(connection, job_id, BulkItemState.NOT_SENT, self.context.clock())
        tally = bulk_jobs.tally(connection, job_id)
        values: dict[str, Any] = {"tally": tally, "in_flight": count(tally, IN_FLIGHT)}
        if job.causes:
            action = self.actions[job.bulk_action]
            values["new_failures"] = action.new_failures(connection, job, job.created_at)
        if job.state == BulkJobState.CANCELLED and count(tally, ENDED) == job.total:
            values["ended_at"] = self.context.clock()
        bulk_jobs.change(connection, job_id, runner=self.name, **values)

    # ------------------------------------------------------------ the items

    async def _execute(self, job: BulkJob, items: Sequence[BulkItem]) -> None:
        raise_first(await asyncio.gather(*(self._execute_one(job, item) for item in items), return_exceptions=True))

    async def _execute_one(self, job: BulkJob, item: BulkItem) -> None:
        end = await self._outcome(job, item)
        await self.context.database.write(lambda c: _settle(c, item, end, self.context.clock(), self.name))

    async def _outcome(self, job: BulkJob, item: BulkItem) -> ItemResult:
        try:
            return await self.actions[job.bulk_action].act(job, item)
        except CHANGED as error:
            return ItemResult(BulkItemState.SKIPPED, error.message)
        except Exception as error:
            # A boundary: one item with an unexpected error must neither block the others nor run for ever.
            logger.warning("operation_item_failed", extra={"action_id": item.action_id}, exc_info=error)
            self.context.failed("operations")
            return ItemResult(BulkItemState.UNANSWERED, f"Not known how it ended: {type(error).__name__}.")


def _settle(connection: Connection, item: BulkItem, end: ItemResult, at: datetime, runner: str) -> None:
    values: dict[str, Any] = {"state": end.state, "detail": end.detail}
    if end.state == BulkItemState.ASKED:
        values |= {"batch": None, "sent_at": None, "version": end.version or item.version}
    elif end.state == BulkItemState.ACCEPTED:
        values["accepted_at"] = at
    else:
        values["settled_at"] = at
        if end.state in (BulkItemState.CONFIRMED, BulkItemState.RECORDED) and item.accepted_at is None:
            values["accepted_at"] = at
    bulk_jobs.settle(connection, item, IN_FLIGHT, runner=runner, **values)


def _state_after(kind: StepKind, reason: str, now: datetime) -> dict[str, Any]:
    if kind == StepKind.STOP:
        return {"state": BulkJobState.STOPPED, "note": f"Stopped by itself: {reason}."}
    if kind == StepKind.END:
        return {"state": BulkJobState.DONE, "note": None, "ended_at": now}
    return {"note": None}


def _waiting(kind: StepKind, gate: Gate, now: datetime) -> dict[str, Any]:
    if kind == StepKind.WAIT and gate.budget == 0:
        until = now + timedelta(seconds=gate.retry_in_seconds)
        rests = gate.state == THROTTLED
        note = "Waits: the other service asked for a rest." if rests else "Waits for the circuit breaker to close."
        return {"waits_until": until, "note": note}
    return {"waits_until": None}
