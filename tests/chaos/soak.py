"""``make soak``: minutes of traffic under one fault after the other, and then the books have to agree.

The seed decides which faults come in which order, and what the customers want; the machine decides
what they meet. Everything happens in a temporary folder, which is kept when something is wrong. The
exit code is 0 when nothing differs, no promise is broken and everything came to rest, else 1.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Connection, select

from services.domain.orders.changes import TRANSITION
from services.domain.orders.model import OrderStatus
from services.sandbox import books as audit
from services.sandbox.books import Books
from services.sandbox.traffic import plan_delivery
from state.tables import order_history, orders, reviews
from tests.chaos.customers import Customers, Promises, broken_promises
from tests.chaos.faults import FAULTS, VICTIMS, Fault, replica_faults
from tests.chaos.replicated import SECOND
from tests.chaos.stack import CONSOLE, REPLICATED, LiveStack, live_stack
from tests.support.postgres_server import PostgresServer

ORDERS_PER_SECOND = 6.0
LOOK_SECONDS = 1.0
"""Between two looks of the supplier's at the shelves."""

MOST_NAMED = 10
"""Events of those left over."""
DRAIN_SECONDS = 180.0
"""A capture that was never answered may arrive a minute late, and its refund has to wait for that."""

SETTLED = frozenset({OrderStatus.CONFIRMED, OrderStatus.CANCELLED, OrderStatus.REJECTED})
"""The customer needs to wait no longer."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long faults last and how long nothing is wrong in between, each from and to."""

    fault_seconds: tuple[float, float]
    calm_seconds: tuple[float, float]


STEADY = Pace(fault_seconds=(2.0, 5.0), calm_seconds=(5.0, 8.0))
"""About six faults a minute; orders get through between them."""
BRISK = Pace(fault_seconds=(0.5, 1.0), calm_seconds=(0.5, 1.0))
"""At least eight kinds within half a minute."""


@dataclass(frozen=True, slots=True)
class Step:
    """One fault, and the calm that follows."""

    fault: Fault
    fault_seconds: float
    calm_seconds: float

    @property
    def seconds(self) -> float:
        """How long it takes at least."""
        return (self.fault.recovery_seconds or self.fault_seconds) + self.calm_seconds


def plan(random_source: random.Random, seconds: float, pace: Pace, faults: Sequence[Fault] = FAULTS) -> list[Step]:
    """So many faults as fill at least the time; every kind comes once before any comes again."""
    steps: list[Step] = []
    deck: list[Fault] = []
    while sum(step.seconds for step in steps) < seconds:
        deck = deck or random_source.sample(faults, len(faults))
        steps.append(
            Step(deck.pop(), random_source.uniform(*pace.fault_seconds), random_source.uniform(*pace.calm_seconds))
        )
    return steps


@dataclass(frozen=True, slots=True)
class Report:
    """What a soak has found."""

    seconds: float
    """From the first fault to the last customer's leaving."""
    faults: Counter[str]
    """Injected, and over again, by kind."""
    kills: int
    """Ends of processes that were followed by a new start."""
    drained_seconds: float
    still_waiting: str
    """What was still on its way when patience ended; empty when everything came to rest."""
    acknowledged: Counter[str]
    """Orders that customers were promised, by their status in the end."""
    refused: Counter[str]
    """Orders that were refused, by the code of the error."""
    for_people: Counter[str]
    """Open cases by reason."""
    longest_unsettled_seconds: float
    """From the acknowledgement of an order to SETTLED."""
    differences: tuple[str, ...]
    broken_promises: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        return not (self.differences or self.broken_promises or self.still_waiting)

    def lines(self) -> list[str]:
        """For people."""
        promised, refused, injected = self.acknowledged.total(), self.refused.total(), self.faults.total()
        return [
            f"minutes      {self.seconds / 60:.1f}",
            f"orders       {promised + refused} placed: {promised} acknowledged, {refused} refused",
            f"acknowledged {_listed(self.acknowledged)}",
            f"refused      {_listed(self.refused)}",
            f"faults       {injected} of {len(self.faults)} kinds, {60 * injected / self.seconds:.1f} a minute",
            *(f"  {kind:<29}{count:>3}" for kind, count in sorted(self.faults.items())),
            f"kills        {self.kills} survived",
            f"unsettled    {self.longest_unsettled_seconds:.1f} s at most, from acknowledged to confirmed or ended",
            f"drained      {self.drained_seconds:.1f} s after the last customer",
            f"left over    {self.still_waiting or 'nothing'}",
            f"for people   {_listed(self.for_people)}",
            f"differences  {len(self.differences)}",
            *(f"  {difference}" for difference in self.differences),
            f"promises     {len(self.broken_promises)} broken",
            *(f"  {promise}" for promise in self.broken_promises),
        ]


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "none"


