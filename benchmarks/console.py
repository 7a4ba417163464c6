"""``make bench-console``: what the console costs, and what its viewers cost the orders, with a million orders stored.

First the CPU of every page's run, then the latency of orders with no viewer and with thirty, in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import uvloop
from sqlalchemy import select, update

from benchmarks import million, pages
from benchmarks.load import paced, percentile
from benchmarks.process import cpu_seconds, listening, rss_mb
from benchmarks.reference import slowness
from services.base.addresses import free_port
from services.base.supervisor import Child, Supervisor
from services.messaging.embedded import EmbeddedNats
from state.engine.database import Database, opened
from state.tables import orders, replicas
from tests.support.supervised import read_status

ROOT = Path(__file__).resolve().parents[1]
ORDERS_PER_SECOND, PINGS_PER_SECOND = 5, 20
SECONDS = 60
"""Of a round: three hundred orders, so that their p99 is not the one slowest of them."""
PAGE_HEADING = (
    "page          opened ms   refresh ms, readings anew (of them reading)   readings shared   messages      kB"
)
ROUND_HEADING = (
    "viewers  order p50/p99 ms  ping p50/p99 ms  refresh p50/p90 ms  refreshes/s  console CPU  ms CPU a refresh  RSS MB"
)


@dataclass(frozen=True, slots=True)
class Round:
    """Orders and pings placed while so many people looked; milliseconds, sorted."""

    viewers: int
    orders: list[float]
    pings: list[float]
    refreshes: list[float]
    seconds: float
    console_cpu: float
    """Seconds of the console's process."""
    rss_mb: float

    def line(self) -> str:
        """One row under ROUND_HEADING."""
        refreshes = (
            f"{percentile(self.refreshes, 0.5):.0f} / {percentile(self.refreshes, 0.9):.0f}" if self.refreshes else "-"
        )
        each = f"{self.console_cpu * 1000 / len(self.refreshes):.1f}" if self.refreshes else "-"
        return (
            f"{self.viewers:>7} {percentile(self.orders, 0.5):>8.1f} / {percentile(self.orders, 0.99):<6.1f}"
            f"{percentile(self.pings, 0.5):>7.1f} / {percentile(self.pings, 0.99):<6.1f} {refreshes:>17} "
            f"{len(self.refreshes) / self.seconds:>12.1f} {self.console_cpu / self.seconds:>12.1%} {each:>17} "
            f"{self.rss_mb:>7.0f}"
        )


def print_pages(database: Database, url: str) -> None:
    """The CPU of every page's run."""
    newest = database.read_now(
        lambda c: c.scalar(select(orders.c.order_id).order_by(orders.c.created_at.desc()).limit(1))
    )

    def alive() -> None:
        beat = update(replicas).values(heartbeat_at=datetime.now(UTC))
        database.write_now(lambda c: c.execute(beat))

    print(PAGE_HEADING)
    for page, first, anew, shared in pages.measure(url, order=newest, alive=alive):
        print(
            f"{page:13} {first.total:>9.1f} {anew.total:>12.1f} ({anew.reading:.1f}){'':>28} {shared.total:>9.1f}"
            f"{shared.messages:>11.0f} {shared.size / 1000:>8.1f}"
        )


