"""Holdfast's processes as a user starts them, in a folder and on ports of their own, to be maltreated."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg

from services.base.addresses import free_port
from services.base.settings import Settings
from services.base.supervisor import ChildState, ChildStatus
from services.sandbox import books as audit
from services.sandbox.books import Books
from tests.chaos.replicated import SECOND_PORT
from tests.support.nats_server import is_running
from tests.support.postgres_server import conninfo_of
from tests.support.supervised import read_status

ROOT = Path(__file__).parents[2]
CONSOLE = ("-m", "streamlit", "run", "app.py", "--server.headless=true")
HEADLESS = ("-m", "services", "worker")
REPLICATED = ("-m", "tests.chaos.replicated")

START_SECONDS = 90.0
STOP_SECONDS = 10.0
"""How long everything may take to end. Source: contract 1."""

HOLDFAST = "holdfast.db"
MOMENT_SECONDS = 1.0
REACTION_SECONDS = 10.0

HASTE = {
    "SANDBOX_TRAFFIC": "0",
    "INVENTORY_SERVICE_TIMEOUT": "700",
    "RETRY_ATTEMPTS": "2",
    "RETRY_BASE_DELAY": "50",
    "RESERVATION_RETRY_ATTEMPTS": "40",
    "RESERVATION_RETRY_BASE_DELAY": "400",
    "RESERVATION_RETRY_MAX_DELAY": "2000",
    "RELEASE_RETRY_ATTEMPTS": "40",
    "RELEASE_RETRY_BASE_DELAY": "300",
    "RELEASE_RETRY_MAX_DELAY": "2000",
    "CONFIRMATION_TIMEOUT": "8000",
    "BREAKER_RESET_TIMEOUT": "1000",
}
"""What takes minutes by default takes seconds; the rules are the same."""


class LiveStack:
    """One command of the user's and everything it started; may be started again after its end."""

    def __init__(self, folder: Path, command: tuple[str, ...], **environment: str) -> None:
        self.folder = folder
        self._command = command
        self._ports = {
            "API_PORT": str(free_port(folder / "api.port")),
            "STREAMLIT_SERVER_PORT": str(free_port(folder / "console.port")),
            SECOND_PORT: str(free_port(folder / "second.port")),
        }
        self._environment = {**os.environ, **HASTE, **self._ports, "DATA_DIR": str(folder / "var"), **environment}
        self._process: asyncio.subprocess.Process | None = None
        self.pass_fds: tuple[int, ...] = ()
        """Descriptors that the command is given, as some shells and init systems do."""
        self.streams_made_at: datetime | None = None
        """When the broker had its streams again after it had lost them. Answers that were lost with them are asked for
        anew, under other ids: what was published before is not waited for."""
        self.database_url = environment.get("DATABASE_URL")
        self.api_urls = [f"http://127.0.0.1:{self._ports['API_PORT']}"]
        if command == REPLICATED:
            self.api_urls.append(f"http://127.0.0.1:{self._ports[SECOND_PORT]}")

    @property
    def pid(self) -> int:
        """Of the command."""
        assert self._process is not None
        return self._process.pid

    @property
    def api_url(self) -> str:
        return self.api_urls[0]

    async def start(self) -> None:
        """Start the command; returns when the API answers."""
        with (self.folder / "command.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *self._command,
                cwd=ROOT,
                env=self._environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=self.pass_fds,
            )
        for url in self.api_urls:
            async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
                await until(lambda client=client: self._answers(client), START_SECONDS, self.logs)

    async def _answers(self, client: httpx.AsyncClient) -> bool:
        assert self._process is not None
        assert self._process.returncode is None, self.logs()
        try:
            return (await client.get("/healthz")).is_success
        except httpx.TransportError:
            return False

    async def stop(self) -> float:
        """SIGTERM to the command alone, as a user or an init system does: how many seconds until it had ended."""
        assert self._process is not None
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(2 * STOP_SECONDS):
            await self._process.wait()
        return time.monotonic() - began

    async def crash(self) -> None:
        """``kill -9`` of the command alone; returns when everything that it had started is gone too."""
        assert self._process is not None
        self._process.kill()
        await self._process.wait()
        await until(lambda: not self.processes(), STOP_SECONDS, lambda: str(self.processes()))

    async def running(self, child: str, *, instead_of: int | None = None) -> int:
        """The child's process id, once it runs; ``instead_of`` is that of the process before."""
        await until(lambda: self._pid(child) not in (None, instead_of), START_SECONDS, self.logs)
        return self._pid(child) or 0

    def _pid(self, child: str) -> int | None:
        status = self._status(child)
        # The supervisor takes a moment to write that a child has ended.
        is_up = status.state is ChildState.RUNNING and status.pid is not None and is_running(status.pid)
        return status.pid if is_up else None

    def _status(self, child: str) -> ChildStatus:
        (status,) = (status for status in read_status(self.folder / "var") if status.name == child)
        return status

    async def signal(self, child: str, number: signal.Signals) -> None:
        """Send a signal to a running child; a killed one has ended when this returns."""
        pid = await self.running(child)
        os.kill(pid, number)
        if number is signal.SIGKILL:
            await until(lambda: not is_running(pid), STOP_SECONDS)

    async def kill_when(self, child: str, database: str, query: str, *, lag_seconds: float) -> int:
        """Kill a running child so long after the query has found a row, or after MOMENT_SECONDS without any: its id."""
        pid = await self.running(child)
        if self.database_url is not None and database == HOLDFAST:
            await asyncio.to_thread(_await_row_on_server, self.database_url, query)
        else:
            await asyncio.to_thread(_await_row, self.folder / "var" / database, query)
        await asyncio.sleep(lag_seconds)
        os.kill(pid, signal.SIGKILL)
        return pid

    def kill_even_while_it_starts(self, child: str) -> None:
        """Kill the child if there is one, before it can do anything."""
        pid = self._status(child).pid
        if pid is not None and is_running(pid):
            os.kill(pid, signal.SIGKILL)

    def processes(self) -> dict[int, str]:
        """Every living process of this stack, also one that lost its parent: its id and command."""
        found = {}
        marker = f"DATA_DIR={self.folder / 'var'}".encode()
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and marker in _read(entry / "environ").split(b"\0"):
                found[int(entry.name)] = _read(entry / "cmdline").replace(b"\0", b" ").decode()[:120]
        return found

    async def destroy(self) -> None:
        """Leave nothing behind, whatever a test left undone."""
        for pid in self.processes():
            # Some end by themselves as soon as their parent has.
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._process is not None:
            await self._process.wait()

    @contextmanager
    def books(self) -> Iterator[Books]:
        """The databases as they are now."""
        with audit.opened(Settings(data_dir=self.folder / "var", database_url=self.database_url)) as books:
            yield books

    async def at_rest(self, seconds: float) -> float:
        """Wait until nothing is on its way any more: how many seconds that took."""
        began = time.monotonic()
        await until(lambda: not self.waiting(), seconds, lambda: f"{self.waiting()}\n{self.logs()}")
        return time.monotonic() - began

    def waiting(self) -> audit.Waiting:
        with self.books() as books:
            return audit.waiting(books, self.streams_made_at)

    def unheard(self) -> list[audit.UnheardEvent]:
        with self.books() as books:
            return audit.unheard(books, self.streams_made_at)

    def inventory_url(self) -> str:
        """Where the reference Inventory Service answers."""
        return f"http://127.0.0.1:{(self.folder / 'var' / 'sandbox' / 'inventory.port').read_text()}"

    def logs(self) -> str:
        """The end of every log, for the message of a failure."""
        files = [self.folder / "command.log", *sorted((self.folder / "var" / "logs").glob("*.log"))]
        return "\n".join(f"--- {file.name}\n{_read(file)[-1500:].decode(errors='replace')}" for file in files)


@asynccontextmanager
async def live_stack(folder: Path, command: tuple[str, ...], **environment: str) -> AsyncIterator[LiveStack]:
    """A stack that is running; nothing of it is left afterwards."""
    stack = LiveStack(folder, command, **environment)
    try:
        await stack.start()
        yield stack
    finally:
        await stack.destroy()


async def until(condition: Callable[[], Any], seconds: float, explain: Callable[[], str] = str) -> None:
    """Return once the condition (a function, or one to be awaited) holds; fails with the explanation after the time."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if await answer if asyncio.iscoroutine(answer) else answer:
            return
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {explain()}"
        await asyncio.sleep(0.05)


def _await_row(database: Path, query: str) -> None:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        deadline = time.monotonic() + MOMENT_SECONDS
        while connection.execute(query).fetchone() is None and time.monotonic() < deadline:
            time.sleep(0.0002)


def _await_row_on_server(url: str, query: str) -> None:
    deadline = time.monotonic() + MOMENT_SECONDS
    # A server that is being restarted offers no moment.
    with suppress(psycopg.OperationalError), psycopg.connect(conninfo_of(url), autocommit=True) as connection:
        while connection.execute(query).fetchone() is None and time.monotonic() < deadline:
            time.sleep(0.0005)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
