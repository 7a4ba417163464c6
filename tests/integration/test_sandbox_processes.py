"""The sandbox's processes as a supervisor sees them: started, answering, ended in time."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from services.base.addresses import free_port
from tests.support.nats_server import eventually

ROOT = Path(__file__).parents[2]
END_SECONDS = 10.0

INVENTORY = "services.sandbox.inventory_service"
PAYMENTS = "services.sandbox.payment_gateway"
TRAFFIC = "services.sandbox.traffic"


def environment(folder: Path, **more: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    ours = {
        "SANDBOX_INVENTORY_PORT": str(free_port(folder / "inventory.port")),
        "SANDBOX_INVENTORY_DATABASE_URL": f"sqlite:///{folder}/inventory.db",
        "SANDBOX_PAYMENT_PORT": str(free_port(folder / "payment.port")),
        "SANDBOX_PAYMENT_DATABASE_URL": f"sqlite:///{folder}/payments.db",
        "SANDBOX_API_URL": "http://127.0.0.1:1",
        "SANDBOX_INVENTORY_URL": "http://127.0.0.1:1",
        "NATS_URL": "nats://127.0.0.1:1",
    }
    return kept | ours | more


@asynccontextmanager
async def started(module: str, env: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", module),
        cwd=ROOT,
        env=env,
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def answering(port: str, process: asyncio.subprocess.Process) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:

        async def is_healthy() -> bool:
            assert process.returncode is None
            try:
                return (await client.get("/healthz")).is_success
            except httpx.TransportError:
                return False

        await eventually(is_healthy)


async def ended(process: asyncio.subprocess.Process) -> int:
    """The exit code; fails when the process takes longer than it may."""
    began = time.monotonic()
    async with asyncio.timeout(END_SECONDS):
        code = await process.wait()
    assert time.monotonic() - began < END_SECONDS
    return code


@pytest.mark.parametrize(
    ("module", "port"), [(INVENTORY, "SANDBOX_INVENTORY_PORT"), (PAYMENTS, "SANDBOX_PAYMENT_PORT")]
)
@pytest.mark.parametrize("how", ["signal", "orphaned"])
async def test_a_server_answers_and_ends_in_time(tmp_path: Path, module: str, port: str, how: str) -> None:
    env = environment(tmp_path, HOLDFAST_SUPERVISED="1")
    async with started(module, env) as process:
        await answering(env[port], process)
        if how == "signal":
            process.send_signal(signal.SIGTERM)
        else:
            assert process.stdin is not None
            process.stdin.close()
        assert await ended(process) == 0
        assert process.stderr is not None
        assert b"Traceback" not in await process.stderr.read()


async def test_without_a_supervisor_the_end_of_input_means_nothing(tmp_path: Path) -> None:
    env = environment(tmp_path)
    async with started(PAYMENTS, env) as process:
        assert process.stdin is not None
        process.stdin.close()
        await answering(env["SANDBOX_PAYMENT_PORT"], process)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(process.wait(), 0.3)


async def test_a_payment_under_way_does_not_delay_the_end(tmp_path: Path) -> None:
    env = environment(tmp_path)
    async with started(PAYMENTS, env) as process:
        await answering(env["SANDBOX_PAYMENT_PORT"], process)
        url = f"http://127.0.0.1:{env['SANDBOX_PAYMENT_PORT']}/api/v1/payments"
        body = {"orderId": "o-1", "userId": "u-1", "items": [], "metadata": {"sandboxPayment": "timeout"}}
        async with httpx.AsyncClient(trust_env=False) as client:
            slow = asyncio.create_task(client.post(f"{url}/capture", json=body, timeout=20))

            async def is_captured() -> bool:
                return (await client.get(f"{url}/o-1")).is_success

            await eventually(is_captured)
            assert not slow.done()
            process.send_signal(signal.SIGTERM)
            assert await ended(process) == 0
            assert (await slow).status_code == 500


async def test_traffic_outlives_an_api_that_answers_nobody_and_ends_on_demand(tmp_path: Path) -> None:
    callers = 0

    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal callers
        callers += 1
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as api:
        port = api.sockets[0].getsockname()[1]
        env = environment(tmp_path, SANDBOX_TRAFFIC="50", SANDBOX_API_URL=f"http://127.0.0.1:{port}")
        async with started(TRAFFIC, env) as process:
            await eventually(lambda: callers >= 10)
            assert process.returncode is None
            process.send_signal(signal.SIGTERM)
            assert await ended(process) == 0


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (INVENTORY, "SANDBOX_INVENTORY_PORT", "99999"),
        (PAYMENTS, "SANDBOX_PAYMENT_PORT", "many"),
        (TRAFFIC, "SANDBOX_TRAFFIC", "-1"),
    ],
)
async def test_a_wrong_value_ends_the_start_with_one_line(tmp_path: Path, module: str, name: str, value: str) -> None:
    async with started(module, environment(tmp_path, **{name: value})) as process:
        _, complaint = await process.communicate()
        assert process.returncode == 2
        (line,) = complaint.decode().splitlines()
        assert line.startswith(f"{name}: {value!r} is not valid; allowed: ")
