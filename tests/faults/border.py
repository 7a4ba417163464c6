"""A worker whose every collaborator raises something unforeseen, once per place that calls it, in one loop of it."""

from __future__ import annotations

import asyncio
import inspect
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
from nats.js.errors import NoStreamResponseError
from sqlalchemy import select, update

from services.base.identity import utc_now
from services.base.settings import Settings
from services.domain.commands import CommandState
from services.domain.orders.events import CONFIRM_REQUESTED
from services.messaging.jetstream import Connection
from services.orders.placement import PlaceOrder
from services.runtime.parts import Seam
from services.worker import Worker, build
from state import bulk_jobs, commands, notifications, orders, parked_events, releases, reviews, sandbox, tables
from state.bulk_jobs import BulkItem, BulkJob
from state.commands import Command
from state.engine.database import Database
from state.parked_events import HANDLER_FAILED, ParkedEvent
from state.sandbox import Drill
from tests.support import seed_console
from tests.support.drills import Switches
from tests.support.fakes import InMemoryInventory, InMemoryInventoryLookup, InMemoryPayments
from tests.support.orders_harness import LINES

SERVICES = str(Path(__file__).resolve().parents[2] / "services")
DATABASE = "database"

SPEED = 20
"""Seconds of the worker's clock that pass in one of ours: delays that are kept in the database are short."""

LOOP: ContextVar[str | None] = ContextVar("loop", default=None)
"""In which background work a call is made."""


class Unforeseen(RuntimeError):
    """Nobody has written a handler for this."""


class Faults:
    """Raises at the first call from each place of the program, in one loop."""

    def __init__(self) -> None:
        self.armed: str | None = None
        self.raised: Counter[str] = Counter()
        """Places that raised, per seam."""
        self.last_new = time.monotonic()
        self._known: set[tuple[str, str]] = set()

    def call(self, seam: str) -> None:
        if self.armed is None or LOOP.get() != self.armed:
            return
        place = (seam, _place())
        if place not in self._known:
            self._known.add(place)
            self.raised[seam] += 1
            self.last_new = time.monotonic()
            raise Unforeseen(f"{seam}: {place[1]}")


def _place() -> str:
    """The lines of the service that lead to the call, as far as they are awaiting each other."""
    frame, lines = sys._getframe(2), []
    while frame is not None:
        if frame.f_code.co_filename.startswith(SERVICES):
            lines.append(f"{Path(frame.f_code.co_filename).stem}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(lines)


class Faulty:
    """Stands before a collaborator; ``nested`` are parts of it that are stood before as well."""

    def __init__(self, target: Any, seam: str, faults: Faults, nested: tuple[str, ...] = ()) -> None:
        self._target, self._seam, self._faults, self._nested = target, seam, faults, nested

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if name in self._nested:
            return Faulty(value, self._seam, self._faults, self._nested)
        if not callable(value):
            return value
        if not inspect.iscoroutinefunction(value):
            return lambda *given, **named: (self._faults.call(self._seam), value(*given, **named))[1]

        async def call(*given: Any, **named: Any) -> Any:
            self._faults.call(self._seam)
            result = await value(*given, **named)
            return Faulty(result, self._seam, self._faults) if name == "subscribe" else result

        return call


class FaultyDatabase:
    """A Database that raises, and lets its threads know for which loop they work."""

    def __init__(self, database: Database, faults: Faults) -> None:
        self._database, self._faults = database, faults

    async def read(self, transaction: Any) -> Any:
        self._faults.call(DATABASE)
        return await self._database.read(_in_loop(transaction))

    async def write(self, transaction: Any) -> Any:
        self._faults.call(DATABASE)
        return await self._database.write(_in_loop(transaction))

    def shorten_log(self) -> int:
        self._faults.call(DATABASE)
        return self._database.shorten_log()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)


def _in_loop(transaction: Callable[[Any], Any]) -> Callable[[Any], Any]:
    loop = LOOP.get()

    def run(connection: Any) -> Any:
        before = LOOP.set(loop)
        try:
            return transaction(connection)
        finally:
            LOOP.reset(before)

    return run


class Answering:
    """A publisher whose Inventory Service answers each request for confirmation through the broker."""

    def __init__(self, publisher: Any, inventory: InMemoryInventory, answers: Connection) -> None:
        self._publisher, self._inventory, self._answers = publisher, inventory, answers

    @property
    def is_available(self) -> bool:
        return self._publisher.is_available and self._answers.is_connected

    async def publish(self, rows: Any) -> Any:
        failures = await self._publisher.publish(rows)
        for row in rows:
            if row.subject == CONFIRM_REQUESTED and row.id not in failures:
                for subject, data in self._inventory.receive(row.subject, orjson.loads(row.payload)["data"]):
                    await self._answer(subject, orjson.dumps(data))
        return failures

    async def _answer(self, subject: str, payload: bytes) -> None:
        """Publish an answer as the outbox of a real service does: again, until the worker has made the stream."""
        async with asyncio.timeout(30):
            while True:
                try:
                    await self._answers.js.publish(subject, payload)
                except NoStreamResponseError:
                    await asyncio.sleep(0.05)
                else:
                    return