@asynccontextmanager
async def product(data_dir: Path) -> AsyncIterator[tuple[int, int, int, int]]:
    """Everything as ``streamlit run app.py`` starts it, before the stub Inventory Service.

    Yields the ports of console and API and the pids of console and worker.
    """
    ports = [free_port(data_dir / f"{name}.port") for name in ("console", "api", "stub")]
    console, api, stub = ports
    with EmbeddedNats(data_dir / "broker") as nats:
        environment = {
            **os.environ,
            "NATS_URL": nats.url,
            "INVENTORY_SERVICE_URL": f"http://127.0.0.1:{stub}",
            "DATA_DIR": str(data_dir),
            "API_PORT": str(api),
        }
        inventory = (sys.executable, "-m", "benchmarks.stub_inventory", str(stub), nats.url)
        # A console outlives its terminal, and with it its supervisor; this one must not.
        streamlit = (
            *("setpriv", "--pdeathsig", "KILL"),
            *(sys.executable, "-m", "streamlit", "run", str(ROOT / "app.py"), "--server.port", str(console)),
        )
        children = [
            nats.child(),
            Child("stub", inventory, env=environment, cwd=ROOT, ready=listening(stub)),
            Child(
                "console",
                streamlit,
                env=environment,
                cwd=ROOT,
                ready=listening(console),
                start_seconds=60,
                grace_seconds=10,
            ),
        ]
        supervised = data_dir / "bench"
        supervised.mkdir(exist_ok=True)
        async with Supervisor(children, supervised) as supervisor:
            pid = next(status.pid for status in supervisor.status() if status.name == "console")
            await listening(api)()
            worker = next(status.pid for status in read_status(data_dir) if status.name == "worker")
            yield console, api, pid, worker


@contextmanager
def looking(port: int, count: int) -> Iterator[list[float]]:
    """So many viewers during the block; afterwards the list holds the latencies of their refreshes."""
    latencies: list[float] = []
    if not count:
        yield latencies
        return
    viewers = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.viewers", str(port), str(count)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    try:
        if viewers.stdout.readline() != "ready\n":
            raise RuntimeError("the viewers did not come in")
        yield latencies
        viewers.stdin.close()
        latencies += sorted(json.loads(viewers.stdout.readline()))
    finally:
        viewers.kill()
        viewers.wait()


async def measure(console: int, api: int, pid: int, viewers: int, seconds: float) -> Round:
    """One round."""
    with contextlib.ExitStack() as stack:
        refreshes = await asyncio.to_thread(stack.enter_context, looking(console, viewers))
        cpu, started = sum(cpu_seconds(pid)), time.perf_counter()
        placed, pings = await asyncio.gather(
            paced(api, per_second=ORDERS_PER_SECOND, seconds=seconds),
            paced(api, per_second=PINGS_PER_SECOND, seconds=seconds, path="/healthz"),
        )
        took, used = time.perf_counter() - started, sum(cpu_seconds(pid)) - cpu
    return Round(viewers, placed, pings, refreshes, took, used, rss_mb(pid))


async def main(count: int, rounds: int, viewers: int, seconds: float, keep: Path | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data_dir = keep or Path(folder)
        (data_dir / "broker").mkdir(exist_ok=True)
        url = f"sqlite:///{data_dir / 'holdfast.db'}"
        if not (data_dir / "holdfast.db").exists():
            million.seeded(data_dir / "holdfast.db", count)
        with opened(url) as database:
            million.keep_fresh(database, count)
            print_pages(database, url)
        print(f"\n{ORDERS_PER_SECOND} orders/s and {PINGS_PER_SECOND} pings/s for {seconds:g} s a round")
        print(ROUND_HEADING)
        found: list[Round] = []
        async with product(data_dir) as (console, api, pid, _worker):
            await measure(console, api, pid, viewers, 5)
            for number in range(2 * rounds):
                found.append(await measure(console, api, pid, viewers * (number % 2), seconds))
                print(found[-1].line(), flush=True)
    print(f"This machine takes {slowness():.2f} times the reference's time for the same work.")
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        quiet, busy = (
            statistics.median(percentile(r.orders, share) for r in found if bool(r.viewers) is seen)
            for seen in (False, True)
        )
        print(f"Order latency {name} alone {quiet:.1f} ms, with {viewers} {busy:.1f} ms: {busy / quiet:.2f} times")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=million.ORDERS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--viewers", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--data-dir", type=Path, help="keep the database here, and use the one that is there")
    arguments = parser.parse_args()
    uvloop.run(main(arguments.orders, arguments.rounds, arguments.viewers, arguments.seconds, arguments.data_dir))
