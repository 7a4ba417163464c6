"""Whether the database can be written, asked by many at the same time."""

from __future__ import annotations

import asyncio

from state.database_watch import DatabaseWatch
from state.engine.database import opened


async def test_those_who_ask_again_at_once_do_not_disturb_those_who_still_wait(sqlite_url: str) -> None:
    with opened(sqlite_url) as database:
        watch = DatabaseWatch(database, "here")

        async def ask_often() -> list[str | None]:
            return [await watch.problem() for _ in range(20)]

        assert await asyncio.gather(*(ask_often() for _ in range(4))) == [[None] * 20] * 4
