"""Every connection to others follows one rule: no proxy of the environment, and no address in the log."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace.export import SpanExportResult

from services.alerting.webhook import WebhookDelivery
from services.base import logs
from services.base.addresses import requests_session
from services.clients.http.transport import AiohttpTransport, client_session
from services.clients.inventory.http import HTTPInventoryGateway, HTTPInventoryLookup
from services.clients.payments import HTTPPaymentGateway
from services.console.metric_span import SourceFailed
from services.console.prometheus_history import PromSource
from services.runtime.clients import webhook_client
from services.sandbox import traffic
from services.sandbox.drills.inventory import InventorySwitches, switches_client
from services.tracing import opentelemetry
from state import notifications
from state.engine.database import Database, opened
from tests.support.loopback_http import QuietHandler, listening

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECRET = "T0KEN-of-the-webhook"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


class Recording:
    """An HTTP server that counts what reaches it; answers 404, or what it is told."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.status = 404
        recording = self

        class Handler(QuietHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                recording.asked.append(f"{self.command} {self.path}")
                self.send_response(recording.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST = do_PUT = do_CONNECT = answer

        self.handler = Handler
        self.url = ""


@pytest.fixture
def target() -> Iterator[Recording]:
    recording = Recording()
    with listening(recording.handler) as address:
        recording.url = f"http://{address}"
        yield recording


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recording]:
    recording = Recording()
    with listening(recording.handler) as address:
        recording.url = f"http://{address}"
        for name in PROXIES:
            monkeypatch.setenv(name, recording.url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        yield recording


async def inventory(url: str) -> None:
    transport = AiohttpTransport(client_session())
    gateway = HTTPInventoryGateway(transport, url, timeout_seconds=5, reservation_ttl_seconds=60, clock=lambda: NOON)
    await gateway.release("o")
    await transport.aclose()


async def payments(url: str) -> None:
    transport = AiohttpTransport(client_session())
    with suppress(Exception):
        await HTTPPaymentGateway(transport, url, timeout_seconds=5, clock=lambda: NOON).find("o")
    await transport.aclose()


async def lookup(url: str) -> None:
    transport = AiohttpTransport(client_session())
    await HTTPInventoryLookup(transport, url, timeout_seconds=5, clock=lambda: NOON).find("o")
    await transport.aclose()


async def webhook(url: str) -> None:
    async with webhook_client() as client:
        await client.post(url, json={})


async def switches(url: str) -> None:
    async with switches_client(url) as client:
        await InventorySwitches(client).faults()


async def demo_traffic(url: str) -> None:
    async with traffic._client(url, {}) as client:
        await client.get("/")


async def prometheus(url: str) -> None:
    with suppress(SourceFailed):
        await asyncio.to_thread(lambda: PromSource(url, lambda: 0.0).reservations([timedelta(minutes=5)], NOON))


async def traces(url: str) -> None:
    exporter = opentelemetry.OTLPSpanExporter(endpoint=f"{url}/v1/traces", session=requests_session())
    assert await asyncio.to_thread(exporter.export, []) in SpanExportResult
    exporter.shutdown()


CLIENTS = [inventory, payments, lookup, webhook, switches, demo_traffic, prometheus, traces]


@pytest.mark.parametrize("call", CLIENTS, ids=lambda call: call.__name__)
async def test_proxies_of_the_environment_are_not_used(
    call: Callable[[str], Any], target: Recording, proxy: Recording
) -> None:
    await call(target.url)
    assert proxy.asked == []
    assert target.asked


@pytest.fixture
async def logged(capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Callable[[], str]]:
    """Everything that was written to the log since, at the level that writes most."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in logs.CHATTY}
    root.handlers = []
    logs.configure("DEBUG")
    yield lambda: capsys.readouterr().err
    root.handlers, root.level = handlers, level
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with opened(database_url) as database:
        yield database


async def garbage(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 what\r\n\r\n")
    writer.close()


@pytest.mark.parametrize("kind", ["taken", "refused", "garbage", "away"])
async def test_a_notification_leaves_no_trace_of_the_webhooks_secret(
    kind: str, database: Database, target: Recording, logged: Callable[[], str]
) -> None:
    target.status = 200 if kind == "taken" else 500
    base = target.url
    server = await asyncio.start_server(garbage, "127.0.0.1", 0)
    if kind == "garbage":
        base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    if kind == "away":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            base = f"http://127.0.0.1:{free.getsockname()[1]}"
    await database.write(
        lambda c: notifications.add(c, alert_id="A", name="A", status="firing", payload={"alerts": []}, at=NOON)
    )
    async with server, webhook_client() as client:
        url = f"{base}/services/{SECRET}?token={SECRET}"
        sender = WebhookDelivery(database, lambda: NOON, "a", client, url, lambda: 0.5, lambda _: None)
        await sender.deliver()
        await sender.release_lease()
    stored = await database.read(lambda c: notifications.latest(c, 10))
    written = logged()
    assert len(stored) == 1
    assert SECRET not in written + str(stored)
    assert ("alert_notification_not_sent" in written) == (kind != "taken")


async def test_a_library_that_logs_every_request_is_not_heard(target: Recording, logged: Callable[[], str]) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        await client.get(f"{target.url}/{SECRET}")
    assert SECRET not in logged()
