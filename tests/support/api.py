"""The API in process, and readers of its error bodies."""

from __future__ import annotations

import re
from typing import Any

import httpx

from services.alerting.receiver import AlertReceiver
from services.alerting.rules import rules
from services.api.app import create_app
from services.api.auth import Authenticator
from services.api.routing import OrderService
from services.base.setting_types import ApiToken
from services.base.settings import Settings
from services.metrics.recorder import Recorder
from services.metrics.registry import Metrics
from tests.support.orders_harness import OrdersHarness


class Api:
    """A client of the API and the shop behind it."""

    def __init__(self, shop: OrdersHarness, tokens: list[ApiToken]) -> None:
        self.shop = shop
        self.ready = {"database": True, "nats": True}
        self.woken = 0
        self.metrics = Metrics([breaker.label for breaker in shop.breakers])
        self.recorder = Recorder(
            shop.real_database, shop.clock, "replica-1", shop.breakers, self.metrics, lambda: {"version": "test"}
        )
        self.app_service = self._service()
        self.app = create_app(self.app_service, Authenticator(tokens), "1.2.3")
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://holdfast.test")

    def _service(self) -> OrderService:
        shop = self.shop

        async def readiness() -> dict[str, bool | str]:
            return self.ready

        def wake() -> None:
            self.woken += 1

        return OrderService(
            shop.use_cases(),
            shop.database,
            shop.clock,
            self.metrics,
            self.recorder,
            alert_rules=rules(Settings()),
            alert_receiver=AlertReceiver(shop.real_database, shop.clock),
            wake_releases=wake,
            readiness=readiness,
        )

    async def get(self, path: str, **parameters: Any) -> httpx.Response:
        return await self.client.get(path, params=parameters or None)

    async def post(self, path: str, body: Any = None, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post(path, json={} if body is None else body, headers=named)

    async def data(self, path: str, **parameters: Any) -> Any:
        """The ``data`` of a successful answer."""
        answer = await self.get(path, **parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def acting_as(self, role: str) -> None:
        """Send the token of a role from now on."""
        self.client.headers["Authorization"] = f"Bearer secret-of-{role}"


ORDERS = "/api/v1/orders"


TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def error_of(answer, status, code, *, retryable=False):
    """The error of an answer, after checking everything around it."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"success", "error", "meta"}
    assert body["success"] is False
    assert TIMESTAMP.fullmatch(body["meta"]["timestamp"])
    error = body["error"]
    assert set(error) == {"code", "message", "details", "retryable"}
    assert (error["code"], error["retryable"]) == (code, retryable)
    assert error["message"]
    assert ("Retry-After" in answer.headers) == (status in (408, 503))
    return error


def problems_of(answer):
    return error_of(answer, 400, "VALIDATION_ERROR")["details"]["problems"]
