"""Leases of singleton work: one row per kind of work, renewed by its leader.

When the leader dies, the lease expires and another replica takes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select

from state.engine import rows
from state.engine.rows import Rows
from state.tables import leases

LONGEST = timedelta(seconds=60)
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


def take(connection: Connection, name: str, holder: str, now: datetime, until: datetime) -> bool:
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


def wait_for(connection: Connection, name: str) -> None:
    """Wait until no transaction runs under the lease; its holder then waits until this transaction ends."""
    connection.execute(select(leases.c.name).where(leases.c.name == name).with_for_update())


def note(connection: Connection, name: str, noted: dict[str, Any]) -> None:
    """Store a note for readers and for the next holder."""
    rows.change(connection, leases, leases.c.name == name, noted=noted)


def give_back(connection: Connection, name: str, holder: str) -> None:
    """Release the lease at once, independent of the clocks of both replicas."""
    rows.change(connection, leases, leases.c.name == name, leases.c.holder == holder, expires_at=_LONG_AGO)


def try_writing(connection: Connection, holder: str, now: datetime) -> None:
    """Write and delete a row, which raises unless the database is writable."""
    row = Lease(f"try:{holder}", holder, acquired_at=now, expires_at=now, noted={})
    _LEASES.add(connection, row)
    rows.remove(connection, leases, leases.c.name == row.name)


def get(connection: Connection, name: str) -> Lease | None:
    return _LEASES.one(connection, leases.c.name == name)
