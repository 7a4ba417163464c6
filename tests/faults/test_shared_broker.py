"""Two installations on one broker, and a consumer that somebody changes: whole processes, over HTTP."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from nats.js.errors import NotFoundError

from services.domain.events import LOW_STOCK
from services.messaging.jetstream import Connection
from services.sandbox.traffic import plan_visit
from tests.connected import connect
from tests.faults.processes import Service, inventory_service, wait_until, worker
from tests.integration.nats_server import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

PATIENCE_SECONDS = 20.0
NAMES = ("east", "west")
ORDERS = 10


@pytest.fixture
def installations(tmp_path: Path, nats_url: str) -> Iterator[list[Service]]:
    """Workers of two installations, each with a reference Inventory Service of its own."""
    with ExitStack() as stack:
        workers = []
        for name in NAMES:
            folder = tmp_path / name
            folder.mkdir()
            environment = {"NATS_URL": nats_url, "HOLDFAST_INSTALLATION": name}
            inventory = stack.enter_context(inventory_service(folder, **{"nats_url": nats_url, **environment}))
            environment["INVENTORY_SERVICE_URL"] = f"http://127.0.0.1:{inventory.port}"
            # Only the first answer may decide.
            workers.append(stack.enter_context(worker(folder, CONFIRMATION_TIMEOUT="600000", **environment)))
        yield workers


def test_orders_of_each_installation_are_confirmed_by_its_own_inventory_service(installations: list[Service]) -> None:
    draw = random.Random(1)
    placed: list[tuple[Service, str]] = []
    for service in installations * ORDERS:
        reply = service.client.post("/api/v1/orders", json=plan_visit(draw).body)
        if reply.status_code == 201:
            placed.append((service, reply.json()["data"]["orderId"]))
    assert len(placed) > ORDERS
    for service, order_id in placed:
        wait_until(lambda s=service, o=order_id: _status(s, o) != "PLACED", PATIENCE_SECONDS, service.log)
        assert _status(service, order_id) == "CONFIRMED", service.log()
    for service in installations:
        # What the neighbour was answered neither waits for an order nor comes to a person.
        assert service.client.get("/api/v1/dead-letters").json()["data"]["items"] == []
        assert "warning" not in service.client.get("/readyz").json()


def _status(service: Service, order_id: str) -> str:
    return str(service.client.get(f"/api/v1/orders/{order_id}").json()["data"]["status"])


async def _is_there(connection: Connection, stream: str, durable: str) -> bool:
    with suppress(NotFoundError):
        await connection.js.consumer_info(stream, durable)
        return True
    return False


async def test_a_consumer_that_somebody_changed_is_corrected_and_told_on_readyz(tmp_path: Path, nats_url: str) -> None:
    environment = {"NATS_URL": nats_url, "INVENTORY_SERVICE_URL": "http://127.0.0.1:9", "HOLDFAST_INSTALLATION": "told"}
    with worker(tmp_path, **environment) as service:

        def readiness() -> dict[str, object]:
            return dict(service.client.get("/readyz").json())

        connection = await connect([nats_url], name="somebody")
        place = "INVENTORY_EVENTS", "order-service-told"
        await eventually(lambda: _is_there(connection, *place))
        before = (await connection.js.consumer_info(*place)).config
        await connection.js.add_consumer(place[0], before.evolve(filter_subjects=[LOW_STOCK]))
        wait_until(lambda: "warning" in readiness(), PATIENCE_SECONDS, service.log)
        assert "given other filter subjects (inventory.low_stock)" in str(readiness()["warning"])
        assert service.client.get("/readyz").status_code == 200
        assert (await connection.js.consumer_info(*place)).config.filter_subjects == before.filter_subjects
        assert "consumer_changed_by_others" in (tmp_path / "worker.log").read_text()
        await connection.close()
