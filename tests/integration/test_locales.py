"""What is parsed and written does not depend on the locale or the zone of the process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.base.settings import Settings
from services.sandbox.inventory_service.catalogue import CATALOGUE
from tests.chaos.stack import START_SECONDS, until

ROOT = Path(__file__).parents[2]
ELSEWHERE = [("tr_TR", "Asia/Kathmandu"), ("de_DE", "Pacific/Chatham")]
"""Turkish: i is not the small letter of I. German: a comma before the decimals. Zones with odd minutes."""

WHOLE_LOCALE = (
    "import locale, runpy; locale.setlocale(locale.LC_ALL, ''); runpy.run_module('services', run_name='__main__')"
)


@pytest.fixture(scope="session")
def locales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the locales, compiled from Debian's sources."""
    folder = tmp_path_factory.mktemp("locales")
    for name, _ in ELSEWHERE:
        command = ["localedef", "-i", name, "-f", "UTF-8", str(folder / f"{name}.UTF-8")]
        subprocess.run(command, check=True, capture_output=True)
    return folder


def environment(locales: Path, name: str, zone: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "LANG"))}
    return kept | {"LC_ALL": name, "LOCPATH": str(locales), "TZ": zone, "PYTHONPATH": str(ROOT)}


def said(locales: Path, name: str, zone: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.locale_report"],
        cwd=ROOT,
        env=environment(locales, name, zone),
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(done.stdout)
    assert name in answer["locale"]
    return answer["said"]


def test_what_is_parsed_and_written_is_the_same_in_every_locale_and_zone(locales: Path) -> None:
    expected = said(locales, "C", "UTC")
    assert expected["dates"][1] == "07 Feb 2026 09:05"
    for name, zone in ELSEWHERE:
        found = said(locales, f"{name}.UTF-8", zone)
        for topic, value in expected.items():
            assert found[topic] == value, f"{topic} in {name}, {zone}"


@pytest.mark.slow
async def test_an_order_is_placed_and_confirmed_by_a_process_of_another_locale(locales: Path, tmp_path: Path) -> None:
    name, zone = ELSEWHERE[0]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    given = {"API_PORT": str(port), "DATA_DIR": str(tmp_path / "var"), "SANDBOX_TRAFFIC": "0"}
    with (tmp_path / "output").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", WHOLE_LOCALE, "worker"),
            cwd=ROOT,
            env={**environment(locales, f"{name}.UTF-8", zone), **given},
            stdout=output,
            stderr=output,
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

            async def is_confirmed() -> bool:
                return bool((await api.get("/api/v1/orders/ISTANBUL-i")).json()["data"]["status"] == "CONFIRMED")

            await until(is_ready, START_SECONDS)
            item = {"productId": CATALOGUE[0].product_id, "variantId": CATALOGUE[0].variant_id, "quantity": 1}
            body = {"orderId": "ISTANBUL-i", "userId": "\u0131s\u0131", "items": [item], "metadata": {"price": 1.5}}
            placed = await api.post("/api/v1/orders", json=body)
            assert placed.status_code == 201, placed.text
            await until(is_confirmed, START_SECONDS)
            order = (await api.get("/api/v1/orders/ISTANBUL-i")).json()["data"]
            assert (order["orderId"], order["userId"]) == ("ISTANBUL-i", "\u0131s\u0131")
            assert order["createdAt"].endswith("Z")
            metrics = (await api.get("/metrics")).text
            assert 'orders_total{status="CONFIRMED"} 1.0' in metrics
            assert "," not in "".join(line.rpartition(" ")[2] for line in metrics.splitlines() if line[0] != "#")
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()
    assert "Traceback" not in (tmp_path / "output").read_text("utf-8", "replace")