async def soak(
    folder: Path,
    steps: Sequence[Step],
    *,
    seed: int,
    tell: Callable[[str], None],
    database_url: str | None = None,
) -> Report:
    """Run the steps in the middle of traffic; the processes are gone when this returns, whatever happens.

    ``database_url``: of a server, which two workers share.
    """
    command, environment = (REPLICATED, {"DATABASE_URL": database_url}) if database_url else (CONSOLE, {})
    async with (
        live_stack(folder, command, **environment) as stack,
        Customers(*stack.api_urls, per_second=ORDERS_PER_SECOND, seed=seed) as customers,
    ):
        began = time.monotonic()
        injected = await _maltreat(stack, customers, steps, random.Random(seed), tell)
        seconds = time.monotonic() - began
        drained_seconds, still_waiting = await _drain(stack)
        with stack.books() as books:
            return Report(
                seconds=seconds,
                faults=Counter(fault.kind for fault in injected),
                kills=sum(fault.is_kill for fault in injected),
                drained_seconds=drained_seconds,
                still_waiting=still_waiting,
                acknowledged=_by_status(books, customers.promises),
                refused=_by_code(books, customers.promises),
                for_people=_open_cases(books),
                longest_unsettled_seconds=longest_unsettled_seconds(books.orders, customers.promises.acknowledged_at),
                differences=tuple(str(difference) for difference in audit.compare(books)),
                broken_promises=tuple(broken_promises(customers.promises, books)),
            )


