"""Release jobs: durable requests to release a reservation, retried with growing delays, then given to a person.

Source: requirements 5 (releaseReservation never blocks the cancel), 8.1 RELEASE_FAILED, 8.2.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from services.clients.inventory.port import InventoryGateway
from services.domain import incident_impact
from services.domain.calls import NOT_TRIED, Attempts, Failure, FailureClass, RetryPolicy, attempts_of, failure_of
from services.domain.errors import (
    ApiError,
    CircuitOpen,
    DependencyError,
    InventoryThrottled,
    InventoryUnavailable,
    ReleaseConflict,
    ReleaseFailed,
    ReleaseQueued,
    existing,
    reason_of,
)
from services.domain.orders import changes, ending
from services.domain.orders.model import Order, ReleaseState
from services.domain.reviews import ReleaseActionKind, ResolutionOutcome
from services.unit_of_work import SYSTEM, OrdersContext, UnitOfWork, action_entry, call_entries, raise_first
from state import audit, incident_impacts, orders, releases
from state.audit import AuditEntry
from state.engine.transactions import is_of_database
from state.releases import Release, failure_values

logger = logging.getLogger("holdfast.releases")

CLAIM = timedelta(seconds=30)

BATCH_SIZE = 8
"""Jobs of one round. Small batches avoid a thundering herd after an outage."""

OUTCOME_RELEASED, OUTCOME_RETRIED, OUTCOME_FAILED = "released", "retried", "failed"


@dataclass(frozen=True, slots=True)
class _End:
    """How one attempt changes its job and the order."""

    values: Mapping[str, Any]
    """New column values of the job."""
    outcome: str | None = None
    """One of the OUTCOME constants; None when nothing was sent, so that no attempt is counted."""
    change: Callable[[Order, datetime], changes.Change] | None = None
    put_back_to: Release | None = None
    """The job before a person's attempt that was not sent; the job is restored to it."""


