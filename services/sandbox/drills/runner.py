"""Runs drills in the worker: stored, one at a time, and gone on with by the next process after a crash.

Only in sandbox mode. What is done next is decided in services.sandbox.drills.state_machine.
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
from services.sandbox.drills.faults import InventorySwitches
from services.sandbox.drills.state_machine import LEASE_MS, Do, Known, Move, Phase, Seen, advance
from services.sandbox.drills.stock_view import wish_traffic
from state import audit, dead_letters, drill_facts, drills, orders, outbox, releases, replicas, reviews
from state.audit import AuditEntry
from state.drills import Drill
from state.engine.database import Database
from state.engine.failures import is_of_database

logger = logging.getLogger("holdfast.drills")

TRIES = 6
"""Steps in a row that may raise something unforeseen before a drill is given up."""

COMPARED = 200
"""Orders of a drill whose stock and money are asked for at its end; the audit comes to the others by itself."""

Compare = Callable[[Sequence[str]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class DrillParts:
    """What a runner works with."""

    database: Database
    clock: Callable[[], datetime]
    new_id: Callable[[], str]
    switches: InventorySwitches
    compare: Compare
    """Compares orders with stock and money now, and notes what differs."""
    thresholds: Thresholds


class DrillRunner:
    """Starts and stops drills for people; run_next() is one round of a Loop."""

    def __init__(self, parts: DrillParts) -> None:
        self._parts = parts
        self._compared: str | None = None
        """The drill whose orders were compared by this process."""
        self._failures: tuple[str, int] = ("", 0)
        """The drill whose last rounds raised, and how many in a row."""

    async def start(
        self, kind: str, *, seconds: int, level: float | None, reason: str, actor: str, drill_id: str
    ) -> Drill:
        """Store a drill to be run; raises ValidationFailed, InvalidState when another one is under way."""
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
        """End the faults of a drill now; raises NotFound, InvalidState when they have ended."""

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
        """The next step of the drill that is under way, if any; raises what it raises, at most TRIES times in a row.

        There is one drill at a time, so one that never gets on is given up: else it would be the last.
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
        # Whatever this does, the lease of the faults ends them.
        await self._parts.switches.set_faults({**(drill.before or {}).get("faults", {}), "leaseMs": None})

    async def _step(self, drill: Drill) -> bool:
        database = self._parts.database
        faults = await self._parts.switches.faults()
        now = self._parts.clock()
        seen = await database.read(lambda connection: self._seen(connection, drill, faults, now))
        move = advance(known_of(drill), seen, now)
        return await self._make(drill, move)

    async def _make(self, drill: Drill, move: Move) -> bool:
        if move.do is Do.REPORT:
            return await self._finish(drill, move)
        if move.values:
            stored = await self._parts.database.write(lambda c: drills.save(c, drill, **move.values))
            if stored is None:
                # Another process, or a stop, was faster: the next round sees what it stored.
                return False
            drill = stored
            logger.info("drill_moved", extra={"drill": drill.drill_id, "phase": drill.phase})
        if move.do is Do.APPLY:
            await self._parts.switches.set_faults({**drill.faults, "leaseMs": LEASE_MS})
        elif move.do is Do.RESTORE:
            await self._parts.switches.set_faults({**(drill.before or {}).get("faults", {}), "leaseMs": None})
        elif move.do is Do.COMPARE:
            await self._compare(drill)
        return bool(move.values)

    async def _compare(self, drill: Drill) -> None:
        assert drill.began_at is not None  # noqa: S101 - a drill is checked only after it began
        began_at, ended_at = drill.began_at, drill.ended_at or self._parts.clock()
        facts = await self._parts.database.read(lambda c: drill_facts.orders_between(c, began_at, ended_at))
        await self._parts.compare(facts.ids[:COMPARED])
        self._compared = drill.drill_id

    async def _finish(self, drill: Drill, move: Move) -> bool:
        def transaction(connection: Connection) -> None:
            changed = {**{name: getattr(drill, name) for name in ("ended_at", "recovered_at")}, **move.values}
            ended, recovered = changed["ended_at"], changed["recovered_at"]
            made = report.made(connection, drill, ended, recovered, self._parts.clock(), compared=COMPARED)
            if drills.save(connection, drill, **move.values, report=made) is None:
                return
            at = self._parts.clock()
            audit.add(
                connection,
                _entry("FINISH_DRILL", drill, "system", at, {"phase": drill.phase}, {"lost": made.get("lost")}),
            )

        await self._parts.database.write(transaction)
        logger.info("drill_finished", extra={"drill": drill.drill_id})
        return False

    def _seen(self, connection: Connection, drill: Drill, faults: dict[str, Any] | None, now: datetime) -> Seen:
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
            facts = drill_facts.orders_between(connection, drill.began_at, drill.ended_at)
            unsettled = facts.unsettled
            if self._compared == drill.drill_id:
                differences = len(drill_facts.differences_of(connection, facts.ids))
        return Seen(
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
        """Ask for another rate of the demo traffic; it is kept over restarts of the Inventory Service."""
        at = self._parts.clock()
        await self._parts.database.write(lambda c: wish_traffic(c, orders_per_second, actor=actor, at=at))
        await self._parts.switches.set_traffic(orders_per_second)


def _is_ready(breaker: Breaker, now: datetime) -> bool:
    if breaker.state == OPEN:
        # Without a call nothing closes it; what it waits for is a customer.
        return breaker.retry_at is not None and breaker.retry_at <= now
    return breaker.state != HALF_OPEN


def known_of(drill: Drill) -> Known:
    """What the rules need to know of a stored drill."""
    return Known(
        phase=Phase(drill.phase),
        wanted=drill.faults,
        seconds=drill.seconds,
        created_at=drill.created_at,
        began_at=drill.began_at,
        ended_at=drill.ended_at,
        recovered_at=drill.recovered_at,
        is_stopped=drill.stopped_by is not None,
        before=drill.before,
        noticed=drill.noticed,
    )


def _entry(
    action: str, drill: Drill, actor: str, at: datetime, before: dict[str, Any], after: dict[str, Any]
) -> AuditEntry:
    return AuditEntry(
        at=at,
        actor=actor,
        action=action,
        target=f"drill:{drill.drill_id}",
        order_id=None,
        reason=drill.reason,
        before=before,
        after=after,
        result="done",
        action_id=None,
        correlation_id=drill.drill_id,
    )
