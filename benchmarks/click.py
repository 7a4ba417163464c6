"""The functions between a click on "Retry release" and its outcome on the page.

Three stretches are recorded: the button's callback, the worker's run of the stored command, and the line in which the
page shows the outcome. On the page a function counts when it calls another function of the product; in the worker every
coroutine counts, except those of the relay and the consumers, which run beside it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import httpx
from sqlalchemy import Connection
from streamlit.testing.v1 import AppTest

from benchmarks.journeys import LINES, ROOT, Journey, Recorder, composed_worker, confirmed
from services.base.settings import Settings
from services.console.facade import Console, console, install
from services.worker import Worker
from state import releases, tables

PAGE = ROOT / "pages" / "main.py"
FOLDERS = tuple(str(ROOT / folder) + "/" for folder in ("pages", "services", "state"))
CALLBACK, SHOWN = "_store_retry", "summary"


class StretchRecorder:
    """Notes each product function that calls another one inside the named functions, in every thread started later."""

    def __init__(self, *roots: str) -> None:
        self._roots = roots
        self._depth = 0
        self._seen: dict[CodeType, None] = {}
        threading.setprofile(self._note)

    def journey(self) -> Journey:
        """Comprehensions and lambdas count as part of the function around them."""
        threading.setprofile(None)
        return [(code.co_qualname, str(Path(code.co_filename).relative_to(ROOT))) for code in self._seen]

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if not code.co_filename.startswith(FOLDERS):
            return
        if code.co_name in self._roots and event in ("call", "return"):
            self._depth += 1 if event == "call" else -1
        elif event == "call" and self._depth > 0:
            self._note_caller(frame)

    def _note_caller(self, frame: FrameType) -> None:
        caller = frame.f_back
        while caller and (not caller.f_code.co_filename.startswith(FOLDERS) or "<" in caller.f_code.co_name):
            caller = caller.f_back
        if caller and caller.f_code is not frame.f_code:
            self._seen.setdefault(caller.f_code)


async def click_journey() -> Journey:
    """A failed release job, retried by a click; returns callback, worker and shown outcome in this order."""
    worker_part = Recorder()
    async with composed_worker() as worker:
        order_id = await _failed_release(worker)
        with _console(worker, order_id) as page:
            on_page = StretchRecorder(CALLBACK)
            page.button(key=f"retry_open_{order_id}").click().run()
            clicked = on_page.journey()
            (commands,) = (loop for loop in worker.loops if loop.name == "commands")
            worker_part.start()
            await commands._run_round()  # noqa: SLF001 - one round of a running worker's loop
            ran = [hop for hop in worker_part.stop() if not hop[1].startswith("services/messaging/")]
            console().expire()
            outcome = StretchRecorder(SHOWN)
            page.run()
            shown = outcome.journey()
    return list(dict.fromkeys([*clicked, *ran, *shown]))


async def _failed_release(worker: Worker) -> str:
    database, at = worker.service.database, datetime.now(UTC) - timedelta(minutes=5)
    transport = httpx.ASGITransport(worker.application)
    async with httpx.AsyncClient(transport=transport, base_url="http://worker") as client:
        body = {"userId": "user-1", "items": [line.wire() for line in LINES]}
        reply = await client.post("/api/v1/orders", json=body)
    order_id: str = reply.raise_for_status().json()["data"]["orderId"]
    await confirmed(database, order_id)

    def store(connection: Connection) -> None:
        releases.start(connection, order_id, "cancelled", at)
        failed = {"state": "FAILED", "attempts": 8, "next_attempt_at": None, "last_error": "503"}
        connection.execute(tables.releases.update().values(failed))

    await database.write(store)
    return order_id


@contextmanager
def _console(worker: Worker, order_id: str) -> Iterator[AppTest]:
    """The Releases page with the work area of one job open."""
    url = worker.service.database.url.render_as_string(hide_password=False)
    install(Console(Settings.load(database_url=url), patience_seconds=60))
    try:
        page = AppTest.from_file(str(PAGE), default_timeout=60)
        page.run()
        page.switch_page("releases.py")
        page.query_params["release"] = order_id
        yield page.run()
    finally:
        install(None)