@dataclass(slots=True)
class ReleaseJobs:
    """Runs due jobs and single attempts; ``on_outcome`` is called with the outcome of each attempt."""

    context: OrdersContext
    inventory: InventoryGateway
    policy: RetryPolicy
    on_outcome: Callable[[str], None] = lambda _: None
    claim: timedelta = CLAIM
    """How long an attempt may take before another replica may claim the job."""

    async def run_due(self) -> int:
        """Run one round of due jobs; returns their number. BATCH_SIZE means that more jobs may be due."""
        now = self.context.clock()
        jobs = await self.context.database.write(lambda c: releases.claim_due(c, now, now + self.claim, BATCH_SIZE))
        # Every attempt is awaited, also after another one raised.
        raise_first(await asyncio.gather(*(self._run(job) for job in jobs), return_exceptions=True))
        return len(jobs)

    async def retry(self, order_ids: Sequence[str], *, actor: str) -> list[Release]:
        """Make jobs due at once with all their attempts; done jobs stay done. Raises NotFound."""

        def transaction(connection: Connection) -> list[Release]:
            return [self._start_again(connection, order_id, actor) for order_id in order_ids]

        return await self.context.database.write(transaction)

    async def retry_now(self, order_id: str, *, actor: str, action_id: str | None = None) -> Release:
        """Start the job again, make one attempt and return the done job.

        Raises NotFound, ReleaseQueued when the breaker is open, and ReleaseFailed when the release was not
        confirmed. An ``action_id`` seen before starts nothing; the call then reports the state of the job.
        """

        def begin(connection: Connection) -> list[Release]:
            is_known = action_id is not None and audit.find_action(connection, action_id) is not None
            job = releases.get(connection, order_id) if is_known else None
            if job is None:
                job = self._start_again(connection, order_id, actor, action_id)
            if job.state != ReleaseState.PENDING or job.attempts or job.last_error:
                return []
            # Claimed in the transaction that starts the job, so that the loop of due jobs cannot claim it in between.
            return releases.claim(connection, [order_id], self.context.clock() + self.claim)

        for job in await self.context.database.write(begin):
            await self._attempt(job)
        release = await self.context.database.read(lambda c: releases.get(c, order_id))
        if release is None or release.state != ReleaseState.DONE:
            raise _not_confirmed(order_id, release)
        return release

    async def try_once(
        self, order_id: str, version: int, *, actor: str, reason: str | None, action_id: str
    ) -> tuple[Release, ApiError | None] | None:
        """Make one attempt at the job of that version; a failed job whose attempt fails becomes failed again.

        Returns the job after the attempt and the error of the attempt. Returns None when nothing was sent (the breaker
        is open, or the service limits calls); the job is then unchanged. Raises NotFound, and ReleaseConflict for
        another version. A known ``action_id`` continues that action, without version check or audit entry.
        """

        def begin(connection: Connection) -> tuple[Release, list[Release]]:
            before = existing(releases.get(connection, order_id), "release", order_id)
            known = audit.find_action(connection, action_id) is not None
            if known and before.state == ReleaseState.DONE:
                return before, []
            at = self.context.clock()
            if not known:
                refuse_changed(before, version)
                orders.add_timeline(connection, order_id, [action_entry(at, "Retry release", actor, reason)])
                audit.add(connection, audit_release("RETRY_RELEASE", before, actor, at, reason, action_id))
            # A repeated action already has its undecided entry, unless its attempt was not sent.
            if not known or not releases.has_undecided(connection, order_id):
                kind = ReleaseActionKind.BULK_RETRY
                releases.add_action(connection, order_id, before.cause, kind, actor, at, why=reason)
            claimed = releases.claim(connection, [order_id], at + self.claim)
            if not claimed:
                raise changed_since(before)
            return before, claimed

        before, claimed = await self.context.database.write(begin)
        error = None
        for job in claimed:
            error = await self._attempt(job, put_back_to=before)
            if isinstance(error, CircuitOpen | InventoryThrottled):
                return None
        after = await self.context.database.read(lambda c: releases.get(c, order_id))
        return after or before, error

    def _start_again(self, connection: Connection, order_id: str, actor: str, action_id: str | None = None) -> Release:
        before = existing(releases.get(connection, order_id), "release", order_id)
        if before.state == ReleaseState.DONE:
            return before
        at = self.context.clock()
        releases.add_action(connection, order_id, before.cause, ReleaseActionKind.RETRY, actor, at)
        releases.start(connection, order_id, before.reason, at)
        orders.add_timeline(connection, order_id, [action_entry(at, "Retry release", actor)])
        fresh = {"state": ReleaseState.PENDING, "attempts": 0}
        audit.add(connection, audit_release("RETRY_RELEASE", before, actor, at, action_id=action_id, after=fresh))
        after = releases.get(connection, order_id)
        return after or before

    # ---------------------------------------------------------------- one attempt

    async def _run(self, job: Release) -> None:
        """Make one attempt at a due job; raises nothing.

        When the end of the attempt cannot be stored on the order, it is stored on the job alone. The outcome is then
        unknown: the next attempt calls the Inventory Service again, and after the last attempt the job is failed.
        """
        try:
            await self._attempt(job)
        except Exception as error:
            logger.warning("release_not_recorded", extra={"order_id": job.order_id}, exc_info=error)
            self.context.failed("releases")
            if is_of_database(error):
                return
            not_recorded = ReleaseFailed(f"Its end could not be recorded. {reason_of(error)}")
            end = self._failed(job, not_recorded, Failure(FailureClass.NOT_RECORDED))
            at = self.context.clock()
            try:
                await self.context.database.write(lambda c: releases.settle(c, job, at, **end.values))
            except Exception as failure:  # noqa: BLE001 - a boundary: the job is due again when its claim ends
                logger.warning("release_not_counted", extra={"order_id": job.order_id, "error": repr(failure)})
            else:
                self.on_outcome(str(end.outcome))

    async def _attempt(self, job: Release, put_back_to: Release | None = None) -> ApiError | None:
        """Make one attempt and store its end; returns the error of the attempt, or None.

        When nothing was sent, the job becomes ``put_back_to`` again. Without ``put_back_to`` it waits to be due again.
        """
        error: ApiError | None = None
        with self.context.step("release reservation", job.order_id, job.traceparent):
            try:
                released, attempts = await self.inventory.release(job.order_id)
                end = _released("Reservation released" if released else "Nothing was left to release", job)
            except (CircuitOpen, InventoryThrottled) as not_sent:
                error, end, attempts = not_sent, self._not_sent(not_sent, put_back_to), attempts_of(not_sent)
            except ApiError as failed:
                error, end, attempts = failed, self._failed(job, failed, failure_of(failed)), attempts_of(failed)
            except Exception as raised:
                logger.warning("release_failed_unexpectedly", extra={"order_id": job.order_id}, exc_info=raised)
                error = ReleaseFailed(f"It failed unexpectedly. {reason_of(raised)}")
                end, attempts = self._failed(job, error, failure_of(raised)), attempts_of(raised)
            await self._store(job, end, attempts)
        if end.outcome is not None:
            self.on_outcome(end.outcome)
        return error

    def _not_sent(self, error: InventoryUnavailable, put_back_to: Release | None) -> _End:
        if put_back_to is not None:
            names = ("state", "next_attempt_at", "last_error", "cause", "failure_class")
            return _End({name: getattr(put_back_to, name) for name in names}, put_back_to=put_back_to)
        # Jobs that waited for the same time are spread over a few seconds after it.
        delay = max(error.retry_after_seconds or 0.0, 1.0) + 3.0 * self.context.randomness()
        due = self.context.clock() + timedelta(seconds=delay)
        return _End({"next_attempt_at": due} | failure_values(error.message, failure_of(error)))

    def _failed(self, job: Release, error: ApiError, failure: Failure) -> _End:
        attempts, message = job.attempts + 1, f"{error.code}: {error.message}"
        wanted = error.retry_after_seconds if isinstance(error, DependencyError) else None
        delay = self.policy.delay_seconds(attempts, self.context.randomness, retry_after_seconds=wanted)
        values = {"attempts": attempts} | failure_values(message, failure)
        if delay is None:
            return _End(
                values | {"state": ReleaseState.FAILED, "next_attempt_at": None},
                OUTCOME_FAILED,
                lambda order, at: ending.release_failed(order, failure, message, attempts, at),
            )
        due = self.context.clock() + timedelta(seconds=delay)
        return _End(values | {"state": ReleaseState.PENDING, "next_attempt_at": due}, OUTCOME_RETRIED)

    async def _store(self, job: Release, end: _End, attempts: Attempts) -> None:
        """Store the end of an attempt on the job and the order; a job that was started again meanwhile is unchanged."""

        def work(unit: UnitOfWork) -> None:
            connection, at = unit.connection, self.context.clock()
            touched = end.put_back_to.updated_at if end.put_back_to else at
            current = releases.settle(connection, job, touched, **end.values)
            if current:
                _note_end(connection, job, end, at)
            order = orders.get(connection, job.order_id)
            if not current or end.change is None or order is None:
                if end.outcome is not None:
                    orders.add_timeline(connection, job.order_id, call_entries(attempts))
                incident_impacts.add(connection, job.order_id, incident_impact.of_attempts(attempts))
                return
            unit.record(order, end.change(order, at), attempts=attempts)

        await self.context.unit_of_work(work)


