"""The service needs nothing of its environment but its own settings: no locale, zone, home or user."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from services.base.settings import Settings
from tests.support.nats_server import eventually

ROOT = Path(__file__).parents[2]
BARE = {
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "TZ": "Nowhere/Odd",
    "PATH": "/usr/bin:/bin",
}
"""Python reads and writes ASCII where nobody says otherwise."""

ODD = "Größe-M/ıİ ß"


@pytest.mark.slow
@pytest.mark.parametrize("locale", [BARE, BARE | {"LC_ALL": "tr_TR.ISO-8859-9"}], ids=["C", "not installed"])
async def test_an_order_with_odd_ids_is_placed_in_a_bare_environment(locale: dict[str, str], tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    given = {"API_PORT": str(port), "DATA_DIR": str(tmp_path / "Größe var")}
    environment = {name: os.fsencode(value) for name, value in (locale | given).items()}
    with (tmp_path / "output").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services", "worker", cwd=ROOT, env=environment, stdout=output, stderr=output
        )
    try:
        base = Settings(api_port=port).api_url
        async with httpx.AsyncClient(base_url=base, trust_env=False) as api:

            async def is_ready() -> bool:
                assert process.returncode is None, (tmp_path / "output").read_text("utf-8", "replace")
                try:
                    return (await api.get("/readyz")).is_success
                except httpx.TransportError:
                    return False

            await eventually(is_ready)
            line = {"productId": ODD, "variantId": "Größe-M", "quantity": 1}
            body = {"orderId": ODD, "userId": "Zoë", "items": [line]}
            placed = await api.post("/api/v1/orders", json=body, headers={"Idempotency-Key": "bare-1"})
            assert placed.status_code < 500, placed.text
            kept = (await api.get(f"/api/v1/orders/{quote(ODD, safe='')}")).json()["data"]
            assert kept["orderId"] == ODD
            assert kept["items"][0]["variantId"] == "Größe-M"
            assert kept["createdAt"].endswith("Z")
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()
    assert "UnicodeE" not in (tmp_path / "output").read_text("utf-8", "replace")
