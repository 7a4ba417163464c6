"""An outage at a few orders a minute, on a running worker: it is told, although no breaker opens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from services.base.identity import new_id
from tests.faults.processes import Service, wait_until, worker
from tests.faults.shop import place

pytestmark = pytest.mark.slow

PATIENCE_SECONDS = 60.0
VOLUME = 12
CHECKER = "inventoryServiceChecker"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, nats_url: str) -> Iterator[Service]:
    """A worker whose Inventory Service is away."""
    environment = {
        "NATS_URL": nats_url,
        "INVENTORY_SERVICE_URL": "http://127.0.0.1:9",
        "BREAKER_VOLUME_THRESHOLD": str(VOLUME),
        "BREAKER_ROLLING_COUNT_TIMEOUT": "600000",
        "BREAKER_RESET_TIMEOUT": "600000",
        "RETRY_ATTEMPTS": "1",
    }
    with worker(tmp_path_factory.mktemp("quiet"), **environment) as service:
        wait_until(lambda: service.client.get("/readyz").is_success, PATIENCE_SECONDS, service.log)
        yield service


def items(service: Service, path: str) -> list[dict[str, Any]]:
    return list(service.client.get(path).raise_for_status().json()["data"]["items"])


def checker(service: Service) -> dict[str, Any]:
    (breaker,) = [one for one in items(service, "/api/v1/breakers") if one["name"] == CHECKER]
    return breaker


def test_three_refused_orders_alarm_while_every_breaker_is_closed(service: Service) -> None:
    assert [place(service, new_id()).status_code for _ in range(3)] == [503] * 3

    def is_told() -> bool:
        alerts = {alert["name"]: alert["state"] for alert in items(service, "/api/v1/alerts")}
        return alerts.get("OrdersRefusedForInventory") == "firing"

    wait_until(is_told, PATIENCE_SECONDS, service.log)
    assert {breaker["state"] for breaker in items(service, "/api/v1/breakers")} == {"closed"}


def test_the_answer_after_the_opening_call_shows_that_the_breaker_is_open(service: Service) -> None:
    for _ in range(VOLUME - checker(service)["calls"]):
        assert checker(service)["state"] == "closed"
        assert place(service, new_id()).status_code == 503
    found = checker(service)
    assert (found["state"], {replica["state"] for replica in found["replicas"]}) == ("open", {"open"})
