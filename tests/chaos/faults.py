"""What can be done to a running stack: killed, ended, frozen, or made to answer wrongly."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from tests.chaos.replicated import SECOND
from tests.chaos.resources import delete_streams, limit_files, lock_database, wipe_broker
from tests.chaos.stack import REACTION_SECONDS, LiveStack, until
from tests.support.postgres_server import PostgresServer

RESERVING = ("holdfast.db", "SELECT 1 FROM orders WHERE status = 'RECEIVED'")
PAYING = ("holdfast.db", "SELECT 1 FROM orders WHERE status = 'PAYING'")
PUBLISHING = ("holdfast.db", "SELECT 1 FROM outbox WHERE published_at IS NULL AND claimed_until IS NOT NULL")
ANSWERING = ("sandbox/inventory.db", PUBLISHING[1])
BAD_MOMENTS: dict[str, tuple[tuple[str, str], ...]] = {
    "worker": (RESERVING, PAYING, PUBLISHING, ANSWERING),
    "nats-server": (PUBLISHING, ANSWERING),
    "inventory": (RESERVING, PUBLISHING, ANSWERING),
    "payments": (PAYING,),
}
"""Half-way through something: what is to be interrupted lasts a millisecond or two, so chance alone would miss it."""

LAGS_SECONDS = (0.0, 0.001, 0.002, 0.004)
"""What one process has stored is in the hands of the next one so much later."""

VICTIMS = tuple(BAD_MOMENTS)
BAD_MOMENTS[SECOND] = BAD_MOMENTS["worker"]

Injection = Callable[[LiveStack, random.Random, float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault; injecting it returns when it is over, and a process that it ended is back."""

    kind: str
    inject: Injection
    """Takes the stack, the source of chance, and how many seconds a fault that lasts is to last."""
    recovery_seconds: float = 0.0
    """How long an ended process needs at least to be back; 0 for a fault that ends none."""

    @property
    def is_kill(self) -> bool:
        """Whether a process ends by it."""
        return self.recovery_seconds > 0


@asynccontextmanager
async def misbehaving(stack: LiveStack, **faults: Any) -> AsyncIterator[None]:
    """The Inventory Service has the given faults switched on, afterwards none."""
    await _switch(stack, faults)
    try:
        yield
    finally:
        await _switch(stack, {})


async def _switch(stack: LiveStack, faults: dict[str, Any]) -> None:
    async def is_accepted() -> bool:
        try:
            return (await client.put("/api/v1/sandbox/faults", json=faults)).raise_for_status().is_success
        except httpx.TransportError:
            return False

    async with httpx.AsyncClient(base_url=stack.inventory_url(), trust_env=False) as client:
        await until(is_accepted, REACTION_SECONDS, stack.logs)


@asynccontextmanager
async def frozen(stack: LiveStack, child: str) -> AsyncIterator[None]:
    """The child is there and does nothing: connections are taken, answers never come."""
    pid = await stack.running(child)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def kill_at_a_bad_moment(stack: LiveStack, child: str, random_source: random.Random) -> int:
    """``kill -9`` half-way through something: the process id that the child had."""
    moment = random_source.choice(BAD_MOMENTS[child])
    return await stack.kill_when(child, *moment, lag_seconds=random_source.choice(LAGS_SECONDS))


def _killing(child: str) -> Fault:
    async def inject(stack: LiveStack, random_source: random.Random, _: float) -> None:
        pid = await kill_at_a_bad_moment(stack, child, random_source)
        await stack.running(child, instead_of=pid)

    return Fault(f"kill -9 {child}", inject, recovery_seconds=1.0)


def _ending(child: str) -> Fault:
    async def inject(stack: LiveStack, _: random.Random, __: float) -> None:
        pid = await stack.running(child)
        os.kill(pid, signal.SIGTERM)
        await stack.running(child, instead_of=pid)

    return Fault(f"SIGTERM {child}", inject, recovery_seconds=1.0)


def _freezing(child: str) -> Fault:
    async def inject(stack: LiveStack, _: random.Random, seconds: float) -> None:
        async with frozen(stack, child):
            await asyncio.sleep(seconds)

    return Fault(f"SIGSTOP {child}", inject)


def _answering(kind: str, choose: Callable[[random.Random], dict[str, Any]]) -> Fault:
    async def inject(stack: LiveStack, random_source: random.Random, seconds: float) -> None:
        async with misbehaving(stack, **choose(random_source)):
            await asyncio.sleep(seconds)

    return Fault(kind, inject)


async def _kill_everything(stack: LiveStack, _: random.Random, __: float) -> None:
    await stack.crash()
    await stack.start()


async def _both_workers(stack: LiveStack, random_source: random.Random, _: float) -> None:
    """One after the other, so soon that what the first one held is still claimed."""
    pids = {child: await kill_at_a_bad_moment(stack, child, random_source) for child in ("worker", SECOND)}
    for child, pid in pids.items():
        await stack.running(child, instead_of=pid)


def replica_faults(server: PostgresServer) -> tuple[Fault, ...]:
    """What can happen besides to two workers on one PostgreSQL server."""

    async def restart(_: LiveStack, __: random.Random, ___: float) -> None:
        await asyncio.to_thread(server.restart)

    return (
        *FAULTS,
        _killing(SECOND),
        _ending(SECOND),
        _freezing(SECOND),
        Fault("kill -9 both workers", _both_workers, recovery_seconds=1.0),
        Fault("PostgreSQL crash", restart, recovery_seconds=1.0),
    )


FAULTS = (
    *(_killing(child) for child in VICTIMS),
    *(_ending(child) for child in VICTIMS),
    *(_freezing(child) for child in VICTIMS),
    Fault("kill -9 everything", _kill_everything, recovery_seconds=4.0),
    _answering("inventory outage", lambda _: {"outage": True}),
    # Below and above the time that the worker waits for an answer.
    _answering("inventory latency", lambda chance: {"latencyMs": chance.randint(200, 1500)}),
    _answering("inventory errors", lambda chance: {"errorRate": round(chance.uniform(0.2, 0.8), 2)}),
    _answering("inventory silent", lambda _: {"silentConfirmations": True}),
    _answering("inventory credentials expired", lambda _: {"credentialsExpired": True}),
    _answering("inventory too busy", lambda chance: {"requestsPerSecond": chance.randint(2, 10)}),
    _answering("inventory other form", lambda _: {"otherForm": True}),
    Fault("streams deleted", delete_streams),
    Fault("broker store wiped", wipe_broker, recovery_seconds=1.0),
    Fault("database not writable", lock_database),
    Fault("worker out of files", limit_files),
)
