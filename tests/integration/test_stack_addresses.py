"""The parts that Holdfast starts find the API on whatever single address it listens."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import pytest

from services.base.settings import Settings
from services.runtime.stack import Stack
from tests.support.nats_server import eventually


@pytest.mark.slow
@pytest.mark.parametrize(("host", "family"), [("127.0.0.2", socket.AF_INET), ("::1", socket.AF_INET6)])
async def test_the_service_starts_and_gets_its_demo_traffic_on_one_address(
    host: str, family: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("API_HOST", host)
    monkeypatch.setenv("API_PORT", str(port))
    stack = Stack(
        Settings(api_host=host, api_port=port, data_dir=tmp_path / "var", sandbox_traffic=20), with_worker=True
    )
    await stack.start()
    try:
        async with httpx.AsyncClient(base_url=Settings(api_host=host, api_port=port).api_url, trust_env=False) as api:

            async def has_orders() -> bool:
                return bool((await api.get("/api/v1/orders")).json()["data"]["items"])

            await eventually(has_orders)
    finally:
        await stack.stop()
