"""Running workers: heartbeat, breaker states and facts of each replica, and the leases of singleton work.

A lease has one row per kind of work and is renewed by its leader. When the leader dies, the lease expires and another
replica takes it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select

from state.engine import rows
from state.engine.rows import Rows
from state.tables import leases, replicas

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


def beat(connection: Connection, replica: Replica) -> None:
    """Store a heartbeat of the replica."""
    rows.put(connection, replicas, _REPLICAS.values(replica))


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


LONGEST_LEASE = timedelta(seconds=60)
"""Default upper limit of a lease."""

_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Lease:
    """The leader of the work, the end of its lease, and its last note."""

    name: str
    holder: str
    acquired_at: datetime
    expires_at: datetime
    noted: dict[str, Any]


_LEASES = Rows(leases, Lease)


def take_lease(connection: Connection, name: str, holder: str, now: datetime, until: datetime) -> bool:
    """Take or renew a lease; False while another holder's lease lasts.

    Must be the first statement of a transaction, so that other replicas wait until its commit.
    """
    is_it = leases.c.name == name
    if rows.change(connection, leases, is_it, leases.c.holder == holder, expires_at=until):
        return True
    taken = {"holder": holder, "acquired_at": now, "expires_at": until}
    if rows.change(connection, leases, is_it, leases.c.expires_at <= now, **taken):
        return True
    return rows.insert_new(connection, leases, {"name": name, **taken, "noted": {}})


def decided_once(connection: Connection, name: str, proposal: str, now: datetime) -> str:
    """The value that the first replica proposed under this name; it never changes.

    It is stored as the holder of a row that no replica takes.
    """
    row = {"name": name, "holder": proposal, "acquired_at": now, "expires_at": now, "noted": {}}
    rows.insert_new(connection, leases, row)
    return str(connection.scalar(select(leases.c.holder).where(leases.c.name == name)))


def wait_for_lease(connection: Connection, name: str) -> None:
    """Wait until no transaction runs under the lease; its holder then waits until this transaction ends."""
    connection.execute(select(leases.c.name).where(leases.c.name == name).with_for_update())


def note_lease(connection: Connection, name: str, noted: dict[str, Any]) -> None:
    """Store a note for readers and for the next holder."""
    rows.change(connection, leases, leases.c.name == name, noted=noted)


def give_back_lease(connection: Connection, name: str, holder: str) -> None:
    """Release the lease at once, independent of the clocks of both replicas."""
    rows.change(connection, leases, leases.c.name == name, leases.c.holder == holder, expires_at=_LONG_AGO)


def try_writing(connection: Connection, holder: str, now: datetime) -> None:
    """Write and delete a row, which raises unless the database is writable."""
    row = Lease(f"try:{holder}", holder, acquired_at=now, expires_at=now, noted={})
    _LEASES.add(connection, row)
    rows.remove(connection, leases, leases.c.name == row.name)


def get_lease(connection: Connection, name: str) -> Lease | None:
    return _LEASES.one(connection, leases.c.name == name)
