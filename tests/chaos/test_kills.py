"""Killing any process at any moment loses nothing, doubles nothing and makes nothing up."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import select

from services.sandbox import books as audit
from services.sandbox.books import Books
from state.tables import orders
from tests.chaos.customers import Customers, Promises, broken_promises
from tests.chaos.faults import VICTIMS, kill_at_a_bad_moment
from tests.chaos.stack import CONSOLE, STOP_SECONDS, LiveStack, live_stack, until

pytestmark = pytest.mark.slow

COMMAND = "command"
"""The process that the user started: it takes all the others with it, and nobody starts it again but the user."""

KILLS_EACH = 4

DRAIN_SECONDS = 100.0
"""The claims of a worker that was killed end within half a minute; what it left is then taken up by the next."""


async def test_kills_in_the_middle_of_traffic_lose_nothing(tmp_path: Path) -> None:
    async with live_stack(tmp_path, CONSOLE) as stack, Customers(stack.api_url, per_second=60, seed=1) as customers:
        closing = asyncio.Event()
        shopping = asyncio.create_task(customers.shop_until(closing))
        kills = await kill_at_bad_moments(stack, random.Random(1))
        closing.set()
        await shopping
        drained = await stack.at_rest(DRAIN_SECONDS)
        with stack.books() as books:
            print_summary(customers.promises, books, f"kills {dict(kills)}; at rest after {drained:.1f} s")
            assert len(customers.promises.acknowledged) > 100
            assert audit.compare(books) == []
            assert broken_promises(customers.promises, books) == []


async def kill_at_bad_moments(stack: LiveStack, random_source: random.Random) -> Counter[str]:
    """``kill -9``, each victim several times, now and then before the one before has recovered."""
    victims = [COMMAND, *VICTIMS * KILLS_EACH]
    random_source.shuffle(victims)
    for victim in victims:
        await asyncio.sleep(random_source.uniform(0.2, 2.0))
        if victim == COMMAND:
            await stack.crash()
            await stack.start()
        else:
            await kill_at_a_bad_moment(stack, victim, random_source)
    for victim in VICTIMS:
        await stack.running(victim)
    return Counter(victims)


async def test_the_whole_stack_ends_within_ten_seconds_and_goes_on_where_it_was(tmp_path: Path) -> None:
    async with live_stack(tmp_path, CONSOLE) as stack, Customers(stack.api_url, per_second=40, seed=2) as customers:
        closing = asyncio.Event()
        shopping = asyncio.create_task(customers.shop_until(closing))
        await until(lambda: len(customers.promises.acknowledged) >= 60, 20)
        seconds = await stack.stop()
        assert seconds < STOP_SECONDS
        assert stack.processes() == {}
        await stack.start()
        closing.set()
        await shopping
        drained = await stack.at_rest(DRAIN_SECONDS)
        with stack.books() as books:
            print_summary(customers.promises, books, f"ended in {seconds:.1f} s; at rest after {drained:.1f} s")
            assert audit.compare(books) == []
            assert broken_promises(customers.promises, books) == []


def print_summary(promises: Promises, books: Books, drill: str) -> None:
    rows = books.orders.execute(select(orders.c.created_at, orders.c.updated_at)).all()
    longest = max((updated - created).total_seconds() for created, updated in rows)
    answers = ", ".join(f"{count} x {status}" for status, count in sorted(promises.answers.items()))
    print(  # noqa: T201 - figures for people, shown by pytest -s
        f"\n{len(rows)} orders, {len(promises.acknowledged)} acknowledged, {len(promises.cancelled)} cancelled, "
        f"{len(promises.returned)} returned ({answers}); longest unsettled {longest:.1f} s; {drill}"
    )