async def _maltreat(
    stack: LiveStack,
    customers: Customers,
    steps: Sequence[Step],
    random_source: random.Random,
    tell: Callable[[str], None],
) -> list[Fault]:
    """Everything goes on until the last step is over and the last customer is served: what was injected."""
    injected: list[Fault] = []
    began, closing = time.monotonic(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        shopping = group.create_task(customers.shop_until(closing))
        supplying = group.create_task(_supply(stack, random.Random(random_source.random())))
        for number, step in enumerate(steps, 1):
            tell(f"{time.monotonic() - began:6.1f} s  {number}/{len(steps)}  {step.fault.kind}")
            await step.fault.inject(stack, random_source, step.fault_seconds)
            injected.append(step.fault)
            await asyncio.sleep(step.calm_seconds)
        for child in (*VICTIMS, *([SECOND] if len(stack.api_urls) > 1 else [])):
            await stack.running(child)
        closing.set()
        await shopping
        supplying.cancel()
    return injected


async def _supply(stack: LiveStack, random_source: random.Random) -> None:
    """Bring what sells out, so that there is something to sell for as long as it takes."""
    async with httpx.AsyncClient(base_url=stack.inventory_url(), trust_env=False) as client:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            with suppress(httpx.HTTPError):
                await _look_after_shelves(client, random_source)


async def _look_after_shelves(client: httpx.AsyncClient, random_source: random.Random) -> None:
    reply = (await client.get("/api/v1/inventory/stock")).raise_for_status()
    for item in reply.json()["data"]["items"]:
        brought = plan_delivery(random_source, item)
        if brought:
            key = {"productId": item["productId"], "variantId": item["variantId"]}
            body = key | {"delta": brought, "reason": "supplier delivery"}
            await client.post("/api/v1/inventory/stock/adjust", json=body)


async def _drain(stack: LiveStack) -> tuple[float, str]:
    """Wait until nothing is on its way: how many seconds, and what still is if patience ended."""
    began = time.monotonic()
    while waiting := stack.waiting():
        if time.monotonic() - began > DRAIN_SECONDS:
            return time.monotonic() - began, "; ".join([str(waiting), *map(str, stack.unheard()[:MOST_NAMED])])
        await asyncio.sleep(0.2)
    return time.monotonic() - began, ""


def _by_status(books: Books, promises: Promises) -> Counter[str]:
    rows = books.orders.execute(select(orders.c.order_id, orders.c.status)).all()
    status = {row.order_id: str(row.status) for row in rows}
    return Counter(status.get(order_id, "LOST") for order_id in promises.orders)


def _by_code(books: Books, promises: Promises) -> Counter[str]:
    rows = books.orders.execute(select(orders.c.order_id, orders.c.failure)).all()
    codes = {row.order_id: row.failure["code"] for row in rows if row.failure}
    return Counter(codes.get(order_id, "not refused") for order_id in promises.refused)


def _open_cases(books: Books) -> Counter[str]:
    return Counter(books.orders.scalars(select(reviews.c.reason).where(reviews.c.state == "OPEN")))


def longest_unsettled_seconds(holdfast: Connection, acknowledged_at: dict[str, datetime]) -> float:
    """The longest time from an order's acknowledgement to SETTLED; 0 when all were settled before.

    Orders that wait for a person are not among them: their status tells.
    """
    settled_at: dict[str, datetime] = {}
    columns = (order_history.c.order_id, order_history.c.at, order_history.c.details)
    statement = select(*columns).where(order_history.c.kind == TRANSITION).order_by(order_history.c.id)
    for row in holdfast.execute(statement):
        if (row.details or {}).get("to") in SETTLED:
            settled_at.setdefault(row.order_id, row.at)
    waits = (settled_at[key] - at for key, at in acknowledged_at.items() if key in settled_at)
    return max((wait.total_seconds() for wait in waits), default=0.0)


@contextmanager
def _server() -> Iterator[PostgresServer]:
    server = PostgresServer(keeps_commits=True)
    try:
        server.start()
        yield server
    finally:
        server.close()


async def _until_terminated(work: Coroutine[Any, Any, Report]) -> Report:
    """SIGTERM cleans up as Ctrl-C does."""
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


def main() -> int:
    """Soak for as long as the command line says; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description="faults, traffic and an audit")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long faults come (10)")
    parser.add_argument("--seed", type=int, default=1, help="decides faults and customers (1)")
    parser.add_argument("--replicas", action="store_true", help="two workers on one PostgreSQL server")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="holdfast-soak-"))
    try:
        with _server() if arguments.replicas else nullcontext() as server:
            faults = replica_faults(server) if server else FAULTS
            steps = plan(random.Random(arguments.seed), 60 * arguments.minutes, STEADY, faults)
            url = server.new_database() if server else None
            work = soak(folder, steps, seed=arguments.seed, tell=_tell, database_url=url)
            report = asyncio.run(_until_terminated(work))
    except BaseException:
        _tell(f"ended before its time; logs and books are in {folder}")
        raise
    _tell("\n".join(["", f"seed         {arguments.seed}", *report.lines()]))
    if report.is_clean:
        shutil.rmtree(folder)
    else:
        _tell(f"logs and books are in {folder}")
    return 0 if report.is_clean else 1


def _tell(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the answer to a command


if __name__ == "__main__":
    sys.exit(main())
