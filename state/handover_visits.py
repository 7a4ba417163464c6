"""When each person last looked at the hand-over."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from state.tables import console_looks


def note(connection: Connection, person: str, at: datetime) -> None:
    table = console_looks
    if not connection.execute(update(table).where(table.c.person == person).values(looked_at=at)).rowcount:
        connection.execute(insert(table), {"person": person, "looked_at": at})


def last(connection: Connection, person: str) -> datetime | None:
    return connection.scalar(select(console_looks.c.looked_at).where(console_looks.c.person == person))
