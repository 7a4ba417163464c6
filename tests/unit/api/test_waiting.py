"""What the API answers while the service waits for its database."""

from __future__ import annotations

import httpx
import pytest

from services.api.app import waiting_app


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/healthz", 200), ("GET", "/readyz", 503), ("POST", "/api/v1/orders", 503), ("GET", "/metrics", 503)],
)
async def test_no_connection_outlives_the_wait(method: str, path: str, status: int) -> None:
    transport = httpx.ASGITransport(app=waiting_app(lambda: "Connection refused"))
    async with httpx.AsyncClient(transport=transport, base_url="http://holdfast") as client:
        answer = await client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["Connection"] == "close"


async def test_readiness_states_the_reason() -> None:
    transport = httpx.ASGITransport(app=waiting_app(lambda: "Connection refused"))
    async with httpx.AsyncClient(transport=transport, base_url="http://holdfast") as client:
        answer = await client.get("/readyz")
    assert answer.json() == {"ready": False, "database": False, "reason": "Connection refused"}
