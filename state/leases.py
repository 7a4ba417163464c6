"""Work that only one replica may do at a time: a row per kind of work, held for a while and held on to by its holder.

When the holder dies, the row runs out and another replica takes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, and_, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from state.tables import leases

LONGEST = timedelta(seconds=60)
"""No lease is taken for longer, where nothing else is said."""

_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Lease:
    """Who does the work, until when, and what it noted about it last."""

    name: str
    holder: str
    acquired_at: datetime
    expires_at: datetime
    noted: dict[str, Any]


def take(connection: Connection, name: str, holder: str, now: datetime, until: datetime) -> bool:
    """Take or keep a lease; False when another holder's has not run out.

    To be the first statement of a transaction: whoever takes the lease keeps others out until the commit.
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
    # The number of inserted rows is not told by every driver.
    first = dialect.insert(leases).values(row).on_conflict_do_nothing().returning(leases.c.name)
    return connection.execute(first).first() is not None


def decided_once(connection: Connection, name: str, proposal: str, now: datetime) -> str:
    """The value that the first replica proposed under this name, now and for ever.

    It is kept as the holder of a row that nobody takes.
    """
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    row = {"name": name, "holder": proposal, "acquired_at": now, "expires_at": now, "noted": {}}
    connection.execute(dialect.insert(leases).values(row).on_conflict_do_nothing())
    return str(connection.scalar(select(leases.c.holder).where(leases.c.name == name)))


def wait_for(connection: Connection, name: str) -> None:
    """Wait until nobody works under the lease, and have its holder wait until the end of this transaction."""
    connection.execute(select(leases.c.name).where(leases.c.name == name).with_for_update())


def note(connection: Connection, name: str, noted: dict[str, Any]) -> None:
    """Leave word for whoever looks, and for the next holder."""
    connection.execute(update(leases).where(leases.c.name == name).values(noted=noted))


def give_back(connection: Connection, name: str, holder: str) -> None:
    """Let the next one have it at once, whatever the clocks of both say."""
    mine = and_(leases.c.name == name, leases.c.holder == holder)
    connection.execute(update(leases).where(mine).values(expires_at=_LONG_AGO))


def try_writing(connection: Connection, holder: str, now: datetime) -> None:
    """Write a row and take it back, to see whether the database can be written."""
    name = f"try:{holder}"
    connection.execute(
        insert(leases), {"name": name, "holder": holder, "acquired_at": now, "expires_at": now, "noted": {}}
    )
    connection.execute(delete(leases).where(leases.c.name == name))


def get(connection: Connection, name: str) -> Lease | None:
    row = connection.execute(select(*leases.c).where(leases.c.name == name)).one_or_none()
    return Lease(*row) if row else None
