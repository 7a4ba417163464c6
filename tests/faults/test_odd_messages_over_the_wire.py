"""Odd messages and requests reach a running worker on PostgreSQL: it goes on, for everybody else too."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.base.identity import new_id
from services.domain.orders.events import CONFIRMED, LOW_STOCK
from tests.faults.processes import Service, wait_until, worker
from tests.faults.shop import MUG
from tests.support.nats_connection import connect
from tests.support.postgres_server import PostgresServer

pytestmark = pytest.mark.slow

PATIENCE_SECONDS = 60.0
ORDERS, DEAD_LETTERS = "/api/v1/orders", "/api/v1/dead-letters"
FAR, EARLY = "9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+01:00"


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, nats_url: str, inventory: Service, postgres_server: PostgresServer
) -> Iterator[Service]:
    environment = {
        "DATABASE_URL": postgres_server.new_database(),
        "NATS_URL": nats_url,
        "INVENTORY_SERVICE_URL": f"http://127.0.0.1:{inventory.port}",
        # Nothing but the events of a test may decide.
        "CONFIRMATION_TIMEOUT": "600000",
    }
    with worker(tmp_path_factory.mktemp("odd"), **environment) as service:
        wait_until(lambda: service.client.get("/readyz").is_success, PATIENCE_SECONDS, service.log)
        yield service


@contextmanager
def silent(inventory: Service) -> Iterator[None]:
    """The Inventory Service deducts stock and confirms nothing."""
    inventory.client.put("/api/v1/sandbox/faults", json={"silentConfirmations": True}).raise_for_status()
    try:
        yield
    finally:
        inventory.client.put("/api/v1/sandbox/faults", json={}).raise_for_status()


def answered(service: Service, path: str) -> Any:
    """The ``data`` of an answer, which is none but a good one."""
    answer = service.client.get(path)
    assert answer.status_code == 200, (path, answer.text)
    return answer.json()["data"]


def place(service: Service, **more: Any) -> dict[str, Any]:
    reply = service.client.post(ORDERS, json={"userId": "user-1", "items": [MUG.wire()], **more})
    assert reply.status_code == 201, reply.text
    return dict(reply.json()["data"])


async def publish(url: str, *payloads: bytes, subject: str = CONFIRMED, **headers: str) -> None:
    connection = await connect([url], name="somebody")
    for payload in payloads:
        await connection.client.publish(subject, payload, headers=dict(headers) or None)
    await connection.client.flush()
    await connection.close()


def confirmation(order: dict[str, Any], **more: Any) -> bytes:
    data = {"orderId": order["orderId"], "reservationId": order["reservationId"], **more}
    return json.dumps({"id": new_id(), "type": CONFIRMED, "source": "elsewhere", "data": data}).encode()


def dead_letters_with(service: Service, mark: str) -> list[dict[str, Any]]:
    items = answered(service, f"{DEAD_LETTERS}?limit=200")["items"]
    return [dead_letter for dead_letter in items if mark in json.dumps(dead_letter)]


@pytest.mark.parametrize("moment", [FAR, EARLY])
async def test_a_confirmation_at_a_time_outside_the_calendar_breaks_no_list(
    service: Service, inventory: Service, nats_url: str, moment: str
) -> None:
    with silent(inventory):
        order = place(service)
        await publish(nats_url, confirmation(order, confirmedAt=moment))

        def is_settled() -> bool:
            (found,) = [one for one in answered(service, ORDERS)["items"] if one["orderId"] == order["orderId"]]
            return found["status"] != "PLACED" or bool(dead_letters_with(service, order["orderId"]))

        wait_until(is_settled, PATIENCE_SECONDS, service.log)
        answered(service, f"{ORDERS}/{order['orderId']}")
        answered(service, f"{ORDERS}/{order['orderId']}/timeline")


async def test_a_text_with_nul_is_a_dead_letter_at_once(service: Service, nats_url: str) -> None:
    mark = new_id()
    data = {"productId": f"{mark}\0", "variantId": "v", "availableQuantity": 1, "threshold": 5}
    await publish(nats_url, json.dumps({"id": new_id(), "type": LOW_STOCK, "data": data}).encode(), subject=LOW_STOCK)
    wait_until(lambda: bool(dead_letters_with(service, mark)), PATIENCE_SECONDS, service.log)


def post_alert(service: Service, name: str, **times: str) -> int:
    return service.client.post("/api/v2/alerts", json=[{"labels": {"alertname": name}, **times}]).status_code


@pytest.mark.parametrize("field", ["startsAt", "endsAt"])
def test_an_alert_at_a_time_outside_the_calendar_ends_no_judging(service: Service, field: str) -> None:
    assert post_alert(service, "Odd", **{field: FAR}) in (200, 400)
    name = f"Over{field}"
    assert post_alert(service, name, endsAt=(datetime.now(UTC) + timedelta(seconds=1)).isoformat()) == 200

    def is_over() -> bool:
        items = answered(service, "/api/v1/alerts?limit=200")["items"]
        return [alert["state"] for alert in items if alert["name"] == name] == ["resolved"]

    wait_until(is_over, PATIENCE_SECONDS, service.log)


@pytest.mark.parametrize("status", ["404", "408", "409", "503", "100"])
async def test_events_with_a_status_header_become_dead_letters_and_stop_nothing(
    service: Service, inventory: Service, nats_url: str, status: str
) -> None:
    mark = new_id()
    with silent(inventory):
        order = place(service)
        await publish(nats_url, *(b"%s %d" % (mark.encode(), number) for number in range(100)), Status=status)
        await publish(nats_url, confirmation(order))
        wait_until(
            lambda: answered(service, f"{ORDERS}/{order['orderId']}")["status"] == "CONFIRMED",
            PATIENCE_SECONDS,
            service.log,
        )
        wait_until(lambda: len(dead_letters_with(service, mark)) == 100, PATIENCE_SECONDS, service.log)


async def test_a_thousand_events_of_foreign_orders_delay_no_confirmation(
    service: Service, inventory: Service, nats_url: str
) -> None:
    with silent(inventory):
        order = place(service)
        foreign = ({"orderId": new_id(), "reservationId": "r"} for _ in range(1_100))
        await publish(nats_url, *map(confirmation, foreign), confirmation(order))
        wait_until(
            lambda: answered(service, f"{ORDERS}/{order['orderId']}")["status"] == "CONFIRMED",
            3 * PATIENCE_SECONDS,
            service.log,
        )


async def test_an_event_of_forty_kilobytes_of_quotes_costs_no_time(service: Service, nats_url: str) -> None:
    mark = new_id()
    await publish(nats_url, json.dumps({"id": mark, "type": "\"'" * 20_000, "data": {"orderId": mark}}).encode())
    service.client.timeout = PATIENCE_SECONDS
    wait_until(lambda: bool(dead_letters_with(service, mark)), PATIENCE_SECONDS, service.log)
    assert service.client.get("/healthz", timeout=2.0).is_success


async def test_a_list_of_large_dead_letters_is_small(service: Service, nats_url: str) -> None:
    mark = new_id()
    await publish(nats_url, *(b'"%s%s' % (mark.encode(), b"x" * 250_000) for _ in range(10)))
    wait_until(lambda: len(dead_letters_with(service, mark)) == 10, PATIENCE_SECONDS, service.log)
    assert len(service.client.get(f"{DEAD_LETTERS}?limit=200").content) < 2_000_000


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1\r\nX-A: ", b"GET /"])
def test_a_head_without_end_is_refused(service: Service, head: bytes) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=PATIENCE_SECONDS) as client:
        client.sendall(head + b"a" * 200_000)
        assert client.recv(100).startswith(b"HTTP/1.1 4")
