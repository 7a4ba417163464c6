"""Leases of singleton work: one row per kind of work, renewed by its leader.

When the leader dies, the lease expires and another replica takes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, and_, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

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


def take(connection: Connection, name: str, holder: str, now: datetime, until: datetime) -> bool:
    """Take or renew a lease; False while another holder's lease lasts.

    Must be the first statement of a transaction, so that other replicas wait until its commit.
    """
    mine, free = leases.c.holder == holder, leases.c.expires_at <= now
    kept = update(leases).where(and_(leases.c.name == name, mine)).values(expires_at=until)
    if connection.execute(kept).rowcount:
        return True
    taken = update(leases).where(and_(leases.c.name == name, free))
    if connection.execute(taken.values(holder=holder, acquired_at=now, expires_at=until)).rowcount:
        return True
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    row = {"name": name, "holder": holder, "acquired_at": now, "expires_at": until, "noted": {}}
    # Some drivers do not return the number of inserted rows.
    first = dialect.insert(leases).values(row).on_conflict_do_nothing().returning(leases.c.name)
    return connection.execute(first).first() is not None


def decided_once(connection: Connection, name: str, proposal: str, now: datetime) -> str:
    """The value that the first replica proposed under this name; it never changes.

    It is stored as the holder of a row that no replica takes.
    """
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    row = {"name": name, "holder": proposal, "acquired_at": now, "expires_at": now, "noted": {}}
    connection.execute(dialect.insert(leases).values(row).on_conflict_do_nothing())
    return str(connection.scalar(select(leases.c.holder).where(leases.c.name == name)))


def wait_for(connection: Connection, name: str) -> None:
    """Wait until no transaction runs under the lease; its holder then waits until this transaction ends."""
    connection.execute(select(leases.c.name).where(leases.c.name == name).with_for_update())


def note(connection: Connection, name: str, noted: dict[str, Any]) -> None:
    """Store a note for readers and for the next holder."""
    connection.execute(update(leases).where(leases.c.name == name).values(noted=noted))


def give_back(connection: Connection, name: str, holder: str) -> None:
    """Release the lease at once, independent of the clocks of both replicas."""
    mine = and_(leases.c.name == name, leases.c.holder == holder)
    connection.execute(update(leases).where(mine).values(expires_at=_LONG_AGO))


def try_writing(connection: Connection, holder: str, now: datetime) -> None:
    """Write and delete a row, which raises unless the database is writable."""
    name = f"try:{holder}"
    connection.execute(
        insert(leases), {"name": name, "holder": holder, "acquired_at": now, "expires_at": now, "noted": {}}
    )
    connection.execute(delete(leases).where(leases.c.name == name))


def get(connection: Connection, name: str) -> Lease | None:
    row = connection.execute(select(*leases.c).where(leases.c.name == name)).one_or_none()
    return Lease(*row) if row else None
