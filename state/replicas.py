"""Running workers: heartbeat, breaker states and facts of each replica, for the console and the API."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from state.engine import rows
from state.engine.rows import Rows
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


_REPLICAS = Rows(replicas, Replica)


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
    rows.put(connection, replicas, _REPLICAS.values(Replica(replica, started_at, at, breakers, facts)))


def is_alive(replica: Replica, now: datetime) -> bool:
    """Whether the last heartbeat is recent."""
    return replica.heartbeat_at >= now - ALIVE_FOR


def alive(connection: Connection, now: datetime) -> list[Replica]:
    """Replicas that are alive, by name."""
    return known(connection, now - ALIVE_FOR)


def known(connection: Connection, since: datetime) -> list[Replica]:
    """Replicas with a heartbeat since ``since``, alive or not, by name."""
    found = _REPLICAS.some(connection, replicas.c.heartbeat_at >= since, order=[replicas.c.replica], limit=100)
    return [replace(replica, breakers=_readable(replica.breakers)) for replica in found]


def _readable(breakers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    named = [one for one in breakers if isinstance(one.get("name"), str) and isinstance(one.get("state"), str)]
    return [_NO_NUMBERS | one | _numbers(one) for one in named]


def _numbers(breaker: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a breaker in a heartbeat; values of other types, from another version, become 0."""
    return {name: value if isinstance(value := breaker.get(name), int | float) else 0 for name in _COUNTED}


def forget(connection: Connection, silent_since: datetime) -> None:
    """Delete replicas without a heartbeat since ``silent_since``."""
    rows.remove(connection, replicas, replicas.c.heartbeat_at < silent_since)


def remove(connection: Connection, replica: str) -> None:
    """Delete the row of a replica that stops."""
    rows.remove(connection, replicas, replicas.c.replica == replica)
