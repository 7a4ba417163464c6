"""State machine of a drill: the next step, given the stored state and an observation.

Pure: no clock, no I/O. The phases::

    WAITING      stored; the Inventory Service has not answered yet
    APPLYING     the earlier settings are stored; the faults are being switched on
    RUNNING      the faults are on
    RESTORING    the faults are being switched off
    RECOVERING   the faults are off; breakers close, queues drain
    CHECKING     orders, stock and money of the drill's orders are compared
    DONE         with a report

A drill that has stored the earlier settings always reaches RESTORING, because APPLYING and RUNNING end by themselves
and a new process resumes at the stored phase.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from state.sandbox import Drill

MIN_SECONDS, MAX_SECONDS = 5, 1800
"""How long faults may last."""

PATIENCE = timedelta(seconds=60)
"""How long the Inventory Service may be unreachable before a drill is abandoned."""

RECOVERY_LIMIT = timedelta(minutes=30)
CHECK_LIMIT = timedelta(seconds=60)
"""How long differences may take to settle before the report counts them."""

LEASE_MS = 15_000
"""Milliseconds after which the faults end by themselves unless renewed, in case the runner has died."""


class Phase(StrEnum):
    """The phases of a drill."""

    WAITING = "WAITING"
    APPLYING = "APPLYING"
    RUNNING = "RUNNING"
    RESTORING = "RESTORING"
    RECOVERING = "RECOVERING"
    CHECKING = "CHECKING"
    DONE = "DONE"


class Action(StrEnum):
    """What the runner does after it has stored a step."""

    NOTHING = "nothing"
    APPLY = "apply"
    RESTORE = "restore"
    COMPARE = "compare"
    REPORT = "report"


@dataclass(frozen=True, slots=True)
class Observation:
    """The measured state of the system at one moment."""

    faults: Mapping[str, Any] | None
    """Fault settings of the Inventory Service; None if it does not answer."""
    breakers_closed: bool = True
    level: int = 0
    """Level of the health assessment: 0 good, 1 needs attention, 2 broken."""
    waiting: int = 0
    """Orders that wait for inventory."""
    releases: int = 0
    unsettled: int = 0
    """Orders of the drill that are neither finished nor in manual review."""
    outbox_age_seconds: float = 0.0
    differences: int | None = None
    """Differences found for the drill's orders; None until they are compared."""


@dataclass(frozen=True, slots=True)
class Step:
    """The next step: the values to store first, and the action after that."""

    values: dict[str, Any] = field(default_factory=dict)
    action: Action = Action.NOTHING


def advance(drill: Drill, observed: Observation, now: datetime) -> Step:
    """The next step of a drill that is under way."""
    return _STEPS[Phase(drill.phase)](drill, observed, now)


def _waiting(drill: Drill, observed: Observation, now: datetime) -> Step:
    if drill.stopped_by is not None:
        return _finished(now)
    if observed.faults is None:
        return _finished(now) if now - drill.created_at >= PATIENCE else Step()
    counts = {"waiting": observed.waiting, "releases": observed.releases, "level": observed.level}
    before = {"faults": dict(observed.faults), **counts}
    # Stored before anything is changed, so that every path from here leads through RESTORING.
    return Step({"phase": Phase.APPLYING, "before": before}, Action.APPLY)


def _applying(drill: Drill, observed: Observation, now: datetime) -> Step:
    if drill.stopped_by is not None or now - drill.created_at >= 2 * PATIENCE:
        return Step({"phase": Phase.RESTORING}, Action.RESTORE)
    if observed.faults is not None and same(observed.faults, drill.faults):
        return Step({"phase": Phase.RUNNING, "began_at": now})
    return Step(action=Action.APPLY)


def _running(drill: Drill, observed: Observation, now: datetime) -> Step:
    began_at = drill.began_at or now
    noticed = _noticed(drill, observed, now)
    if drill.stopped_by is not None or now - began_at >= timedelta(seconds=drill.seconds):
        return Step({"phase": Phase.RESTORING, **noticed}, Action.RESTORE)
    # Repeated in every round: renews the lease, and restores the faults after a restart of the service.
    return Step(noticed, Action.APPLY)


def _restoring(drill: Drill, observed: Observation, now: datetime) -> Step:
    noticed = _noticed(drill, observed, now)
    if observed.faults is not None and same(observed.faults, (drill.before or {}).get("faults", {})):
        if drill.began_at is None:
            return Step({"ended_at": now, **_finished(now).values}, Action.REPORT)
        return Step({"phase": Phase.RECOVERING, "ended_at": now, **noticed})
    return Step(noticed, Action.RESTORE)


def _recovering(drill: Drill, observed: Observation, now: datetime) -> Step:
    before = drill.before or {}
    is_calm = (
        observed.breakers_closed
        and observed.waiting <= int(before.get("waiting", 0))
        and observed.releases <= int(before.get("releases", 0))
        and observed.unsettled == 0
        and observed.outbox_age_seconds < 5.0
    )
    if is_calm:
        return Step({"phase": Phase.CHECKING, "recovered_at": now}, Action.COMPARE)
    if now - (drill.ended_at or now) >= RECOVERY_LIMIT:
        return Step({"phase": Phase.CHECKING}, Action.COMPARE)
    return Step(_noticed(drill, observed, now))


def _checking(drill: Drill, observed: Observation, now: datetime) -> Step:
    since = drill.recovered_at or (drill.ended_at or now) + RECOVERY_LIMIT
    if observed.differences == 0 or now - since >= CHECK_LIMIT:
        return _finished(now)
    return Step(action=Action.COMPARE)


def _done(_known: Drill, _observe: Observation, _now: datetime) -> Step:
    return Step()


_STEPS = {
    Phase.WAITING: _waiting,
    Phase.APPLYING: _applying,
    Phase.RUNNING: _running,
    Phase.RESTORING: _restoring,
    Phase.RECOVERING: _recovering,
    Phase.CHECKING: _checking,
    Phase.DONE: _done,
}


def _finished(now: datetime) -> Step:
    return Step({"phase": Phase.DONE, "finished_at": now}, Action.REPORT)


def _noticed(drill: Drill, observed: Observation, now: datetime) -> dict[str, Any]:
    """The values to store for signals (breaker, health) that detect the faults for the first time in this round."""
    is_worse = observed.level > int((drill.before or {}).get("level", 0))
    found = {
        name: now.isoformat()
        for name, is_seen in (("breaker", not observed.breakers_closed), ("health", is_worse))
        if is_seen and name not in drill.noticed
    }
    return {"noticed": {**drill.noticed, **found}} if found else {}


def same(shown: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether two fault settings are equivalent; the lease is not compared."""
    names = (set(shown) | set(wanted)) - {"leaseMs"}
    return all((shown.get(name) or False) == (wanted.get(name) or False) for name in names)
