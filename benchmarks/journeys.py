"""The hops of one order, from its HTTP body to the acknowledged confirmation, and those of one inventory call.

A hop is a coroutine of the product that starts for the order: a step that a reader of the code or of a stack trace
passes. Plain helper functions, and loops that were waiting before the order came, are no hops. The worker is composed
in this process with an embedded NATS server and the stub Inventory Service of the benchmarks; only the relay and the
event consumers run, so that every hop belongs to the order. ``python -m benchmarks.journeys`` prints both journeys.
"""

from __future__ import annotations

import asyncio
import dis
import inspect
import logging
import os
import sys
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import httpx

from services.base.addresses import free_port
from services.base.settings import Settings
from services.base.supervisor import Child, Supervisor
from services.domain.orders.model import Line
from services.messaging.embedded import EmbeddedNats
from services.worker import Worker, build
from state.engine.database import Database
from state.schema import migrate

ROOT = Path(__file__).resolve().parents[1]
PRODUCT = tuple(str(ROOT / folder) + "/" for folder in ("services", "state"))
LINES = (Line("chair", "oak", 1), Line("lamp", "brass", 2))

Journey = list[tuple[str, str]]
"""(function, file) in the order of their first call."""


class Recorder:
    """Notes each product coroutine at its first start, in every thread started after the recorder was made."""

    def __init__(self) -> None:
        self._seen: dict[CodeType, None] = {}
        self._is_on = False
        threading.setprofile(self._note)

    def start(self) -> None:
        self._seen, self._is_on = {}, True
        sys.setprofile(self._note)

    def stop(self) -> Journey:
        sys.setprofile(None)
        self._is_on = False
        return [(code.co_qualname, str(Path(code.co_filename).relative_to(ROOT))) for code in self._seen]

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if self._is_on and event == "call" and code.co_filename.startswith(PRODUCT) and _starts(frame):
            self._seen.setdefault(code)


def _starts(frame: FrameType) -> bool:
    """Whether a coroutine runs for the first time; later calls resume it behind an await."""
    is_coroutine = frame.f_code.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR)
    return bool(is_coroutine) and frame.f_lasti <= _beginning(frame.f_code)


@cache
def _beginning(code: CodeType) -> int:
    """Offset of the instruction at which a new coroutine begins."""
    return next(step.offset for step in dis.get_instructions(code) if step.opname == "RESUME")


def order_journey() -> Journey:
    """One order over POST /api/v1/orders until the answer of the Inventory Service is recorded and acknowledged."""
    return asyncio.run(_order_journey())


def inventory_call_journey() -> Journey:
    """One reservation, from the port to the HTTP connection and back."""
    return asyncio.run(_inventory_call_journey())


async def _order_journey() -> Journey:
    recorder = Recorder()
    async with composed_worker() as worker:
        transport = httpx.ASGITransport(worker.application)
        async with httpx.AsyncClient(transport=transport, base_url="http://worker") as client:
            for is_measured in (False, True):
                if is_measured:
                    recorder.start()
                body = {"userId": "user-1", "items": [line.wire() for line in LINES]}
                reply = await client.post("/api/v1/orders", json=body)
                order_id = reply.raise_for_status().json()["data"]["orderId"]
                await confirmed(worker.service.database, order_id)
        return recorder.stop()


async def confirmed(database: Database, order_id: str) -> None:
    """Reads past the product's code, so that the wait adds no function to the journey."""
    while True:
        with database.engine.connect() as connection:
            status = connection.exec_driver_sql("SELECT status FROM orders WHERE order_id = ?", (order_id,)).scalar()
        if status == "CONFIRMED":
            # The acknowledgement follows the commit.
            await asyncio.sleep(0.3)
            return
        await asyncio.sleep(0.02)


async def _inventory_call_journey() -> Journey:
    recorder = Recorder()
    async with composed_worker() as worker:
        gateway = worker.service.use_cases.placement._fulfilment._inventory  # noqa: SLF001 - the client of a running worker
        await gateway.reserve("order-1", LINES, "user-1")
        recorder.start()
        await gateway.reserve("order-2", LINES, "user-1")
        return recorder.stop()


@asynccontextmanager
async def composed_worker() -> AsyncIterator[Worker]:
    """A composed worker whose relay and consumers run."""
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder)
        stub_port = free_port(data_dir / "stub.port")
        with EmbeddedNats(data_dir) as nats:
            stub = (sys.executable, "-m", "benchmarks.stub_inventory", str(stub_port), nats.url)
            async with Supervisor([nats.child(), Child("stub", stub, env=dict(os.environ))], data_dir):
                settings = Settings.load(
                    nats_url=nats.url,
                    inventory_service_url=f"http://127.0.0.1:{stub_port}",
                    data_dir=str(data_dir),
                )
                async with AsyncExitStack() as stack:
                    database = Database(settings.database)
                    stack.callback(database.close)
                    await asyncio.to_thread(migrate, database)
                    worker = await build(settings, database, stack)
                    tasks = [asyncio.create_task(worker.background[name]()) for name in ("relay", "consuming")]
                    await asyncio.sleep(2.0)
                    try:
                        yield worker
                    finally:
                        worker.wind_down()
                        worker.messaging.relay.stop()
                        await asyncio.wait(tasks, timeout=3.0)


def _print(title: str, journey: Journey) -> None:
    print(f"{title}: {len(journey)} functions in {len({file for _, file in journey})} files")
    for name, file in journey:
        print(f"  {file:<46} {name}")


if __name__ == "__main__":
    from benchmarks.click import click_journey

    _print("order", order_journey())
    _print("inventory call", inventory_call_journey())
    _print("retry release, from the click to the shown outcome", asyncio.run(click_journey()))
