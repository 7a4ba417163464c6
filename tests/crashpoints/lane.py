"""Everything one order needs, in processes that may be killed at a point: a lane of its own per tester."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from services.base.addresses import free_port
from services.base.settings import Settings
from services.sandbox import books as audit
from state import commands
from state.engine.database import Database, opened
from tests.chaos.stack import HASTE, ROOT
from tests.crashpoints.seams import Point, points_in
from tests.support.nats_server import NatsServer

PATIENCE_SECONDS = 20.0
LATER_SECONDS = 100
"""How far the clock of the next worker is ahead: further than any claim of the one that was killed lasts."""

PATIENT = {
    **HASTE,
    "BREAKER_VOLUME_THRESHOLD": "100000",
    "INVENTORY_SERVICE_TIMEOUT": "1500",
    "LOG_LEVEL": "WARNING",
}


def is_running(pid: int) -> bool:
    """Whether anything of the process is left: a thread that has not ended yet keeps its addresses taken."""
    return Path(f"/proc/{pid}").exists()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS:g} s: {what}"
        time.sleep(0.01)


class Forks:
    """The launcher, which has everything imported already."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            (sys.executable, "-m", "tests.crashpoints.launcher"),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lock = threading.Lock()

    def fork(self, role: str, environment: Mapping[str, str], log: Path) -> int:
        """The process id of a new process."""
        wanted = {"role": role, "environment": {**os.environ, **environment}, "log": str(log)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps(wanted) + "\n")
            self._process.stdin.flush()
            return int(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)


