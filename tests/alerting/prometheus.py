"""Debian's Prometheus and Alertmanager as processes of the test's own, on ports of their own."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from services.base.addresses import free_port
from tests.chaos.stack import until
from tests.support.children import MORTAL

START_SECONDS = 60.0


class Server:
    """A running server that answers HTTP."""

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self.url = url
        self._client = client

    async def get(self, path: str, **parameters: str) -> Any:
        return (await self._client.get(self.url + path, params=parameters)).raise_for_status().json()

    async def firing(self) -> set[str]:
        """Names of the alerts that Prometheus has firing."""
        alerts = (await self.get("/api/v1/alerts"))["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    async def have_fired(self) -> set[str]:
        """Names of the alerts that Prometheus has had firing in the last minutes."""
        query = 'count_over_time(ALERTS{alertstate="firing"}[10m])'
        found = (await self.get("/api/v1/query", query=query))["data"]["result"]
        return {series["metric"]["alertname"] for series in found}


@asynccontextmanager
async def prometheus(folder: Path, scraped: str, rules: str, alertmanagers: list[str]) -> AsyncIterator[Server]:
    """A Prometheus that scrapes one address every second and judges the rules."""
    (folder / "rules.yml").write_text(rules)
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(folder / "rules.yml")],
        "scrape_configs": [{"job_name": "holdfast", "static_configs": [{"targets": [urlsplit(scraped).netloc]}]}],
        "alerting": {
            "alertmanagers": [{"static_configs": [{"targets": [urlsplit(url).netloc for url in alertmanagers]}]}]
        },
    }
    (folder / "prometheus.yml").write_text(json.dumps(config))
    port = free_port(folder / "prometheus.port")
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    async with _running(command, f"http://127.0.0.1:{port}", folder / "prometheus.log") as server:
        yield server


@asynccontextmanager
async def alertmanager(folder: Path, webhook: str) -> AsyncIterator[Server]:
    """An Alertmanager that sends everything to one webhook at once."""
    config = {
        "route": {
            "receiver": "pager",
            "group_by": ["..."],
            "group_wait": "0s",
            "group_interval": "1s",
            "repeat_interval": "1h",
        },
        "receivers": [{"name": "pager", "webhook_configs": [{"url": webhook, "send_resolved": True}]}],
    }
    (folder / "alertmanager.yml").write_text(json.dumps(config))
    port = free_port(folder / "alertmanager.port")
    command = [
        "prometheus-alertmanager",
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    async with _running(command, f"http://127.0.0.1:{port}", folder / "alertmanager.log") as server:
        yield server


@asynccontextmanager
async def _running(command: list[str], url: str, log: Path) -> AsyncIterator[Server]:
    assert shutil.which(command[0]), f"{command[0]} is missing; `make test` installs it"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(*MORTAL, *command, stdout=output, stderr=output)

    def written() -> str:
        return log.read_text(errors="replace")[-3000:]

    try:
        async with httpx.AsyncClient(timeout=10.0, trust_env=False) as client:

            async def is_ready() -> bool:
                assert process.returncode is None, written()
                with suppress(httpx.TransportError):
                    return (await client.get(f"{url}/-/ready")).is_success
                return False

            await until(is_ready, START_SECONDS, written)
            yield Server(url, client)
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(10.0):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
