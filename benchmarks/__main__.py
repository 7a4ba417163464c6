"""``make bench``: orders per second, latency and CPU of the worker.

The worker runs on a core of its own where the machine has two; NATS, the stub Inventory Service and
the load share the other. CPU seconds per 1 000 orders (user + system of the worker) is the steady
figure; wall figures swing with the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from benchmarks.breaker import overhead_microseconds
from benchmarks.load import Load, place_orders
from benchmarks.process import cpu_seconds, listening, rss_mb
from benchmarks.reference import slowness
from benchmarks.scrape import cpu_ms_per_scrape
from services.base.addresses import free_port
from services.base.supervisor import Child, Supervisor
from services.messaging.embedded import EmbeddedNats
from state.engine.database import opened
from state.tables import orders

HEADING = "clients  orders/s  p50 ms  p99 ms  confirmed p50/p99 ms  CPU s/1000  kernel  RSS MB"

LIMIT_CPU_SECONDS = 1.6
"""Per 1 000 orders: the figure of the NestJS design at 16 clients. Source: PERFORMANCE, first table."""


@dataclass(frozen=True, slots=True)
class Result:
    clients: int
    load: Load
    cpu_seconds_per_1000: float
    system_share: float
    """The part of that CPU time spent in the kernel: sockets, fsync, thread hand-overs."""
    rss_mb: float
    confirm_p50_ms: float
    confirm_p99_ms: float

    def line(self) -> str:
        """One row under HEADING."""
        load = self.load
        return (
            f"{self.clients:>7} {load.per_second:>9.0f} {load.percentile(0.5):>7.1f} {load.percentile(0.99):>7.1f} "
            f"{self.confirm_p50_ms:>10.0f} / {self.confirm_p99_ms:<8.0f} {self.cpu_seconds_per_1000:>11.2f} "
            f"{self.system_share:>7.0%} {self.rss_mb:>7.0f}"
        )


@asynccontextmanager
async def worker_under_test(data_dir: Path):
    """NATS, stub and worker; yields the API port and the worker's pid."""
    cores = sorted(os.sched_getaffinity(0))
    own, others = ([cores[0]], cores[1:]) if len(cores) > 1 else (cores, cores)
    os.sched_setaffinity(0, others)
    api_port, stub_port = free_port(data_dir / "api.port"), free_port(data_dir / "stub.port")
    with EmbeddedNats(data_dir) as nats:
        environment = {
            **os.environ,
            "NATS_URL": nats.url,
            "INVENTORY_SERVICE_URL": f"http://127.0.0.1:{stub_port}",
            "DATA_DIR": str(data_dir),
            "API_PORT": str(api_port),
            "HOLDFAST_SUPERVISED": "1",
        }
        pin = ("taskset", "-c", ",".join(map(str, own)))
        stub = (sys.executable, "-m", "benchmarks.stub_inventory", str(stub_port), nats.url)
        children = [
            nats.child(),
            Child("stub", stub, env=environment, ready=listening(stub_port)),
            Child(
                "worker",
                (*pin, sys.executable, "-m", "services", "worker"),
                env=environment,
                ready=listening(api_port),
            ),
        ]
        async with Supervisor(children, data_dir) as supervisor:
            yield api_port, next(status.pid for status in supervisor.status() if status.name == "worker")


async def measure(api_port: int, pid: int, database: str, *, clients: int, count: int) -> Result:
    """One run, with the CPU until every order of it is confirmed."""
    before = await asyncio.to_thread(_count, database)
    cpu = cpu_seconds(pid)
    load = await place_orders(api_port, clients=clients, orders=count)
    while await asyncio.to_thread(_count, database) < before + count:  # noqa: ASYNC110 - it is another process's
        await asyncio.sleep(0.05)
    user, system = (after - before for after, before in zip(cpu_seconds(pid), cpu, strict=True))
    lags = await asyncio.to_thread(_confirmation_ms, database, count)
    return Result(
        clients,
        load,
        (user + system) * 1000 / count,
        system / (user + system),
        rss_mb(pid),
        statistics.median(lags),
        lags[min(len(lags) - 1, int(0.99 * len(lags)))],
    )


def _count(database: str) -> int:
    with opened(database) as db:
        from state.orders import count_with_status

        return db.read_now(lambda connection: count_with_status(connection, "CONFIRMED"))


def _confirmation_ms(database: str, count: int) -> list[float]:
    from sqlalchemy import select

    statement = select(orders.c.created_at, orders.c.updated_at).order_by(orders.c.created_at.desc()).limit(count)
    with opened(database) as db:
        rows = db.read_now(lambda connection: connection.execute(statement).all())
    return sorted((confirmed - created).total_seconds() * 1000 for created, confirmed in rows)


async def main(count: int, rounds: int) -> None:
    before = slowness()
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder)
        async with worker_under_test(data_dir) as (api_port, pid):
            database = f"sqlite:///{data_dir / 'holdfast.db'}"
            await measure(api_port, pid, database, clients=8, count=200)
            results = [
                await measure(api_port, pid, database, clients=clients, count=count if clients > 1 else count // 4)
                for _ in range(rounds)
                for clients in (1, 16)
            ]
            scrape_ms, size = await cpu_ms_per_scrape(api_port, lambda: sum(cpu_seconds(pid)))
    print(HEADING)
    for result in results:
        print(result.line())
    cpu = statistics.median(result.cpu_seconds_per_1000 for result in results if result.clients == 16)
    slow = statistics.mean((before, slowness()))
    print(f"This machine takes {slow:.2f} times the reference's time for the same work.")
    share = cpu / slow / LIMIT_CPU_SECONDS
    print(
        f"CPU per 1 000 orders at 16 clients: {cpu:.2f} s here, {cpu / slow:.2f} s at the reference's speed, "
        f"{share:.2f} of the limit {LIMIT_CPU_SECONDS} s"
    )
    print(
        f"Scrape of /metrics: {scrape_ms:.2f} ms of CPU for {size:,} bytes, as much as {scrape_ms / cpu:.1f} orders; "
        f"one every 15 s is {scrape_ms / 15_000:.3%} of a core"
    )
    print(f"Circuit breaker: {await overhead_microseconds():.1f} microseconds a call beyond a bare await")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    uvloop.run(main(arguments.orders, arguments.rounds))
