"""Alerts about refusals of this service, about orders that need a person and about the worker itself: caused and ended
for real, and kept while the worker that judges them is dead."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.domain.orders.lifecycle import TRIES
from tests.alerting.prometheus import Server
from tests.alerting.receiver import pager
from tests.alerting.shop import PATIENCE_SECONDS, Everywhere, Shop, alerting, nothing_missing, ordering
from tests.chaos.stack import HOLDFAST, LiveStack, until

pytestmark = pytest.mark.slow

REFUSES_US = "InventoryRefusesUs"
ATTENTION = "OrdersNeedingAttention"
NOT_WRITABLE = "DatabaseNotWritable"
DOWN = "HoldfastDown"
EVALUATIONS = 5
"""After which an alert would have resolved."""


@contextmanager
def locked(stack: LiveStack) -> Iterator[sqlite3.Connection]:
    """The database while another program writes to it and nobody else can."""
    path = stack.folder / "var" / HOLDFAST
    with closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        connection.execute("COMMIT")


async def damaged_order(stack: LiveStack, shop: Shop) -> str:
    """An order that waits for inventory, has failed unexpectedly until now, and whose stored metadata is damaged."""
    await shop.faults(outage=True)
    order_id: str = (await shop.order("high")).json()["data"]["orderId"]
    with locked(stack) as connection:
        # Whoever reads the row after this reserves the stock and comes to the payment, which needs the metadata.
        await shop.faults()
        change = "UPDATE orders SET metadata = '[1]', step_failures = ? WHERE order_id = ?"
        assert connection.execute(change, (TRIES - 1, order_id)).rowcount == 1
    return order_id


def mend(stack: LiveStack, order_id: str) -> None:
    with locked(stack) as connection:
        connection.execute("UPDATE orders SET metadata = NULL WHERE order_id = ?", (order_id,))


async def retry_the_case(client: httpx.AsyncClient, order_id: str) -> None:
    answer = await client.get("/api/v1/reviews", params={"state": "OPEN", "reason": "STEP_FAILED"})
    (case,) = answer.raise_for_status().json()["data"]["items"]
    assert case["orderId"] == order_id
    body = {"action": "RETRY_STEP", "note": "The row is mended.", "version": case["version"]}
    (await client.post(f"/api/v1/reviews/{case['reviewId']}/resolve", json=body)).raise_for_status()


async def evaluations_firing(server: Server, name: str) -> float:
    """In how many evaluations of the last minutes the alert fired."""
    query = f'sum(count_over_time(ALERTS{{alertname="{name}",alertstate="firing"}}[5m]))'
    found: list[Any] = (await server.get("/api/v1/query", query=query))["data"]["result"]
    return float(found[0]["value"][1]) if found else 0.0


async def both_fire(server: Server) -> bool:
    return {ATTENTION, DOWN} <= await server.firing()


async def test_refusals_and_failing_steps_are_reported_everywhere_and_outlive_the_worker(tmp_path: Path) -> None:
    with pager() as ours, pager() as theirs:
        async with alerting(tmp_path, ours, theirs) as (stack, shop, client, server):
            refusals, both = (
                Everywhere(names, shop, server, ours, theirs) for names in ({REFUSES_US}, {REFUSES_US, ATTENTION})
            )
            order_id = await damaged_order(stack, shop)
            # Before the breakers open.
            await until(lambda: shop.is_firing(server, ATTENTION), PATIENCE_SECONDS, stack.logs)
            await shop.faults(credentialsExpired=True)
            async with ordering(shop, pause_seconds=0.5):
                await nothing_missing(both.have_fired, stack.logs)
                await shop.faults()
                await nothing_missing(refusals.have_ended, stack.logs)
            named = {alert["labels"]["status"] for message in ours.of(REFUSES_US) for alert in message["alerts"]}
            assert named == {"401"}

            with locked(stack):
                await until(lambda: NOT_WRITABLE in ours.names("firing") & theirs.names("firing"), PATIENCE_SECONDS)
            await until(lambda: NOT_WRITABLE in ours.names("resolved") & theirs.names("resolved"), PATIENCE_SECONDS)

            await stack.crash()

            async def is_down_for_long() -> bool:
                return await evaluations_firing(server, DOWN) >= EVALUATIONS

            await until(is_down_for_long, PATIENCE_SECONDS)
            await until(lambda: both_fire(server), PATIENCE_SECONDS)
            await until(lambda: DOWN in theirs.names("firing"), PATIENCE_SECONDS)
            assert ATTENTION not in theirs.names("resolved")

            await stack.start()
            await until(lambda: DOWN in theirs.names("resolved"), PATIENCE_SECONDS, stack.logs)
            assert ATTENTION in await shop.firing()
            assert ATTENTION not in ours.names("resolved") | theirs.names("resolved")
            mend(stack, order_id)
            await retry_the_case(client, order_id)
            await nothing_missing(both.have_ended, stack.logs)
