"""Running workers: heartbeat, breaker states and facts of each replica, for the console and the API."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from state.tables import replicas

ALIVE_FOR = timedelta(seconds=5)
"""A replica is alive while its last heartbeat is younger than this; defined here only."""

_COUNTED = ("calls", "failures", "denied", "thresholdPercentage", "volumeThreshold")
_NO_NUMBERS: dict[str, Any] = {"since": None, "retryInMs": None}


@dataclass(frozen=True, slots=True)
class Replica:
    """One worker, as its last heartbeat describes it."""

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
    """Store a heartbeat of the replica."""
    values = {"started_at": started_at, "heartbeat_at": at, "breakers": breakers, "facts": facts}
    if not connection.execute(update(replicas).where(replicas.c.replica == replica).values(values)).rowcount:
        connection.execute(insert(replicas), {"replica": replica, **values})


def is_alive(replica: Replica, now: datetime) -> bool:
    """Whether the last heartbeat is recent."""
    return replica.heartbeat_at >= now - ALIVE_FOR


def alive(connection: Connection, now: datetime) -> list[Replica]:
    """Replicas that are alive, by name."""
    return known(connection, now - ALIVE_FOR)


def known(connection: Connection, since: datetime) -> list[Replica]:
    """Replicas with a heartbeat since ``since``, alive or not, by name."""
    statement = select(*replicas.c).where(replicas.c.heartbeat_at >= since).order_by(replicas.c.replica).limit(100)
    return [_replica(*row) for row in connection.execute(statement)]


def _replica(
    replica: str, started_at: datetime, heartbeat_at: datetime, breakers: list[dict[str, Any]], facts: dict[str, Any]
) -> Replica:
    named = [one for one in breakers if isinstance(one.get("name"), str) and isinstance(one.get("state"), str)]
    return Replica(replica, started_at, heartbeat_at, [_NO_NUMBERS | one | _numbers(one) for one in named], facts)


def _numbers(breaker: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a breaker in a heartbeat; values of other types, from another version, become 0."""
    return {name: value if isinstance(value := breaker.get(name), int | float) else 0 for name in _COUNTED}


def forget(connection: Connection, silent_since: datetime) -> None:
    """Delete replicas without a heartbeat since ``silent_since``."""
    connection.execute(delete(replicas).where(replicas.c.heartbeat_at < silent_since))


def remove(connection: Connection, replica: str) -> None:
    """Delete the row of a replica that stops."""
    connection.execute(delete(replicas).where(replicas.c.replica == replica))