def _released(title: str, job: Release) -> _End:
    values = {"state": ReleaseState.DONE, "next_attempt_at": None, "attempts": job.attempts + 1} | failure_values(
        None, NOT_TRIED
    )
    return _End(values, OUTCOME_RELEASED, lambda order, at: ending.released(order, at, title))


def _note_end(connection: Connection, job: Release, end: _End, at: datetime) -> None:
    """Store the outcome of the undecided action, or that the automatic retries of the job ended it."""
    if end.put_back_to is not None:
        releases.forget_undecided(connection, job.order_id)
    if end.outcome not in (OUTCOME_RELEASED, OUTCOME_FAILED):
        return
    is_done = end.outcome == OUTCOME_RELEASED
    outcome = ResolutionOutcome.LASTED if is_done else ResolutionOutcome.FAILED
    if releases.decide_action(connection, job.order_id, outcome) or not job.attempts:
        return
    cause = job.cause if is_done else end.values["cause"]
    kind = ReleaseActionKind.AUTOMATIC
    releases.add_action(connection, job.order_id, cause, kind, SYSTEM, at, outcome=outcome)


def _not_confirmed(order_id: str, job: Release | None) -> ReleaseFailed:
    error = job.last_error if job else None
    details: dict[str, object] = {"orderId": order_id, "lastError": error}
    if error is None or job is None:
        return ReleaseFailed("Not confirmed yet: the release was started again meanwhile and is being tried.", details)
    message = f"The release failed: {error}"
    if not job.last_attempt_sent:
        return ReleaseQueued(message, details | {"queuedUntil": job.next_attempt_at})
    return ReleaseFailed(message, details)


def refuse_changed(job: Release, version: int) -> None:
    """Raise ReleaseConflict unless the unfinished job is at that version."""
    if job.state == ReleaseState.DONE or job.version != version:
        raise changed_since(job)


def changed_since(job: Release) -> ReleaseConflict:
    """The error for a job that changed after the person read it."""
    return ReleaseConflict(
        f"The job has changed since: it is {job.state} at version {job.version}.",
        {"orderId": job.order_id, "state": job.state, "version": job.version},
    )


def audit_release(
    action: str,
    before: Release,
    actor: str,
    at: datetime,
    reason: str | None = None,
    action_id: str | None = None,
    *,
    after: Mapping[str, object] | None = None,
    result: str = "started",
) -> AuditEntry:
    """The audit entry of an action on a release job."""
    return AuditEntry(
        at=at,
        actor=actor,
        action=action,
        target=f"release:{before.order_id}",
        order_id=before.order_id,
        reason=reason,
        before={"state": before.state, "attempts": before.attempts, "lastError": before.last_error},
        after=dict(after) if after is not None else {"state": ReleaseState.PENDING, "attempts": before.attempts},
        result=result,
        action_id=action_id,
    )
