"""What this process lacks is not held against the Inventory Service: files, connections, time."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest

from services.clients.http.exchange import BEAT_SECONDS, PauseWatch, is_our_shortage

ROOT = Path(__file__).parents[2]

CLIENT = """
import asyncio, json, os, resource, signal, sys
from contextlib import suppress
from datetime import UTC, datetime
from services.domain.errors import ApiError
from tests.support.attempts import noted
from services.domain.orders.model import Line
from services.clients.inventory.resilient import inventory_breakers
from services.clients.inventory.http import HTTPInventoryGateway
from services.clients.inventory.resilient import ResilientInventory
from services.clients.http.transport import AiohttpTransport, client_session
from services.base.settings import Settings

url, what = sys.argv[1:3]
now = lambda: datetime.now(UTC)

async def main():
    settings = Settings()
    connections = 1 if what == "pool" else 256
    transport = AiohttpTransport(client_session(connections=connections))
    gateway = HTTPInventoryGateway(transport, url, timeout_seconds=1.0, reservation_ttl_seconds=60, clock=now)
    breakers = inventory_breakers(settings, clock=now)
    inventory = ResilientInventory(gateway, breakers, settings.immediate_retry, now).once()
    attempts, errors = [], []

    async def call():
        try:
            await noted(inventory.check_availability((Line("p", "v", 1),)), attempts)
        except ApiError as error:
            errors.append([error.code, getattr(error, "is_ours", None), getattr(error, "may_have_run", None)])

    if what == "files":
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0)
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        taken = []
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(8):
            await call()
        for one in taken:
            os.close(one)
    elif what == "pause":
        calls = [asyncio.create_task(call()) for _ in range(8)]
        await asyncio.sleep(0.3)
        print("ready", flush=True)
        await asyncio.gather(*calls)
    else:
        await asyncio.gather(*(call() for _ in range(12)))
    breaker = inventory.breakers.checker.snapshot()
    await transport.aclose()
    print(json.dumps({"errors": errors, "calls": breaker.calls, "state": breaker.state,
                      "details": [attempt.details.get("error") for attempt in attempts]}), flush=True)

asyncio.run(main())
"""


def started(url: str, what: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CLIENT, url, what]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": "."})


def ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = process.communicate(timeout=60)
    return dict(json.loads(out.splitlines()[-1]))


@pytest.fixture
def silent_url() -> str:
    """A service that takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.slow
def test_no_free_file_is_not_the_services_fault(silent_url: str) -> None:
    found = ended(started(silent_url, "files"))
    assert found["errors"] == [["INVENTORY_UNAVAILABLE", True, False]] * 8
    assert (found["calls"], found["state"]) == (0, "closed")


@pytest.mark.slow
def test_waiting_for_a_connection_of_our_own_is_not_the_services_fault(silent_url: str) -> None:
    found = ended(started(silent_url, "pool"))
    # A call that gets its connection at the last moment may have been sent.
    assert sorted(is_ours for _, is_ours, _ in found["errors"]) == [False, *[True] * 11]
    assert all(may_have_run or is_ours for _, is_ours, may_have_run in found["errors"])
    assert (found["calls"], found["state"]) == (1, "closed")


@pytest.mark.slow
def test_a_stopped_process_does_not_hold_its_timeouts_against_the_service(silent_url: str) -> None:
    process = started(silent_url, "pause")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGSTOP)
    with suppress(subprocess.TimeoutExpired):
        process.wait(2.0)
    process.send_signal(signal.SIGCONT)
    found = ended(process)
    # The order's outcome stays unknown: the service may have done what was asked.
    assert found["errors"] == [["INVENTORY_TIMEOUT", True, True]] * 8
    assert (found["calls"], found["state"]) == (0, "closed")
    assert "did not run" in str(found["details"])


@pytest.mark.slow
def test_a_service_that_is_silent_while_we_run_is_at_fault(silent_url: str) -> None:
    found = ended(started(silent_url, "silence"))
    assert found["errors"] == [["INVENTORY_TIMEOUT", False, True]] * 12
    assert found["state"] == "open"


SHORTAGES = [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL]


def below(cause: BaseException) -> httpx.ConnectError:
    error = httpx.ConnectError("failed")
    error.__cause__ = aiohttp.ClientConnectionError("failed")
    error.__cause__.__cause__ = cause
    return error


@pytest.mark.parametrize("number", SHORTAGES, ids=errno.errorcode.get)
def test_the_errno_decides_however_deep_it_stands(number: int) -> None:
    assert is_our_shortage(OSError(number, "anything"))
    assert is_our_shortage(below(OSError(number, "anything")))
    assert is_our_shortage(below(ExceptionGroup("several", [OSError(errno.ECONNREFUSED, "no"), OSError(number, "x")])))


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ECONNREFUSED, "Too many open files"),
        OSError("Too many open files"),
        ConnectionResetError(errno.ECONNRESET, "reset"),
        socket.gaierror(socket.EAI_NONAME, "no such name"),
        TimeoutError(),
    ],
)
def test_words_and_other_errors_do_not(error: OSError) -> None:
    assert not is_our_shortage(below(error))


@pytest.mark.parametrize("number", [socket.EAI_MEMORY, socket.EAI_SYSTEM])
def test_a_resolver_that_cannot_work_here_is_a_shortage(number: int) -> None:
    assert is_our_shortage(below(socket.gaierror(number, "failed")))


def test_an_error_that_is_its_own_cause_is_looked_through_once() -> None:
    error = OSError(errno.ECONNREFUSED, "no")
    error.__context__ = error.__cause__ = below(error)
    assert not is_our_shortage(error)


@pytest.mark.parametrize(("lost", "told"), [(BEAT_SECONDS / 2, 0.0), (30.0, 30.0)])
async def test_only_what_the_loop_did_not_run_is_lost(lost: float, told: float) -> None:
    clock: list[float] = [0.0]
    read: Callable[[], float] = lambda: clock[0]  # noqa: E731
    with PauseWatch(read).watched() as lost_seconds:
        clock[0] += BEAT_SECONDS + lost
        assert lost_seconds() == pytest.approx(told)
        await asyncio.sleep(2 * BEAT_SECONDS)
        assert lost_seconds() == pytest.approx(told)
