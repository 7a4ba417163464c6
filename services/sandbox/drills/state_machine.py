"""A drill, step by step: what is done next, given what was stored and what is seen now.

Pure: no clock, no I/O. The phases::

    WAITING      stored; the Inventory Service has not been seen yet
    APPLYING     what was there before is stored; the faults are being switched on
    RUNNING      the faults are on
    RESTORING    the faults are being switched off
    RECOVERING   the faults are off; breakers close, queues drain
    CHECKING     orders, stock and money of the drill's orders are compared
    DONE         with a report

Whatever happens, a drill that has stored what was there before goes through RESTORING: every phase
before it ends by itself, and a new process begins where the last one stopped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

MIN_SECONDS, MAX_SECONDS = 5, 1800
"""How long faults may last."""

PATIENCE = timedelta(seconds=60)
"""How long the Inventory Service may stay away before a drill is given up."""

RECOVERY_LIMIT = timedelta(minutes=30)
CHECK_LIMIT = timedelta(seconds=60)
"""How long differences may take to settle before they count as found."""

LEASE_MS = 15_000
"""Without renewal the faults end by themselves: the last defence against a runner that is gone for good."""


class Phase(StrEnum):
    """How far a drill has come."""

    WAITING = "WAITING"
    APPLYING = "APPLYING"
    RUNNING = "RUNNING"
    RESTORING = "RESTORING"
    RECOVERING = "RECOVERING"
    CHECKING = "CHECKING"
    DONE = "DONE"


class Do(StrEnum):
    """What is to be done now, outside."""

    NOTHING = "nothing"
    APPLY = "apply"
    RESTORE = "restore"
    COMPARE = "compare"
    REPORT = "report"


@dataclass(frozen=True, slots=True)
class Seen:
    """What can be seen at one moment."""

    faults: Mapping[str, Any] | None
    """As the Inventory Service shows them; None: it does not answer."""
    breakers_closed: bool = True
    level: int = 0
    """Of the health verdict: 0 good, 1 needs attention, 2 broken."""
    waiting: int = 0
    """Orders that wait for inventory."""
    releases: int = 0
    unsettled: int = 0
    """Orders of the drill on their way, without a person being asked."""
    outbox_age_seconds: float = 0.0
    differences: int | None = None
    """Of the drill's orders; None: not compared yet."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is stored of a drill, as far as the next step depends on it."""

    phase: Phase
    wanted: Mapping[str, Any]
    """The faults of the drill, complete."""
    seconds: int
    created_at: datetime
    began_at: datetime | None = None
    ended_at: datetime | None = None
    recovered_at: datetime | None = None
    is_stopped: bool = False
    before: Mapping[str, Any] | None = None
    noticed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Move:
    """The next step: what to store first, and what to do then."""

    values: dict[str, Any] = field(default_factory=dict)
    do: Do = Do.NOTHING


def advance(known: Known, seen: Seen, now: datetime) -> Move:
    """The next step of a drill that is under way."""
    return _STEPS[known.phase](known, seen, now)


def _waiting(known: Known, seen: Seen, now: datetime) -> Move:
    if known.is_stopped:
        return _finished(now)
    if seen.faults is None:
        return _finished(now) if now - known.created_at >= PATIENCE else Move()
    before = {"faults": dict(seen.faults), "waiting": seen.waiting, "releases": seen.releases, "level": seen.level}
    # Stored before anything is changed: from here on every way leads through RESTORING.
    return Move({"phase": Phase.APPLYING, "before": before}, Do.APPLY)


def _applying(known: Known, seen: Seen, now: datetime) -> Move:
    if known.is_stopped or now - known.created_at >= 2 * PATIENCE:
        return Move({"phase": Phase.RESTORING}, Do.RESTORE)
    if seen.faults is not None and same(seen.faults, known.wanted):
        return Move({"phase": Phase.RUNNING, "began_at": now})
    return Move(do=Do.APPLY)


def _running(known: Known, seen: Seen, now: datetime) -> Move:
    began_at = known.began_at or now
    noticed = _noticed(known, seen, now)
    if known.is_stopped or now - began_at >= timedelta(seconds=known.seconds):
        return Move({"phase": Phase.RESTORING, **noticed}, Do.RESTORE)
    # Every time: it renews the lease, and brings the faults back after a restart of the service.
    return Move(noticed, Do.APPLY)


def _restoring(known: Known, seen: Seen, now: datetime) -> Move:
    noticed = _noticed(known, seen, now)
    if seen.faults is not None and same(seen.faults, (known.before or {}).get("faults", {})):
        if known.began_at is None:
            return Move({"ended_at": now, **_finished(now).values}, Do.REPORT)
        return Move({"phase": Phase.RECOVERING, "ended_at": now, **noticed})
    return Move(noticed, Do.RESTORE)


def _recovering(known: Known, seen: Seen, now: datetime) -> Move:
    before = known.before or {}
    is_calm = (
        seen.breakers_closed
        and seen.waiting <= int(before.get("waiting", 0))
        and seen.releases <= int(before.get("releases", 0))
        and seen.unsettled == 0
        and seen.outbox_age_seconds < 5.0
    )
    if is_calm:
        return Move({"phase": Phase.CHECKING, "recovered_at": now}, Do.COMPARE)
    if now - (known.ended_at or now) >= RECOVERY_LIMIT:
        return Move({"phase": Phase.CHECKING}, Do.COMPARE)
    return Move(_noticed(known, seen, now))


def _checking(known: Known, seen: Seen, now: datetime) -> Move:
    since = known.recovered_at or (known.ended_at or now) + RECOVERY_LIMIT
    if seen.differences == 0 or now - since >= CHECK_LIMIT:
        return _finished(now)
    return Move(do=Do.COMPARE)


def _done(_known: Known, _seen: Seen, _now: datetime) -> Move:
    return Move()


_STEPS = {
    Phase.WAITING: _waiting,
    Phase.APPLYING: _applying,
    Phase.RUNNING: _running,
    Phase.RESTORING: _restoring,
    Phase.RECOVERING: _recovering,
    Phase.CHECKING: _checking,
    Phase.DONE: _done,
}


def _finished(now: datetime) -> Move:
    return Move({"phase": Phase.DONE, "finished_at": now}, Do.REPORT)


def _noticed(known: Known, seen: Seen, now: datetime) -> dict[str, Any]:
    """What has noticed the faults for the first time just now, as values to store."""
    is_worse = seen.level > int((known.before or {}).get("level", 0))
    found = {
        name: now.isoformat()
        for name, is_seen in (("breaker", not seen.breakers_closed), ("health", is_worse))
        if is_seen and name not in known.noticed
    }
    return {"noticed": {**known.noticed, **found}} if found else {}


def same(shown: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether two settings of the faults mean the same; the lease is no fault."""
    names = (set(shown) | set(wanted)) - {"leaseMs"}
    return all((shown.get(name) or False) == (wanted.get(name) or False) for name in names)
