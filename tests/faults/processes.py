"""Holdfast's parts as processes of their own, started by plain threads so that many tests may share them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from services.base.addresses import free_port
from tests.chaos.stack import HASTE, ROOT

START_SECONDS = 90.0
STOP_SECONDS = 10.0


class Service:
    """A running process that answers HTTP."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self._log = log
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30.0, trust_env=False)

    def wait_until_it_answers(self) -> None:
        def is_healthy() -> bool:
            assert self.process.poll() is None, self.log()
            with suppress(httpx.TransportError):
                return self.client.get("/healthz").is_success
            return False

        wait_until(is_healthy, START_SECONDS, self.log)

    def log(self) -> str:
        """The end of its log, for the message of a failure."""
        return self._log.read_text(errors="replace")[-3000:]


@contextmanager
def inventory_service(folder: Path, nats_url: str, **more: str) -> Iterator[Service]:
    """The reference Inventory Service."""
    port = free_port(folder / "inventory.port")
    environment = {
        "SANDBOX_INVENTORY_PORT": str(port),
        "SANDBOX_INVENTORY_DATABASE_URL": f"sqlite:///{folder / 'inventory.db'}",
        "SANDBOX_INVENTORY_SWEEP_INTERVAL": "100",
        "NATS_URL": nats_url,
        **more,
    }
    with _running("services.sandbox.inventory_service", (), environment, port, folder / "inventory.log") as service:
        yield service


@contextmanager
def worker(folder: Path, *, files: int | None = None, **environment: str) -> Iterator[Service]:
    """The integration service, in haste (see tests/chaos/stack.py); ``files``: how many it may open."""
    port = free_port(folder / "api.port")
    ours = {"API_PORT": str(port), "DATA_DIR": str(folder / "var")}
    limited = ("prlimit", f"--nofile={files}:{files}") if files else ()
    environment = {**HASTE, **ours, **environment}
    with _running("services", ("worker",), environment, port, folder / "worker.log", limited) as service:
        yield service


@contextmanager
def _running(
    module: str,
    arguments: tuple[str, ...],
    environment: dict[str, str],
    port: int,
    log: Path,
    prefix: tuple[str, ...] = (),
) -> Iterator[Service]:
    with log.open("ab") as output:
        process = subprocess.Popen(
            (*prefix, sys.executable, "-m", module, *arguments),
            cwd=ROOT,
            # It ends with this process, at the end of its input.
            env={**os.environ, **environment, "HOLDFAST_SUPERVISED": "1"},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
        )
    service = Service(process, port, log)
    try:
        service.wait_until_it_answers()
        yield service
    finally:
        service.client.close()
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()


def wait_until(condition: Callable[[], bool], seconds: float, explain: Callable[[], str] = str) -> None:
    """Return once the condition holds; fails with the explanation after the time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {explain()}"
        time.sleep(0.02)
