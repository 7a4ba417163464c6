"""The disk of the embedded broker fills up and is freed: what waited is published by itself."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.base.identity import new_id
from services.base.supervisor import ChildStatus
from services.domain.orders.model import Line
from services.messaging.embedded import FIRST_PATIENCE_SECONDS, has_room
from services.sandbox.inventory_service.catalogue import CATALOGUE
from tests.chaos.stack import HEADLESS, LiveStack, live_stack, until
from tests.faults.shop import MUG
from tests.support.supervised import read_status

pytestmark = [pytest.mark.slow, pytest.mark.alone]

NOTICED_SECONDS = 40.0
MENDED_SECONDS = 60.0
FULL_SECONDS = FIRST_PATIENCE_SECONDS + 6.0
"""Longer than a broker on a disk with room may refuse."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Where the broker stores: a file system of 64 MiB. Needs the right to mount, and fails without it."""
    place = tmp_path / "var" / "nats"
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,mode=700", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


async def test_a_broker_whose_disk_was_full_takes_events_again_by_itself(tmp_path: Path, small_disk: Path) -> None:
    haste = {"ALERT_OUTBOX_AGE": "3000", "ALERT_INTERVAL": "1000"}
    async with (
        live_stack(tmp_path, HEADLESS, **haste) as stack,
        httpx.AsyncClient(base_url=stack.api_url, timeout=30.0, trust_env=False) as api,
    ):
        placed: list[str] = []

        async def place() -> str:
            body = {"orderId": new_id(), "userId": "user-1", "items": [MUG.wire()]}
            reply = await api.post("/api/v1/orders", json=body)
            assert reply.status_code == 201, reply.text
            placed.append(body["orderId"])
            return placed[-1]

        async def is_ready() -> bool:
            return (await api.get("/readyz")).status_code == 200

        async def is_refused() -> bool:
            await place()
            reply = await api.get("/readyz")
            return reply.status_code == 503 and reply.json()["publishing"] is False

        async def is_confirmed(order_id: str) -> bool:
            return (await api.get(f"/api/v1/orders/{order_id}")).json()["data"]["status"] == "CONFIRMED"

        await until(is_ready, NOTICED_SECONDS, stack.logs)
        first = await place()
        await until(lambda: is_confirmed(first), NOTICED_SECONDS, stack.logs)

        _fill(small_disk / "ballast")
        await until(is_refused, NOTICED_SECONDS, stack.logs)
        full_until = time.monotonic() + FULL_SECONDS
        await until(lambda: _fires(api, "OutboxStalled"), NOTICED_SECONDS, stack.logs)
        await until(lambda: time.monotonic() > full_until, NOTICED_SECONDS, stack.logs)
        assert not await is_ready()
        assert (_broker(stack).restarts, _broker(stack).not_working) == (0, 0)

        (small_disk / "ballast").unlink()
        assert has_room(small_disk)
        await until(is_ready, MENDED_SECONDS, stack.logs)
        for order_id in placed:
            await until(lambda order_id=order_id: is_confirmed(order_id), MENDED_SECONDS, stack.logs)
        assert (_broker(stack).restarts, _broker(stack).not_working) == (1, 1)


async def test_answers_of_the_inventory_service_are_published_again_without_any_order(
    tmp_path: Path, small_disk: Path
) -> None:
    async with live_stack(tmp_path, HEADLESS) as stack:
        shelves = iter(CATALOGUE)
        async with httpx.AsyncClient(base_url=stack.inventory_url(), timeout=30.0, trust_env=False) as inventory:

            async def health() -> dict[str, Any]:
                return (await inventory.get("/healthz")).json()["data"]

            async def is_refused() -> bool:
                if (shelf := next(shelves, None)) is not None:
                    line = Line(shelf.product_id, shelf.variant_id, shelf.on_hand)
                    # The last piece of a variant: an event says that it is out of stock.
                    body = {"orderId": new_id(), "items": [line.wire()]}
                    reply = await inventory.post("/api/v1/inventory/reserve", json=body)
                    assert reply.status_code == 200, reply.text
                return (await health())["publishing"] is False

            async def nothing_waits() -> bool:
                found = await health()
                return (found["publishing"], found["outboxPending"]) == (True, 0)

            await until(nothing_waits, NOTICED_SECONDS, stack.logs)
            _fill(small_disk / "ballast")
            await until(is_refused, NOTICED_SECONDS, stack.logs)
            (small_disk / "ballast").unlink()
            await until(nothing_waits, MENDED_SECONDS, stack.logs)
            assert _broker(stack).not_working == 1


async def _fires(api: httpx.AsyncClient, rule: str) -> bool:
    alerts = (await api.get("/api/v1/alerts")).json()["data"]["items"]
    return any(alert["name"] == rule and alert["state"] == "firing" for alert in alerts)


def _broker(stack: LiveStack) -> ChildStatus:
    return next(status for status in read_status(stack.folder / "var") if status.name == "nats-server")


def _fill(path: Path) -> None:
    for size in (2**16, 1):
        with path.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
