"""Giving holds back: durable jobs, retried with growing delays, in the end handed to a person.

Source: seed 5 (releaseReservation never blocks the cancel), 8.1 RELEASE_FAILED, 8.2.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection

from services.clients.inventory.port import InventoryGateway
from services.domain import incident_impact
from services.domain.call_attempts import Attempt
from services.domain.errors import (
    ApiError,
    CircuitOpen,
    DependencyError,
    InventoryThrottled,
    InventoryUnavailable,
    NotFound,
    ReleaseFailed,
)
from services.domain.orders import lifecycle
from services.domain.orders.failed_steps import reason_of
from services.domain.orders.model import Order
from services.domain.past_resolutions import ReleaseActionKind, ResolutionOutcome
from services.domain.release_causes import BREAKER_OPEN, cause_of
from services.domain.retry import RetryPolicy
from services.orders.context import OrdersContext, raise_first
from services.releases.records import audit_release, changed_since, refuse_changed
from services.unit_of_work import SYSTEM, UnitOfWork, action_entry, call_entries
from state import audit, history, incident_impacts, orders, release_actions, releases
from state.engine.failures import is_of_database
from state.releases import DONE, FAILED, PENDING, Release

logger = logging.getLogger("holdfast.releases")

CLAIM = timedelta(seconds=30)

AT_ONCE = 8
"""Jobs of one round; few, so that a service that has just come back is not trampled."""

OUTCOME_RELEASED, OUTCOME_RETRIED, OUTCOME_FAILED = "released", "retried", "failed"


class ReleaseJobs:
    """Runs due jobs; ``on_outcome`` counts how each attempt ended."""

    def __init__(
        self,
        context: OrdersContext,
        inventory: InventoryGateway,
        policy: RetryPolicy,
        on_outcome: Callable[[str], None] = lambda _: None,
        claim: timedelta = CLAIM,
    ) -> None:
        """``claim``: how long an attempt may take before another replica takes the job."""
        self._context = context
        self._inventory = inventory
        self._policy = policy
        self._on_outcome = on_outcome
        self._claim = claim

    async def run_due(self) -> int:
        """One round of due jobs; returns how many there were, AT_ONCE meaning that more may wait."""
        now = self._context.clock()
        jobs = await self._context.database.write(lambda c: releases.claim_due(c, now, now + self._claim, AT_ONCE))
        # All are waited for, so that one that fails unexpectedly leaves no others running unobserved.
        raise_first(await asyncio.gather(*(self._run(job) for job in jobs), return_exceptions=True))
        return len(jobs)

    async def retry(self, order_ids: Sequence[str], *, actor: str) -> list[Release]:
        """Make jobs due at once with all their attempts; done ones stay done. Raises NotFound."""

        def transaction(connection: Connection) -> list[Release]:
            return [self._start_again(connection, order_id, actor) for order_id in order_ids]

        return await self._context.transact(transaction)

    async def retry_now(self, order_id: str, *, actor: str, action_id: str | None = None) -> Release:
        """Retry and wait for the outcome; raises ReleaseFailed when it was not confirmed, NotFound.

        Under an ``action_id`` seen before the job is not started again: what became of it is said once more.
        """

        def begin(connection: Connection) -> list[Release]:
            is_known = action_id is not None and audit.find_action(connection, action_id) is not None
            job = releases.get(connection, order_id) if is_known else None
            if job is None:
                job = self._start_again(connection, order_id, actor, action_id)
            if job.state != PENDING or job.attempts or job.last_error:
                return []
            # In the transaction that started it: the loop of due jobs cannot come in between.
            return releases.claim(connection, [order_id], self._context.clock() + self._claim)

        for job in await self._context.transact(begin):
            await self._attempt(job)
        release = await self._context.database.read(lambda c: releases.get(c, order_id))
        if release is None or release.state != DONE:
            raise _not_confirmed(order_id, release)
        return release

    async def try_once(
        self, order_id: str, version: int, *, actor: str, reason: str | None, action_id: str
    ) -> tuple[Release, ApiError | None] | None:
        """One attempt now, of the job as a person saw it; a failed job that fails again is failed again.

        Returns the job as the attempt left it, and the error that it ended with; None when the breaker is open or
        the service asks for fewer calls: nothing was tried, and the job is as it was. Raises NotFound, and
        ReleaseConflict when it is not at that version any more. Under an action_id seen before it is the same
        action: the version is not asked again, nor is it audited twice.
        """

        def begin(connection: Connection) -> tuple[Release, list[Release]]:
            before = releases.get(connection, order_id)
            if before is None:
                raise NotFound("release", order_id)
            known = audit.find_action(connection, action_id) is not None
            if known and before.state == DONE:
                return before, []
            at = self._context.clock()
            if not known:
                refuse_changed(before, version)
                history.add(connection, order_id, [action_entry(at, "Retry release", actor, reason)])
                audit.add(connection, audit_release("RETRY_RELEASE", before, actor, at, reason, action_id))
            # The same action once more goes on with its move, unless the breaker had turned it back.
            if not known or not release_actions.has_undecided(connection, order_id):
                kind = ReleaseActionKind.BULK_RETRY
                release_actions.add(connection, order_id, before.cause, kind, actor, at, why=reason)
            claimed = releases.claim(connection, [order_id], at + self._claim)
            if not claimed:
                raise changed_since(before)
            return before, claimed

        before, claimed = await self._context.transact(begin)
        error = None
        for job in claimed:
            error = await self._attempt(job)
            if isinstance(error, CircuitOpen | InventoryThrottled):
                await self._put_back(job, before)
                return None
        after = await self._context.database.read(lambda c: releases.get(c, order_id))
        return after or before, error

    async def _put_back(self, claimed: Release, before: Release) -> None:
        """Nothing was tried: the job waits for its next turn as if nobody had touched it, unless somebody has."""

        def transaction(connection: Connection) -> None:
            job = releases.get(connection, claimed.order_id)
            # One that was started again meanwhile has no error yet.
            if job is not None and job.version == claimed.version + 1 and job.last_error is not None:
                release_actions.forget_undecided(connection, claimed.order_id)
                values = {"state": before.state, "next_attempt_at": before.next_attempt_at}
                releases.settle(connection, job, before.updated_at, last_error=before.last_error, **values)

        await self._context.transact(transaction)

    def _start_again(self, connection: Connection, order_id: str, actor: str, action_id: str | None = None) -> Release:
        before = releases.get(connection, order_id)
        if before is None:
            raise NotFound("release", order_id)
        if before.state == DONE:
            return before
        at = self._context.clock()
        release_actions.add(connection, order_id, before.cause, ReleaseActionKind.RETRY, actor, at)
        releases.start(connection, order_id, before.reason, at)
        history.add(connection, order_id, [action_entry(at, "Retry release", actor)])
        fresh = {"state": PENDING, "attempts": 0}
        audit.add(connection, audit_release("RETRY_RELEASE", before, actor, at, action_id=action_id, after=fresh))
        after = releases.get(connection, order_id)
        return after or before

    async def _run(self, job: Release) -> None:
        try:
            await self._attempt(job)
        except Exception as error:
            logger.warning("release_not_recorded", extra={"order_id": job.order_id}, exc_info=error)
            self._context.failed("releases")
            if not is_of_database(error):
                await self._count_unrecorded(job, error)

    async def _count_unrecorded(self, job: Release, error: Exception) -> None:
        """Count an attempt whose end cannot be recorded on its order, on the job alone; raises nothing.

        What it did is not known, so the next attempt asks again; after the last one a person finds the job failed.
        """
        attempts = job.attempts + 1
        delay = self._policy.delay_seconds(attempts, self._context.randomness)
        at = self._context.clock()
        values: dict[str, object] = {
            "state": FAILED if delay is None else PENDING,
            "next_attempt_at": None if delay is None else at + timedelta(seconds=delay),
            "attempts": attempts,
            "last_error": f"{ReleaseFailed.code}: Its end could not be recorded. {reason_of(error)}",
        }
        try:
            await self._context.database.write(lambda c: releases.settle(c, job, at, **values))
        except Exception as failure:  # noqa: BLE001 - a boundary: the job is due again when its claim ends
            logger.warning("release_not_counted", extra={"order_id": job.order_id, "error": repr(failure)})
        else:
            self._on_outcome(OUTCOME_FAILED if delay is None else OUTCOME_RETRIED)

    async def _attempt(self, job: Release) -> ApiError | None:
        """Make one attempt and record how it ended; returns the error, CircuitOpen when nothing was sent."""
        with self._context.step("release reservation", job.order_id, job.traceparent):
            return await self._release(job)

    async def _release(self, job: Release) -> ApiError | None:
        trail: list[Attempt] = []
        try:
            released = await self._inventory.release(job.order_id, trail)
        except (CircuitOpen, InventoryThrottled) as error:
            await self._postpone(job, error, trail)
            return error
        except ApiError as error:
            await self._failed(job, error, trail)
            return error
        except Exception as error:
            logger.warning("release_failed_unexpectedly", extra={"order_id": job.order_id}, exc_info=error)
            unforeseen = ReleaseFailed(f"It failed unexpectedly. {reason_of(error)}")
            await self._failed(job, unforeseen, trail)
            return unforeseen
        await self._done(job, "Reservation released" if released else "Nothing was left to release", trail)
        return None

    async def _postpone(self, job: Release, error: InventoryUnavailable, trail: list[Attempt]) -> None:
        """The breaker is open or the service asks for fewer calls: nothing was tried, so no attempt is counted."""
        now = self._context.clock()
        # Jobs that waited for the same moment are spread over a few seconds after it.
        delay = max(error.retry_after_seconds or 0.0, 1.0) + 3.0 * self._context.randomness()
        due = now + timedelta(seconds=delay)

        def transaction(connection: Connection) -> None:
            releases.settle(connection, job, now, next_attempt_at=due, last_error=error.message)
            incident_impacts.add(connection, job.order_id, incident_impact.of_attempts(trail))

        await self._context.database.write(transaction)

    async def _failed(self, job: Release, error: ApiError, trail: list[Attempt]) -> None:
        attempts = job.attempts + 1
        wanted = error.retry_after_seconds if isinstance(error, DependencyError) else None
        delay = self._policy.delay_seconds(attempts, self._context.randomness, retry_after_seconds=wanted)
        message = f"{error.code}: {error.message}"
        if delay is None:
            values = {"state": FAILED, "next_attempt_at": None, "attempts": attempts, "last_error": message}
            await self._settle(
                job, trail, values, lambda order, at: lifecycle.release_failed(order, message, attempts, at)
            )
            self._on_outcome(OUTCOME_FAILED)
            return
        due = self._context.clock() + timedelta(seconds=delay)
        again = {"state": PENDING, "next_attempt_at": due, "attempts": attempts, "last_error": message}
        await self._settle(job, trail, again, None)
        self._on_outcome(OUTCOME_RETRIED)

    async def _done(self, job: Release, title: str, trail: list[Attempt]) -> None:
        values = {"state": DONE, "next_attempt_at": None, "attempts": job.attempts + 1, "last_error": None}
        await self._settle(job, trail, values, lambda order, at: lifecycle.released(order, at, title))
        self._on_outcome(OUTCOME_RELEASED)

    async def _settle(
        self,
        job: Release,
        trail: list[Attempt],
        values: Mapping[str, object],
        change: Callable[[Order, datetime], lifecycle.Change] | None,
    ) -> None:
        """Record an attempt's end on the job and on the order, unless the job was started again meanwhile."""

        def work(unit: UnitOfWork) -> None:
            connection, at = unit.connection, self._context.clock()
            current = releases.settle(connection, job, at, **values)
            if current:
                _remember(connection, job, values, at)
            order = orders.get(connection, job.order_id)
            if not current or change is None or order is None:
                history.add(connection, job.order_id, call_entries(trail))
                incident_impacts.add(connection, job.order_id, incident_impact.of_attempts(trail))
                return
            unit.record(order, change(order, at), trail=trail)

        await self._context.unit_of_work(work)


def _not_confirmed(order_id: str, job: Release | None) -> ReleaseFailed:
    error = job.last_error if job else None
    details: dict[str, object] = {"orderId": order_id, "lastError": error}
    if job is not None and job.cause == BREAKER_OPEN:
        details["queuedUntil"] = job.next_attempt_at
    if error is None:
        return ReleaseFailed("Not confirmed yet: the release was started again meanwhile and is being tried.", details)
    return ReleaseFailed(f"The release failed: {error}", details)


def _remember(connection: Connection, job: Release, values: Mapping[str, object], at: datetime) -> None:
    """What came of the move under way; without one, the job's own retries have ended it."""
    if values["state"] == PENDING:
        return
    is_done = values["state"] == DONE
    outcome = ResolutionOutcome.LASTED if is_done else ResolutionOutcome.FAILED
    if release_actions.decide(connection, job.order_id, outcome) or not job.attempts:
        return
    cause = job.cause if is_done else cause_of(str(values["last_error"]))
    kind = ReleaseActionKind.AUTOMATIC
    release_actions.add(connection, job.order_id, cause, kind, SYSTEM, at, outcome=outcome)
