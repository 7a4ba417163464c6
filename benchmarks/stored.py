"""``make bench-stored``: what an order costs the worker with few orders stored, and with a million; and its memory.

The sizes take turns, each round with a worker started anew; then one worker places orders until its memory shows
whether it grows.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
from pathlib import Path

import uvloop

from benchmarks import million
from benchmarks.__main__ import HEADING, Result, measure, worker_under_test
from benchmarks.reference import slowness

CLIENTS = 16


def prepared(folder: Path, stored: int) -> Path:
    """A data directory with so many orders in its database."""
    data_dir = folder / str(stored)
    data_dir.mkdir(exist_ok=True)
    if not (data_dir / "holdfast.db").exists():
        million.seeded(data_dir / "holdfast.db", stored)
    return data_dir


async def one_round(prepared: Path, count: int) -> Result:
    """A fresh worker, warmed up and measured; over a copy, so that no round finds the orders of another."""
    cores = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory(dir=prepared) as folder:
        data_dir = Path(folder)
        shutil.copyfile(prepared / "holdfast.db", data_dir / "holdfast.db")
        database = f"sqlite:///{data_dir / 'holdfast.db'}"
        try:
            async with worker_under_test(data_dir) as (api_port, pid):
                await measure(api_port, pid, database, clients=8, count=500)
                return await measure(api_port, pid, database, clients=CLIENTS, count=count)
        finally:
            os.sched_setaffinity(0, cores)


async def memory(data_dir: Path, count: int) -> None:
    """The worker's memory while it takes in ``count`` orders."""
    database = f"sqlite:///{data_dir / 'holdfast.db'}"
    async with worker_under_test(data_dir) as (api_port, pid):
        for step in range(10):
            result = await measure(api_port, pid, database, clients=CLIENTS, count=count // 10)
            print(
                f"{(step + 1) * count // 10:>9} {result.rss_mb:>7.0f} {result.cpu_seconds_per_1000:>11.2f}", flush=True
            )


async def main(sizes: list[int], rounds: int, count: int, many: int, folder: Path) -> None:
    found: dict[int, list[Result]] = {size: [] for size in sizes}
    print("   stored " + HEADING)
    for _ in range(rounds):
        for size, results in found.items():
            results.append(await one_round(prepared(folder, size), count))
            print(f"{size:>9} {results[-1].line()}", flush=True)
    costs = {size: statistics.median(r.cpu_seconds_per_1000 for r in results) for size, results in found.items()}
    print(f"This machine takes {slowness():.2f} times the reference's time for the same work.")
    for size in sizes[1:]:
        print(
            f"With {size:,} stored an order costs {costs[size] / costs[sizes[0]]:.2f} times as with {sizes[0]:,} stored"
        )
    if many:
        print("   placed  RSS MB  CPU s/1000")
        await memory(prepared(folder, sizes[0]), many)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--orders", type=int, default=2_000, help="of one round")
    parser.add_argument("--many", type=int, default=50_000, help="orders of the look at the memory; 0 for none")
    parser.add_argument("--data-dir", type=Path, help="keep the databases here, and use those that are there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.data_dir or Path(temporary)
        uvloop.run(main(arguments.sizes, arguments.rounds, arguments.orders, arguments.many, folder))
