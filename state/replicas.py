"""The workers that run: heartbeat, breaker states and facts of each, for the console and the API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from state.tables import breaker_transitions, replicas

ALIVE_FOR = timedelta(seconds=5)
"""A replica whose last heartbeat is older is taken for dead, by everybody who asks."""

_COUNTED = ("calls", "failures", "denied", "thresholdPercentage", "volumeThreshold")
_NO_NUMBERS: dict[str, Any] = {"since": None, "retryInMs": None}


@dataclass(frozen=True, slots=True)
class Replica:
    """One worker; alive when its heartbeat is recent."""

    replica: str
    started_at: datetime
    heartbeat_at: datetime
    breakers: list[dict[str, Any]]
    """``{name, state, since, retryInMs, calls, failures, failureRate, thresholdPercentage, volumeThreshold,
    denied, buckets}`` each."""
    facts: dict[str, Any]


def beat(
    connection: Connection,
    replica: str,
    *,
    started_at: datetime,
    at: datetime,
    breakers: list[dict[str, Any]],
    facts: dict[str, Any],
) -> None:
    """Say that the replica lives, and how it is."""
    values = {"started_at": started_at, "heartbeat_at": at, "breakers": breakers, "facts": facts}
    if not connection.execute(update(replicas).where(replicas.c.replica == replica).values(values)).rowcount:
        connection.execute(insert(replicas), {"replica": replica, **values})


def alive(connection: Connection, now: datetime) -> list[Replica]:
    """Replicas that live, by name."""
    return known(connection, now - ALIVE_FOR)


def known(connection: Connection, since: datetime) -> list[Replica]:
    """Replicas heard of since then, alive or not, by name."""
    statement = select(*replicas.c).where(replicas.c.heartbeat_at >= since).order_by(replicas.c.replica).limit(100)
    return [_replica(*row) for row in connection.execute(statement)]


def _replica(
    replica: str, started_at: datetime, heartbeat_at: datetime, breakers: list[dict[str, Any]], facts: dict[str, Any]
) -> Replica:
    named = [one for one in breakers if isinstance(one.get("name"), str) and isinstance(one.get("state"), str)]
    return Replica(replica, started_at, heartbeat_at, [_NO_NUMBERS | one | _numbers(one) for one in named], facts)


def _numbers(breaker: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a heartbeat, nothing in the place of what is none: another version may say it otherwise."""
    return {name: value if isinstance(value := breaker.get(name), int | float) else 0 for name in _COUNTED}


def forget(connection: Connection, silent_since: datetime) -> None:
    """Drop replicas that have been silent for long."""
    connection.execute(delete(replicas).where(replicas.c.heartbeat_at < silent_since))


def remove(connection: Connection, replica: str) -> None:
    """A replica that stops in good order takes its row along."""
    connection.execute(delete(replicas).where(replicas.c.replica == replica))


@dataclass(frozen=True, slots=True)
class BreakerTransition:
    """A breaker of one replica changed its state."""

    replica: str
    breaker: str
    from_state: str
    to_state: str
    at: datetime


def add_transitions(connection: Connection, transitions: Sequence[BreakerTransition]) -> None:
    if transitions:
        rows = [{name: getattr(t, name) for name in BreakerTransition.__dataclass_fields__} for t in transitions]
        connection.execute(insert(breaker_transitions), rows)


def transitions_since(connection: Connection, since: datetime, limit: int = 500) -> list[BreakerTransition]:
    """Newest first."""
    table = breaker_transitions
    statement = (
        select(table.c.replica, table.c.breaker, table.c.from_state, table.c.to_state, table.c.at)
        .where(table.c.at >= since)
        .order_by(table.c.at.desc(), table.c.id.desc())
        .limit(limit)
    )
    return [BreakerTransition(*row) for row in connection.execute(statement)]