class World:
    """A worker over a database in which something is due for every loop."""

    def __init__(self, worker: Worker, faults: Faults) -> None:
        self.worker, self.faults = worker, faults
        self.tasks: list[asyncio.Task[None]] = []
        self.loops = {loop.name: loop for loop in worker.loops}

    def begin(self) -> None:
        """Run every loop."""
        self.tasks = [asyncio.create_task(_named(name, run)) for name, run in self.worker.background.items()]

    async def end(self) -> None:
        """Stop them."""
        self.faults.armed = None
        self.worker.wind_down()
        self.worker.messaging.relay.stop()
        if self.tasks:
            _, late = await asyncio.wait(self.tasks, timeout=5)
            for task in late:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)

    async def place(self, order_id: str) -> None:
        await self.worker.service.use_cases.placement.place(
            PlaceOrder(user_id="user-1", lines=LINES, order_id=order_id)
        )

    async def status(self, order_id: str) -> str:
        order = await self.worker.service.database._database.read(lambda c: orders.get(c, order_id))
        return str(order.status) if order else ""

    def failures(self) -> dict[str, int]:
        """Failures counted per loop, without those that had none."""
        found = {}
        for line in self.worker.service.metrics.exposition().decode().splitlines():
            if line.startswith("background_failures_total{"):
                found[line.split('"')[1]] = int(float(line.rpartition(" ")[2]))
        return {name: count for name, count in found.items() if count}


@asynccontextmanager
async def composed(database: Database, url: str, nats_url: str) -> AsyncIterator[World]:
    """A world whose loops do not run yet."""
    faults, began = Faults(), utc_now()
    started = time.monotonic()

    def clock() -> datetime:
        passed = timedelta(milliseconds=int((time.monotonic() - started) * 1000) * SPEED)
        return began + passed

    await database.write(lambda c: _fill(c, began))
    inventory, payments = InMemoryInventory(clock, on_hand=1_000_000), InMemoryPayments(clock)  # type: ignore[arg-type]
    answers = Connection([nats_url], name="inventory")
    await answers.open()
    webhook = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200)))

    def border(seam: Seam, collaborator: Any, /) -> Any:
        match seam:
            case Seam.CLOCK:
                return lambda: (faults.call(seam), clock())[1]
            case Seam.INVENTORY:
                return Faulty(inventory, seam, faults)
            case Seam.LOOKUP:
                return Faulty(InMemoryInventoryLookup(inventory), seam, faults)
            case Seam.PAYMENTS:
                return Faulty(payments, seam, faults)
            case Seam.BROKER:
                return Faulty(collaborator, seam, faults, ("js", "client"))
            case Seam.PUBLISHER:
                return Faulty(Answering(collaborator, inventory, answers), seam, faults)
            case Seam.WEBHOOK:
                return Faulty(webhook, seam, faults)
            case Seam.SWITCHES:
                return Faulty(Switches(), seam, faults)

    settings = Settings.load(
        database_url=url,
        nats_url=nats_url,
        inventory_service_url="http://127.0.0.1:9",
        payment_service_url="http://127.0.0.1:9",
        alert_webhook_url="http://127.0.0.1:9/",
        holdfast_sandbox=True,
        confirmation_timeout=20_000,
    )
    async with AsyncExitStack() as stack:
        stack.push_async_callback(answers.close)
        worker = await build(settings, FaultyDatabase(database, faults), stack, border)  # type: ignore[arg-type]
        world = World(worker, faults)
        try:
            yield world
        finally:
            await world.end()


async def _named(name: str, run: Callable[[], Any]) -> None:
    LOOP.set(name)
    await run()


def _fill(connection: Any, at: datetime) -> None:
    """Something for every loop to do."""
    seed_console.fill(connection, at - timedelta(minutes=5), 40)
    connection.execute(update(tables.orders).values(due_at=at))
    connection.execute(update(tables.releases).values(state="PENDING", next_attempt_at=at, cause=None))
    failed = connection.scalars(select(tables.releases.c.order_id).limit(4)).all()
    # Left to people, so that the loop of due jobs does not take them first.
    left = update(tables.releases).where(tables.releases.c.order_id.in_(failed))
    connection.execute(left.values(state="FAILED", next_attempt_at=None))
    by_command, *in_bulk = failed
    given = [
        ("cancel_order", "ORD-1002", {"reason": "asked"}),
        ("ask_theirs", "ORD-1003", {}),
        ("retry_release", by_command, {}),
        ("claim_review", "REV-3", {}),
        ("replay_dead_letter", "DL-1", {}),
    ]
    for number, (kind, target, arguments) in enumerate(given):
        commands.store(connection, Command(f"c-{number}", kind, target, arguments, "ada", CommandState.STORED, at))
    case = reviews.get(connection, "REV-1")
    assert case is not None
    retry = {"action": "RETRY_RESERVATION", "note": "n", "version": case.version}
    commands.store(connection, Command("c-case", "resolve_review", "REV-1", retry, "ada", CommandState.STORED, at))
    seen = releases.versions(connection, in_bulk)
    # Several, since one that raises a few rounds in a row is stopped for a person.
    for one in in_bulk:
        bulk = BulkJob(f"op-{one}", "retry_release", None, "ada", "why", "Failed", [], 1, 0, at, at)
        bulk_jobs.add(connection, bulk, [BulkItem(bulk.job_id, one, one, 0, *seen[one])])
    notifications.add(connection, alert_id="a", name="a", status="firing", payload={"alerts": []}, at=at)
    sandbox.start(connection, Drill("d-1", "outage", {"outage": True}, 10, "ada", "why", "WAITING", at))
    payload = orjson.dumps({"orderId": "ORD-1002", "reservationId": "r"})
    parked = ParkedEvent(
        "S", "", 1, "inventory.confirmed", "ORD-1002", payload, {}, HANDLER_FAILED, "why", 1, at, at
    )  # fmt: skip
    parked_events.add(connection, parked)