class Lane:
    """A broker, the other services and a worker; to be made in the main thread."""

    def __init__(self, folder: Path, forks: Forks) -> None:
        folder.mkdir()
        self.folder = folder
        self.nats = NatsServer(folder)
        self._forks = forks
        self._arm = folder / "arm"
        self._pids: dict[str, int] = {}
        ports = {role: str(free_port(folder / f"{role}.port")) for role in ("worker", "inventory", "payments")}
        sandbox = folder / "var" / "sandbox"
        sandbox.mkdir(parents=True)
        self._environment = {
            **PATIENT,
            "CRASH_ARM": str(self._arm),
            "DATA_DIR": str(folder / "var"),
            "API_PORT": ports["worker"],
            "NATS_URL": self.nats.url,
            "INVENTORY_SERVICE_URL": f"http://127.0.0.1:{ports['inventory']}",
            "PAYMENT_SERVICE_URL": f"http://127.0.0.1:{ports['payments']}",
            "SANDBOX_INVENTORY_PORT": ports["inventory"],
            "SANDBOX_INVENTORY_DATABASE_URL": f"sqlite:///{sandbox / 'inventory.db'}",
            "SANDBOX_PAYMENT_PORT": ports["payments"],
            "SANDBOX_PAYMENT_DATABASE_URL": f"sqlite:///{sandbox / 'payments.db'}",
        }
        self.settings = Settings(data_dir=folder / "var")
        self._clients = {
            role: httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10.0, trust_env=False)
            for role, port in ports.items()
        }

    # ---------------------------------------------------------------- processes

    def start(self, role: str, point: Point | None = None, **more: str) -> int:
        """A new process, which dies at the point once armed; returns when it answers."""
        self.kill(role)
        more = more if point is None else {**more, "CRASH_POINT": json.dumps(point)}
        pid = self._forks.fork(role, self._environment | more, self.folder / f"{role}.log")
        self._pids[role] = pid
        wait_until(lambda: self._answers(role), f"{role} answers: {self.log(role)}")
        return pid

    def _answers(self, role: str) -> bool:
        assert self.is_running(role), self.log(role)
        path = "/readyz" if role == "worker" else "/healthz"
        with suppress(httpx.TransportError):
            return self._clients[role].get(path).is_success
        return False

    def run_console(self, point: Point | None, **click: Any) -> list[Point]:
        """One click in a console process of its own: the points that it came by, the last one being its end."""
        trace = self.folder / "console.trace"
        trace.unlink(missing_ok=True)
        more = {"CRASH_CLICK": json.dumps(click), "CRASH_TRACE": str(trace)}
        more |= {"CRASH_POINT": json.dumps(point)} if point else {}
        pid = self._forks.fork("console", self._environment | more, self.folder / "console.log")
        wait_until(lambda: not is_running(pid), "the console process ends")
        return points_in(trace)

    async def start_broker_again(self) -> None:
        """After it was killed; to be called in the main thread."""
        self.nats.kill()
        await self.nats.start()

    def pid(self, role: str) -> int:
        return self._pids[role]

    def is_running(self, role: str) -> bool:
        pid = self._pids.get(role)
        return pid is not None and is_running(pid)

    def kill(self, role: str) -> None:
        pid = self._pids.pop(role, None)
        if pid is not None and is_running(pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not is_running(pid), f"{role} has ended")

    def arm(self) -> None:
        self._arm.touch()

    def disarm(self) -> None:
        self._arm.unlink(missing_ok=True)

    def close(self) -> None:
        for role in list(self._pids):
            self.kill(role)
        for client in self._clients.values():
            client.close()
        self.nats.close()

    def log(self, role: str) -> str:
        path = self.folder / f"{role}.log"
        return path.read_text(errors="replace")[-2000:] if path.exists() else ""

    # --------------------------------------------------------------------- people

    def ask(self, method: str, path: str, body: Any = None, key: str | None = None) -> httpx.Response | None:
        """One request; None when nobody answered it, or only that it should come back later."""
        headers = {"Idempotency-Key": key} if key else {}
        try:
            reply = self._clients["worker"].request(method, f"/api/v1{path}", json=body, headers=headers)
        except httpx.TransportError:
            return None
        is_put_off = reply.status_code == 503 and reply.json()["error"]["code"].startswith("SERVICE_")
        return None if is_put_off else reply

    def order(self, order_id: str) -> dict[str, Any] | None:
        reply = self.ask("GET", f"/orders/{order_id}")
        data: dict[str, Any] | None = reply.json()["data"] if reply is not None and reply.is_success else None
        return data

    def misbehave(self, **faults: Any) -> None:
        """The Inventory Service has the faults, or none."""
        self._clients["inventory"].put("/api/v1/sandbox/faults", json=faults).raise_for_status()

    def store_command(self, kind: str, target_id: str, **arguments: Any) -> None:
        with self.database() as database:
            command = commands.Command(str(uuid4()), kind, target_id, arguments, "ada", "STORED", audit.utc_now())
            database.write_now(lambda connection: commands.store(connection, command))

    def database(self) -> Any:
        """The worker's database, opened beside it."""
        return opened(self.settings.database)

    def command_states(self) -> list[str]:
        def read(connection: Any) -> list[str]:
            return [command.state for command in commands.latest(connection, limit=100)]

        database: Database
        with self.database() as database:
            return database.read_now(read)

    def cancellations(self, order_id: str) -> int:
        """How often order.cancelled was stored for the order."""
        reply = self.ask("GET", f"/orders/{order_id}/timeline")
        assert reply is not None
        return sum(entry["title"] == "order.cancelled" for entry in reply.json()["data"]["items"])

    # --------------------------------------------------------------------- books

    def waiting(self) -> audit.Waiting:
        with audit.opened(self.settings) as books:
            return audit.waiting(books)

    def is_at_rest(self) -> bool:
        return not self.waiting()

    def differences(self) -> list[str]:
        with audit.opened(self.settings) as books:
            return [str(found) for found in audit.compare(books)]

    def open_cases(self, order_id: str) -> list[dict[str, Any]]:
        reply = self.ask("GET", "/reviews?state=OPEN&limit=200")
        items = reply.json()["data"]["items"] if reply is not None and reply.is_success else []
        return [case for case in items if case["orderId"] == order_id]
