"""A worker that may open only few files: customers get honest answers, and nobody else is blamed for it."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import httpx
import pytest

from services.base.identity import new_id
from services.sandbox.inventory_service.catalogue import CATALOGUE
from tests.faults.processes import Service, wait_until, worker

pytestmark = [pytest.mark.slow, pytest.mark.alone]

FILES = 256
CUSTOMERS = 900
SHELF = CATALOGUE[0]


@pytest.fixture(scope="module")
def starved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A worker with its whole sandbox, each process of which may open few files."""
    with worker(tmp_path_factory.mktemp("starved"), files=FILES, SANDBOX_TRAFFIC="0") as service:
        yield service


async def buy(client: httpx.AsyncClient, url: str, line: dict[str, object]) -> str:
    body = {"userId": "user-1", "orderId": new_id(), "items": [line]}
    for _ in range(20):
        answer = await client.post(f"{url}/api/v1/orders", json=body)
        if answer.status_code != 503 or answer.json()["error"]["code"] != "SERVICE_OVERLOADED":
            return str(answer.status_code)
        assert answer.json()["error"]["retryable"]
        await asyncio.sleep(float(answer.headers["Retry-After"]))
    return "overloaded"


async def test_nine_hundred_customers_at_once_are_all_answered_and_no_breaker_opens(starved: Service) -> None:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=CUSTOMERS)
    async with httpx.AsyncClient(limits=limits, timeout=120, trust_env=False) as client:
        url = str(starved.client.base_url).rstrip("/")
        line = {"productId": SHELF.product_id, "variantId": SHELF.variant_id, "quantity": 1}
        ends = Counter(await asyncio.gather(*(buy(client, url, line) for _ in range(CUSTOMERS))))
    breakers = starved.client.get("/api/v1/breakers").json()["data"]["items"]
    assert {breaker["state"] for breaker in breakers} == {"closed"}, ends
    # Each was placed, waits for a reservation that a busy machine did not give in time, or was refused for its stock.
    assert set(ends) <= {"201", "202", "409"}, ends


def test_a_thousand_idle_connections_shut_nobody_out(starved: Service) -> None:
    idle = []
    try:
        for _ in range(1_050):
            connection = socket.create_connection(("127.0.0.1", starved.port), timeout=5)
            idle.append(connection)
        with closing(httpx.Client(timeout=5, trust_env=False)) as client:
            for path in ("/healthz", "/readyz", "/api/v1/orders"):
                assert client.get(f"http://127.0.0.1:{starved.port}{path}").status_code == 200
    finally:
        for connection in idle:
            connection.close()


def test_half_requests_beyond_all_room_are_ended_and_logged(starved: Service) -> None:
    """Each is given two seconds once others wait for room; the clients themselves never give up."""
    with ExitStack() as half:
        for _ in range(FILES + 44):
            connection = half.enter_context(socket.create_connection(("127.0.0.1", starved.port), timeout=5))
            connection.sendall(b"GET /healthz HTTP/1.1\r\nX-A: ")
        with httpx.Client(timeout=60, trust_env=False) as client:
            wait_until(lambda: _is_healthy(client, starved.port), 60, starved.log)
        wait_until(lambda: "ended_late_for_room" in starved.log(), 30, starved.log)


def _is_healthy(client: httpx.Client, port: int) -> bool:
    with suppress(httpx.TransportError):
        return client.get(f"http://127.0.0.1:{port}/healthz").is_success
    return False


def test_the_soft_limit_is_raised_to_the_hard_one(starved: Service) -> None:
    limits = Path(f"/proc/{starved.process.pid}/limits").read_text()
    (line,) = [line for line in limits.splitlines() if line.startswith("Max open files")]
    assert line.split()[3:5] == [str(FILES), str(FILES)]
