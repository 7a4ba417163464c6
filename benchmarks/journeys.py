"""The functions that one order passes, from its HTTP body to the acknowledged confirmation.

A worker is composed in this process with an embedded NATS server and the stub Inventory Service of the benchmarks.
Only the relay and the event consumers run, so that every product function that is entered belongs to the order.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
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
    """Notes each product function at its first call, in every thread started after it was made."""

    def __init__(self) -> None:
        self._seen: dict[CodeType, None] = {}
        self._is_on = False
        threading.setprofile(self._note)

    def start(self) -> None:
        self._seen, self._is_on = {}, True
        sys.setprofile(self._note)

    def stop(self) -> Journey:
        """Comprehensions and lambdas count as part of the function around them."""
        sys.setprofile(None)
        self._is_on = False
        named = (code for code in self._seen if not code.co_name.startswith("<"))
        return [(code.co_qualname, str(Path(code.co_filename).relative_to(ROOT))) for code in named]

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        if self._is_on and event == "call" and frame.f_code.co_filename.startswith(PRODUCT):
            self._seen.setdefault(frame.f_code)


def order_journey() -> Journey:
    """One order over POST /api/v1/orders until the answer of the Inventory Service is recorded and acknowledged."""
    return asyncio.run(_order_journey())


def inventory_call_journey() -> Journey:
    """One reservation, from the port to the HTTP connection and back."""
    return asyncio.run(_inventory_call_journey())


async def _order_journey() -> Journey:
    recorder = Recorder()
    async with _worker() as worker:
        transport = httpx.ASGITransport(worker.application)
        async with httpx.AsyncClient(transport=transport, base_url="http://worker") as client:
            for is_measured in (False, True):
                if is_measured:
                    recorder.start()
                body = {"userId": "user-1", "items": [line.wire() for line in LINES]}
                reply = await client.post("/api/v1/orders", json=body)
                order_id = reply.raise_for_status().json()["data"]["orderId"]
                await _confirmed(worker.service.database, order_id)
        return recorder.stop()


async def _confirmed(database: Database, order_id: str) -> None:
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
    async with _worker() as worker:
        gateway = worker.inventory
        await gateway.reserve("order-1", LINES, "user-1")
        recorder.start()
        await gateway.reserve("order-2", LINES, "user-1")
        return recorder.stop()


@asynccontextmanager
async def _worker() -> AsyncIterator[Worker]:
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
                        for stop in worker.stops:
                            stop()
                        worker.last_stop()
                        await asyncio.wait(tasks, timeout=3.0)
