"""Runs drills in the worker, one at a time, and makes their reports.

After a crash the next process resumes the stored drill. Only in sandbox mode. The steps are decided in
services.sandbox.drills.state_machine.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from services.breakers import overview
from services.breakers.overview import HALF_OPEN, OPEN, Breaker
from services.domain.errors import InvalidState, existing, reason_of
from services.domain.orders.events import timestamp
from services.domain.orders.model import OrderStatus
from services.metrics.health import Facts, Thresholds, assess
from services.sandbox.drills.catalogue import checked_seconds, kind_of
from services.sandbox.drills.inventory import InventorySwitches, request_traffic
from services.sandbox.drills.state_machine import LEASE_MS, Action, Observation, Phase, Step, advance
from state import audit, dead_letters, orders, outbox, releases, replicas, reviews, sandbox
from state.audit import AuditEntry
from state.engine.database import Database
from state.engine.transactions import is_of_database
from state.sandbox import Drill, OrdersOfDrill

logger = logging.getLogger("holdfast.drills")

TRIES = 6
"""Consecutive steps that may raise an unexpected error before a drill is abandoned."""

COMPARED = 200
"""Orders of a drill that are compared at its end; the periodic conservation audit compares the others."""

REFUSED = ("INVENTORY_TIMEOUT", "INVENTORY_UNAVAILABLE", "RESERVATION_FAILED", "INSUFFICIENT_INVENTORY")
SHOWN = 20
"""Ids of lost orders that are listed."""

Compare = Callable[[Sequence[str]], Awaitable[None]]


@dataclass(slots=True)
class DrillRunner:
    """Starts and stops drills; run_next() is one round of a Loop."""

    database: Database
    clock: Callable[[], datetime]
    switches: InventorySwitches
    compare: Compare
    """Compares orders with stock and money, and stores the differences."""
    thresholds: Thresholds
    compared: str | None = field(default=None, init=False)
    """Id of the drill whose orders this process has compared."""
    failures: tuple[str, int] = field(default=("", 0), init=False)
    """Id of the drill whose last rounds raised, and the number of those rounds."""

    async def start(
        self, kind: str, *, seconds: int, level: float | None, reason: str, actor: str, drill_id: str
    ) -> Drill:
        """Store a drill to be run. Raises ValidationFailed, or InvalidState while another drill runs."""
        at = self.clock()
        faults = kind_of(kind).faults(level)
        drill = Drill(drill_id, kind, faults, checked_seconds(seconds), actor, reason, Phase.WAITING, at)

        def transaction(connection: Connection) -> Drill:
            if (known := sandbox.get(connection, drill_id)) is not None:
                return known
            if not sandbox.start(connection, drill):
                raise InvalidState("Another drill is under way; there is one at a time.")
            after = {"kind": kind, "seconds": seconds, "faults": faults}
            audit.add(connection, _entry("START_DRILL", drill, actor, at, {"drill": "none"}, after))
            return drill

        return await self.database.write(transaction)

    async def stop(self, drill_id: str, *, actor: str) -> Drill:
        """End the faults of a drill now. Raises NotFound, or InvalidState if they have ended."""

        def transaction(connection: Connection) -> Drill:
            drill = existing(sandbox.get(connection, drill_id), "drill", drill_id)
            if drill.phase not in (Phase.WAITING, Phase.APPLYING, Phase.RUNNING):
                raise InvalidState(f"The faults of this drill are over; it is {drill.phase.lower()}.")
            stopped = sandbox.save(connection, drill, stopped_by=actor)
            if stopped is None:
                raise InvalidState("The drill moved on at this moment; look again.")
            at = self.clock()
            audit.add(connection, _entry("STOP_DRILL", drill, actor, at, {"phase": drill.phase}, {"stoppedBy": actor}))
            return stopped

        return await self.database.write(transaction)

    async def run_next(self) -> bool:
        """Run the next step of the active drill, if any. Returns whether the step changed the stored drill.

        Errors are raised. After TRIES unexpected errors in a row the drill is abandoned, because a stuck drill
        would block all later ones.
        """
        drill = await self.database.read(sandbox.active)
        if drill is None:
            return False
        try:
            has_moved = await self._step(drill)
        except Exception as error:
            if not is_of_database(error):
                await self._count_failure(drill, error)
            raise
        self.failures = ("", 0)
        return has_moved

    async def _count_failure(self, drill: Drill, error: Exception) -> None:
        drill_id, failures = self.failures
        failures = failures + 1 if drill_id == drill.drill_id else 1
        self.failures = (drill.drill_id, failures)
        if failures < TRIES:
            return
        why = f"It was given up: {failures} steps in a row failed unexpectedly. {reason_of(error)}"
        at = self.clock()

        def give_up(connection: Connection) -> None:
            now = sandbox.get(connection, drill.drill_id)
            if now is None or now.finished_at is not None:
                return
            made = {"completed": False, "why": why}
            sandbox.save(connection, now, phase=Phase.DONE, finished_at=at, report=made)
            audit.add(connection, _entry("FINISH_DRILL", now, "system", at, {"phase": now.phase}, made))

        await self.database.write(give_up)
        logger.error("drill_given_up", extra={"drill": drill.drill_id, "reason": why})
        # If this fails, the lease ends the faults.
        await self.switches.set_faults({**(drill.before or {}).get("faults", {}), "leaseMs": None})

    async def _step(self, drill: Drill) -> bool:
        database = self.database
        faults = await self.switches.faults()
        now = self.clock()
        observed = await database.read(lambda connection: self._observe(connection, drill, faults, now))
        step = advance(drill, observed, now)
        return await self._execute(drill, step)

    async def _execute(self, drill: Drill, step: Step) -> bool:
        if step.action is Action.REPORT:
            return await self._finish(drill, step)
        if step.values:
            stored = await self.database.write(lambda c: sandbox.save(c, drill, **step.values))
            if stored is None:
                # Another process or a stop has changed the drill first: the next round reads its state.
                return False
            drill = stored
            logger.info("drill_moved", extra={"drill": drill.drill_id, "phase": drill.phase})
        if step.action is Action.APPLY:
            await self.switches.set_faults({**drill.faults, "leaseMs": LEASE_MS})
        elif step.action is Action.RESTORE:
            await self.switches.set_faults({**(drill.before or {}).get("faults", {}), "leaseMs": None})
        elif step.action is Action.COMPARE:
            await self._compare(drill)
        return bool(step.values)

    async def _compare(self, drill: Drill) -> None:
        assert drill.began_at is not None  # noqa: S101 - a drill is checked only after it began
        began_at, ended_at = drill.began_at, drill.ended_at or self.clock()
        facts = await self.database.read(lambda c: sandbox.orders_placed_between(c, began_at, ended_at))
        await self.compare(facts.ids[:COMPARED])
        self.compared = drill.drill_id

    async def _finish(self, drill: Drill, step: Step) -> bool:
        now = self.clock()

        def transaction(connection: Connection) -> None:
            report = report_of(connection, replace(drill, **step.values), now)
            if sandbox.save(connection, drill, **step.values, report=report) is not None:
                after = {"lost": report.get("lost")}
                audit.add(connection, _entry("FINISH_DRILL", drill, "system", now, {"phase": drill.phase}, after))

        await self.database.write(transaction)
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
        health = assess(Facts(len(alive), known, queues, age, None, None), self.thresholds)
        unsettled: tuple[str, ...] = ()
        differences = None
        if drill.began_at and drill.ended_at:
            facts = sandbox.orders_placed_between(connection, drill.began_at, drill.ended_at)
            unsettled = facts.unsettled
            if self.compared == drill.drill_id:
                differences = len(sandbox.differences_of(connection, facts.ids))
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
        at = self.clock()
        await self.database.write(lambda c: request_traffic(c, orders_per_second, actor=actor, at=at))
        await self.switches.set_traffic(orders_per_second)


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


def report_of(connection: Connection, drill: Drill, now: datetime) -> dict[str, Any]:
    """The report, from the database alone: ``{completed, detection, orders, recovery, lost}``, times in seconds."""
    if drill.began_at is None:
        why = "It was stopped before it began." if drill.stopped_by else "The Inventory Service did not answer."
        return {"completed": False, "why": why}
    end, recovered_at = drill.ended_at or now, drill.recovered_at
    facts = sandbox.orders_placed_between(connection, drill.began_at, end)
    opened = sandbox.first_breaker_opened(connection, drill.began_at, end)
    differences = sandbox.differences_of(connection, facts.ids)
    return {
        "completed": True,
        "faultSeconds": seconds(drill.began_at, end),
        "detection": detection(drill.began_at, drill.noticed, opened),
        "breakersOpened": sandbox.breakers_opened(connection, drill.began_at, end),
        "orders": _orders(facts),
        "recovery": {
            "seconds": seconds(end, recovered_at) if recovered_at else None,
            "at": timestamp(recovered_at) if recovered_at else None,
        },
        "lost": {
            "differences": [f"{kind} {order_id}" for order_id, kind in differences[:SHOWN]],
            "unsettled": list(facts.unsettled[:SHOWN]),
            "count": len(differences) + len(facts.unsettled),
            "compared": min(facts.placed, COMPARED),
        },
    }


def detection(began_at: datetime, noticed: dict[str, str], opened: tuple[str, datetime] | None) -> list[dict[str, Any]]:
    """The signals that detected the faults, each with its delay in seconds, the fastest first."""
    moments = {name: datetime.fromisoformat(at) for name, at in noticed.items()}
    if opened is not None:
        # The stored transition of the breaker is exact; an observation of the runner is up to a second late.
        moments["breaker"] = min(opened[1], moments.get("breaker", opened[1]))
    found = [{"by": name, "seconds": seconds(began_at, at)} for name, at in moments.items()]
    return sorted(found, key=lambda one: float(str(one["seconds"])))


def _orders(facts: OrdersOfDrill) -> dict[str, Any]:
    refused = sum(count for code, count in facts.refusals.items() if code in REFUSED)
    return {
        "placed": facts.placed,
        "hurt": refused + facts.flagged,
        "refused": refused,
        "flagged": facts.flagged,
        "refusals": facts.refusals,
        "statuses": facts.statuses,
    }


def seconds(start: datetime, end: datetime) -> float:
    return round(max(0.0, (end - start).total_seconds()), 1)
