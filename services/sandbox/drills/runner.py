"""Runs drills in the worker, one at a time; after a crash the next process resumes the stored drill.

Only in sandbox mode. The steps are decided in services.sandbox.drills.state_machine.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from services.breakers import overview
from services.breakers.overview import HALF_OPEN, OPEN, Breaker
from services.domain.errors import InvalidState, NotFound
from services.domain.orders.failed_steps import reason_of
from services.domain.orders.model import OrderStatus
from services.metrics.health import Facts, Thresholds, assess
from services.sandbox.drills import report
from services.sandbox.drills.catalogue import checked_seconds, kind_of
from services.sandbox.drills.inventory import InventorySwitches, request_traffic
from services.sandbox.drills.state_machine import LEASE_MS, Action, Observation, Phase, Step, advance
from state import audit, dead_letters, drills, orders, outbox, releases, replicas, reviews
from state.audit import AuditEntry
from state.drills import Drill
from state.engine.database import Database
from state.engine.failures import is_of_database

logger = logging.getLogger("holdfast.drills")

TRIES = 6
"""Consecutive steps that may raise an unexpected error before a drill is abandoned."""

COMPARED = 200
"""Orders of a drill that are compared at its end; the periodic conservation audit compares the others."""

Compare = Callable[[Sequence[str]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class DrillParts:
    """Dependencies of a DrillRunner."""

    database: Database
    clock: Callable[[], datetime]
    new_id: Callable[[], str]
    switches: InventorySwitches
    compare: Compare
    """Compares orders with stock and money, and stores the differences."""
    thresholds: Thresholds


class DrillRunner:
    """Starts and stops drills; run_next() is one round of a Loop."""

    def __init__(self, parts: DrillParts) -> None:
        self._parts = parts
        self._compared: str | None = None
        """Id of the drill whose orders this process has compared."""
        self._failures: tuple[str, int] = ("", 0)
        """Id of the drill whose last rounds raised, and the number of those rounds."""

    async def start(
        self, kind: str, *, seconds: int, level: float | None, reason: str, actor: str, drill_id: str
    ) -> Drill:
        """Store a drill to be run. Raises ValidationFailed, or InvalidState while another drill runs."""
        at = self._parts.clock()
        faults = kind_of(kind).faults(level)
        drill = Drill(drill_id, kind, faults, checked_seconds(seconds), actor, reason, Phase.WAITING, at)

        def transaction(connection: Connection) -> Drill:
            if (known := drills.get(connection, drill_id)) is not None:
                return known
            if not drills.start(connection, drill):
                raise InvalidState("Another drill is under way; there is one at a time.")
            after = {"kind": kind, "seconds": seconds, "faults": faults}
            audit.add(connection, _entry("START_DRILL", drill, actor, at, {"drill": "none"}, after))
            return drill

        return await self._parts.database.write(transaction)

    async def stop(self, drill_id: str, *, actor: str) -> Drill:
        """End the faults of a drill now. Raises NotFound, or InvalidState if they have ended."""

        def transaction(connection: Connection) -> Drill:
            drill = drills.get(connection, drill_id)
            if drill is None:
                raise NotFound("drill", drill_id)
            if drill.phase not in (Phase.WAITING, Phase.APPLYING, Phase.RUNNING):
                raise InvalidState(f"The faults of this drill are over; it is {drill.phase.lower()}.")
            stopped = drills.save(connection, drill, stopped_by=actor)
            if stopped is None:
                raise InvalidState("The drill moved on at this moment; look again.")
            at = self._parts.clock()
            audit.add(connection, _entry("STOP_DRILL", drill, actor, at, {"phase": drill.phase}, {"stoppedBy": actor}))
            return stopped

        return await self._parts.database.write(transaction)

    async def run_next(self) -> bool:
        """Run the next step of the active drill, if any. Returns whether the step changed the stored drill.

        Errors are raised. After TRIES unexpected errors in a row the drill is abandoned, because a stuck drill
        would block all later ones.
        """
        drill = await self._parts.database.read(drills.active)
        if drill is None:
            return False
        try:
            has_moved = await self._step(drill)
        except Exception as error:
            if not is_of_database(error):
                await self._count_failure(drill, error)
            raise
        self._failures = ("", 0)
        return has_moved

    async def _count_failure(self, drill: Drill, error: Exception) -> None:
        drill_id, failures = self._failures
        failures = failures + 1 if drill_id == drill.drill_id else 1
        self._failures = (drill.drill_id, failures)
        if failures < TRIES:
            return
        why = f"It was given up: {failures} steps in a row failed unexpectedly. {reason_of(error)}"
        at = self._parts.clock()

        def give_up(connection: Connection) -> None:
            now = drills.get(connection, drill.drill_id)
            if now is None or now.finished_at is not None:
                return
            made = {"completed": False, "why": why}
            drills.save(connection, now, phase=Phase.DONE, finished_at=at, report=made)
            audit.add(connection, _entry("FINISH_DRILL", now, "system", at, {"phase": now.phase}, made))

        await self._parts.database.write(give_up)
        logger.error("drill_given_up", extra={"drill": drill.drill_id, "reason": why})
        # If this fails, the lease ends the faults.
        await self._parts.switches.set_faults({**(drill.before or {}).get("faults", {}), "leaseMs": None})

    async def _step(self, drill: Drill) -> bool:
        database = self._parts.database
        faults = await self._parts.switches.faults()
        now = self._parts.clock()
        observed = await database.read(lambda connection: self._observe(connection, drill, faults, now))
        step = advance(drill, observed, now)
        return await self._execute(drill, step)

    async def _execute(self, drill: Drill, step: Step) -> bool:
        if step.action is Action.REPORT:
            return await self._finish(drill, step)
        if step.values:
            stored = await self._parts.database.write(lambda c: drills.save(c, drill, **step.values))
            if stored is None:
                # Another process or a stop has changed the drill first: the next round reads its state.
                return False
            drill = stored
            logger.info("drill_moved", extra={"drill": drill.drill_id, "phase": drill.phase})
        if step.action is Action.APPLY:
            await self._parts.switches.set_faults({**drill.faults, "leaseMs": LEASE_MS})
        elif step.action is Action.RESTORE:
            await self._parts.switches.set_faults({**(drill.before or {}).get("faults", {}), "leaseMs": None})
        elif step.action is Action.COMPARE:
            await self._compare(drill)
        return bool(step.values)

    async def _compare(self, drill: Drill) -> None:
        assert drill.began_at is not None  # noqa: S101 - a drill is checked only after it began
        began_at, ended_at = drill.began_at, drill.ended_at or self._parts.clock()
        facts = await self._parts.database.read(lambda c: drills.orders_placed_between(c, began_at, ended_at))
        await self._parts.compare(facts.ids[:COMPARED])
        self._compared = drill.drill_id

    async def _finish(self, drill: Drill, step: Step) -> bool:
        def transaction(connection: Connection) -> None:
            changed = {**{name: getattr(drill, name) for name in ("ended_at", "recovered_at")}, **step.values}
            ended, recovered = changed["ended_at"], changed["recovered_at"]
            made = report.made(connection, drill, ended, recovered, self._parts.clock(), compared=COMPARED)
            if drills.save(connection, drill, **step.values, report=made) is None:
                return
            at = self._parts.clock()
            audit.add(
                connection,
                _entry("FINISH_DRILL", drill, "system", at, {"phase": drill.phase}, {"lost": made.get("lost")}),
            )

        await self._parts.database.write(transaction)
        logger.info("drill_finished", extra={"drill": drill.drill_id})
        return False

    def _observe(
        self, connection: Connection, drill: Drill, faults: dict[str, Any] | None, now: datetime
    ) -> Observation:
        alive = replicas.alive(connection, now)
        known = overview.by_name(
            overview.replica_breaker(row.replica, one, row.heartbeat_at) for row in alive for one in row.breakers
        )
        _, oldest = outbox.pending(connection)
        age = (now - oldest).total_seconds() if oldest else 0.0
        waiting = orders.count_with_status(connection, OrderStatus.PENDING_INVENTORY)
        jobs = releases.count_by_state(connection)
        queues = {
            "reservation": waiting,
            "failed_releases": jobs.get("FAILED", 0),
            "reviews": sum(reviews.count_open_by_reason(connection).values()),
            "dead_letters": dead_letters.count_open(connection),
        }
        health = assess(Facts(len(alive), known, queues, age, None, None), self._parts.thresholds)
        unsettled: tuple[str, ...] = ()
        differences = None
        if drill.began_at and drill.ended_at:
            facts = drills.orders_placed_between(connection, drill.began_at, drill.ended_at)
            unsettled = facts.unsettled
            if self._compared == drill.drill_id:
                differences = len(drills.differences_of(connection, facts.ids))
        return Observation(
            faults=faults,
            breakers_closed=all(_is_ready(breaker, now) for breaker in known),
            level=int(health.level),
            waiting=waiting,
            releases=jobs.get("PENDING", 0),
            unsettled=len(unsettled),
            outbox_age_seconds=age,
            differences=differences,
        )

    async def set_traffic(self, orders_per_second: float, *, actor: str) -> None:
        """Set the rate of the demo traffic; it survives restarts of the Inventory Service."""
        at = self._parts.clock()
        await self._parts.database.write(lambda c: request_traffic(c, orders_per_second, actor=actor, at=at))
        await self._parts.switches.set_traffic(orders_per_second)


def _is_ready(breaker: Breaker, now: datetime) -> bool:
    if breaker.state == OPEN:
        # An open breaker whose retry time has passed closes only with the next call, so it counts as ready.
        return breaker.retry_at is not None and breaker.retry_at <= now
    return breaker.state != HALF_OPEN


def _entry(
    action: str, drill: Drill, actor: str, at: datetime, before: dict[str, Any], after: dict[str, Any]
) -> AuditEntry:
    return AuditEntry(
        at=at,
        actor=actor,
        action=action,
        target=f"drill:{drill.drill_id}",
        reason=drill.reason,
        before=before,
        after=after,
        correlation_id=drill.drill_id,
    )
