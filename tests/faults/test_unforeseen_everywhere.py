"""Every call that the worker's background work makes of its database raises something unforeseen, once.

The loops are those of the worker's own composition, so that a new one is covered by itself. Each of them, and
everything beside it, goes on afterwards.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from services.clock import utc_now
from services.settings import Settings
from services.worker import build
from state import commands, replicas, tables
from state.commands import STORED, Command
from state.database import Database, opened
from tests.ui import seed_console

pytestmark = pytest.mark.slow

SERVICES = str(Path(__file__).resolve().parents[2] / "services")
QUIET_SECONDS = 3.0
"""Without a call from a place that was not there before, every place has had its turn."""


class Unforeseen(Exception):
    """Nobody has written a handler for this."""


class FaultyDatabase:
    """Raises at the first call from each place of the program, and then lets the calls from there through."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.raised_at: dict[str, int] = {}
        """Calls per place; the first of them raised."""
        self.last_new = time.monotonic()
        self.is_armed = False
        """A worker that cannot be built ends, and is started again."""

    async def read(self, transaction: Any) -> Any:
        self._raise_once()
        return await self._database.read(transaction)

    async def write(self, transaction: Any) -> Any:
        self._raise_once()
        return await self._database.write(transaction)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    def _raise_once(self) -> None:
        if not self.is_armed:
            return
        place = _place()
        known = self.raised_at.get(place, 0)
        self.raised_at[place] = known + 1
        if not known:
            self.last_new = time.monotonic()
            raise Unforeseen(place)


def _place() -> str:
    """The lines of the service that lead to the call, as far as they are awaiting each other."""
    frame, lines = sys._getframe(2), []
    while frame is not None:
        if frame.f_code.co_filename.startswith(SERVICES):
            lines.append(f"{Path(frame.f_code.co_filename).stem}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(lines)


async def test_whatever_call_raises_every_loop_and_everything_else_goes_on(sqlite_url: str) -> None:
    began = utc_now()
    with opened(sqlite_url) as database:
        await database.write(lambda connection: seed_console.fill(connection, began - timedelta(minutes=5), 40))
        await database.write(lambda c: c.execute(update(tables.orders).values(due_at=began)))
        wish = Command("wish", "cancel_order", "ORD-1002", {"reason": "asked"}, "ada", STORED, began)
        await database.write(lambda connection: commands.store(connection, wish))
        faulty: Any = FaultyDatabase(database)
        settings = Settings.load(
            database_url=sqlite_url,
            nats_url="nats://127.0.0.1:9",
            inventory_service_url="http://127.0.0.1:9",
            payment_service_url="http://127.0.0.1:9",
        )
        async with AsyncExitStack() as stack:
            worker = await build(settings, faulty, stack)
            faulty.is_armed = True
            tasks = [asyncio.ensure_future(task()) for task in worker.tasks]
            give_up = time.monotonic() + 60
            while time.monotonic() < min(faulty.last_new + QUIET_SECONDS, give_up):
                for loop in worker.loops:
                    loop.wake()
                await asyncio.sleep(0.05)
            assert [task for task in tasks if task.done()] == []
            healthy_since = utc_now()
            before = dict(faulty.raised_at)
            await asyncio.sleep(2.5)
            assert [task for task in tasks if task.done()] == []
            for stop in worker.stops:
                stop()
            worker.last_stop()
            ended = await asyncio.wait(tasks, timeout=10)
            for task in ended[1]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert len(before) > len(worker.loops)
        beaten = await database.read(lambda c: replicas.alive(c, utc_now()))
        assert any(replica.heartbeat_at >= healthy_since - timedelta(seconds=2) for replica in beaten)
        done = await database.read(lambda c: commands.get(c, "wish"))
        assert done is not None
        # Tried again after 5 and 20 seconds, four times at most.
        assert done.state == "DONE" or (done.outcome or {}).get("title") == "Went wrong, is tried again"
        # What was due has been looked at: nothing is left as overdue as it was.
        overdue = select(func.count()).select_from(tables.orders).where(tables.orders.c.due_at <= began)
        assert await database.read(lambda c: c.scalar(overdue)) == 0
