"""Drills of the sandbox: one at a time, stored, so that a restart goes on where the last process stopped."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from state.tables import drills

MAX_PAGE = 100


@dataclass(frozen=True, slots=True)
class Drill:
    """One drill and how far it has come."""

    drill_id: str
    kind: str
    faults: dict[str, Any]
    """What the Inventory Service is made to do wrong, as its switch takes it."""
    seconds: int
    """How long the faults last."""
    actor: str
    reason: str
    phase: str
    created_at: datetime
    began_at: datetime | None = None
    """When the faults were first seen to be on."""
    ended_at: datetime | None = None
    """When what was there before was seen to be back."""
    recovered_at: datetime | None = None
    finished_at: datetime | None = None
    stopped_by: str | None = None
    before: dict[str, Any] | None = None
    """``{faults, waiting, releases, reviews}`` before the drill: what is restored, and what counts as recovered."""
    noticed: dict[str, str] = field(default_factory=dict)
    """What noticed the faults first, and when: ``{breaker: time, health: time, alert: time}``."""
    report: dict[str, Any] | None = None
    version: int = 1


_COLUMNS = [drills.c[name] for name in Drill.__dataclass_fields__]


def start(connection: Connection, drill: Drill) -> bool:
    """Store a new drill; False when another one is under way."""
    if active(connection) is not None:
        return False
    row = {name: getattr(drill, name) for name in Drill.__dataclass_fields__}
    connection.execute(insert(drills), row | {"is_active": 1})
    return True


def active(connection: Connection) -> Drill | None:
    """The drill that is under way."""
    row = connection.execute(select(*_COLUMNS).where(drills.c.is_active == 1)).one_or_none()
    return Drill(*row) if row else None


def save(connection: Connection, drill: Drill, **values: Any) -> Drill | None:
    """Write changed values unless somebody was faster, which is None; a finished drill is not active any more."""
    changes = values | {"version": drill.version + 1}
    done = {"is_active": None} if changes.get("finished_at") else {}
    changed = connection.execute(
        update(drills)
        .where(drills.c.drill_id == drill.drill_id, drills.c.version == drill.version)
        .values(changes | done)
    )
    return replace(drill, **changes) if changed.rowcount else None


def get(connection: Connection, drill_id: str) -> Drill | None:
    row = connection.execute(select(*_COLUMNS).where(drills.c.drill_id == drill_id)).one_or_none()
    return Drill(*row) if row else None


def latest(connection: Connection, limit: int = 20) -> list[Drill]:
    """The newest first."""
    statement = select(*_COLUMNS).order_by(drills.c.created_at.desc()).limit(min(limit, MAX_PAGE))
    return [Drill(*row) for row in connection.execute(statement)]
