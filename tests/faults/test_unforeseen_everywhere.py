"""Every call that a loop of the worker makes of anything beyond itself raises something unforeseen, once.

The loop goes on, every other one does not notice, orders placed before and after reach their end, and the failures
are counted. The loops are those of the worker's own composition: a new one has to be added here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.runtime.parts import Seam
from state.engine.database import opened
from tests.faults.border import DATABASE, World, composed
from tests.support.nats_server import NatsServer

pytestmark = pytest.mark.slow

CLOCK, BROKER, WEBHOOK, SWITCHES = Seam.CLOCK, Seam.BROKER, Seam.WEBHOOK, Seam.SWITCHES

USES: dict[str, set[str]] = {
    "relay": {DATABASE, CLOCK, Seam.PUBLISHER, BROKER},
    "consuming": {DATABASE, CLOCK, BROKER},
    "parked_events": {DATABASE, CLOCK},
    "releases": {DATABASE, CLOCK, Seam.INVENTORY},
    "sweeper": {DATABASE, CLOCK, Seam.INVENTORY, Seam.PAYMENTS},
    "commands": {DATABASE, CLOCK, Seam.INVENTORY, Seam.LOOKUP},
    "operations": {DATABASE, CLOCK, Seam.INVENTORY},
    "database": {DATABASE, CLOCK},
    "heartbeat": {DATABASE, CLOCK},
    "overrides": {DATABASE, CLOCK},
    "conservation": {DATABASE, CLOCK, Seam.LOOKUP, Seam.PAYMENTS},
    "rollups": {DATABASE, CLOCK},
    "samples": {DATABASE, CLOCK},
    "timekeeping": {DATABASE, CLOCK},
    "retention": {DATABASE, CLOCK},
    "log_length": {DATABASE},
    "alerts": {DATABASE, CLOCK},
    "notifications": {DATABASE, CLOCK, WEBHOOK},
    "topology": {BROKER},
    "consumer_lag": {CLOCK, BROKER},
    "drills": {DATABASE, CLOCK, SWITCHES},
    "shelves": {DATABASE, CLOCK, SWITCHES},
}
"""What each loop calls. Prometheus is asked by the console alone; see the tests of its readings."""

NOT_COUNTED = {"database"}
"""Whatever it meets is its finding: that the database cannot be asked."""

QUIET_ROUNDS, QUIET_SECONDS, PATIENCE_SECONDS = 3, 0.4, 25.0


@pytest.fixture
async def world(sqlite_url: str, tmp_path: Path) -> AsyncIterator[World]:
    server = NatsServer(tmp_path / "nats")
    await server.start()
    try:
        with opened(sqlite_url) as database:
            async with composed(database, sqlite_url, server.url) as running:
                yield running
    finally:
        server.close()


async def test_every_loop_of_the_worker_is_made_to_fail_here(world: World) -> None:
    assert set(world.worker.background) == set(USES)


@pytest.mark.parametrize("loop", USES)
async def test_whatever_call_raises_the_loop_goes_on_and_so_does_everything_else(world: World, loop: str) -> None:
    await world.place("before")
    world.faults.armed = loop
    world.begin()
    await _every_call_has_raised(world, loop)
    assert [task for task in world.tasks if task.done()] == []
    missing = USES[loop] - set(world.faults.raised)
    assert not missing, f"{loop} made no call of {missing}; it called {dict(world.faults.raised)}"
    await world.place("after")
    await _confirmed(world, "before", "after")
    assert [task for task in world.tasks if task.done()] == []
    assert set(world.failures()) == {loop} - NOT_COUNTED


async def _every_call_has_raised(world: World, loop: str) -> None:
    """Rounds of the loop, until some of them in a row have called from no place that was not there before."""
    give_up, number = time.monotonic() + PATIENCE_SECONDS, 0
    rounds_at, seen = 0, -1
    while time.monotonic() < give_up:
        number += 1
        if loop in ("relay", "consuming"):
            await world.place(f"more-{number}")
        if (running := world.loops.get(loop)) is not None:
            running.wake()
        await asyncio.sleep(0.01 if running is not None else 0.1)
        rounds = running.rounds if running is not None else number
        if (count := sum(world.faults.raised.values())) != seen:
            rounds_at, seen = rounds, count
        is_quiet = rounds - rounds_at >= QUIET_ROUNDS and time.monotonic() - world.faults.last_new > QUIET_SECONDS
        if is_quiet and set(world.faults.raised) >= USES[loop]:
            return


async def _confirmed(world: World, *order_ids: str) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while (statuses := [await world.status(one) for one in order_ids]) != ["CONFIRMED"] * len(order_ids):
        assert time.monotonic() < until, statuses
        await asyncio.sleep(0.02)
