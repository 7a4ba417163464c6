"""OUTGOING_PROXY: everything that is asked over HTTP goes through it, but what is on this machine or excepted."""

from __future__ import annotations

import asyncio
import base64
import http.client
import random
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from services.base.addresses import Proxy
from services.base.settings import Settings
from services.clients.http.transport import AiohttpTransport, client_session
from services.console.metric_span import SourceFailed
from services.console.prometheus_history import PromSource
from services.domain.errors import ConfigurationError
from services.runtime.clients import webhook_client
from services.sandbox.traffic import plan_visit
from tests.faults.processes import inventory_service, wait_until, worker
from tests.support.loopback_http import QuietHandler, listening
from tests.support.nats_server import NatsServer

USER, PASSWORD = "holdfast", "s3cr:t/"
EXPECTED = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


class SmallProxy:
    """A forward proxy that asks for a password; sends what is for a known host on, answers 404 for others."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.refused = 0
        self.ports: dict[str, int] = {}
        proxy = self

        class Handler(QuietHandler):
            protocol_version = "HTTP/1.1"

            def pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.headers.get("Proxy-Authorization") != EXPECTED:
                    proxy.refused += 1
                    return self.reply(407, b"")
                proxy.asked.append(f"{self.command} {self.path}")
                to = urlsplit(self.path)
                if self.command == "CONNECT" or (to.hostname or "") not in proxy.ports:
                    return self.reply(404, b"")
                onward = http.client.HTTPConnection("127.0.0.1", proxy.ports[to.hostname or ""], timeout=10)
                kept = {name: value for name, value in self.headers.items() if not name.lower().startswith("proxy-")}
                onward.request(self.command, to.path + (f"?{to.query}" if to.query else ""), body, kept)
                answer = onward.getresponse()
                self.reply(answer.status, answer.read(), answer.headers.get("Content-Type", "text/plain"))
                onward.close()
                return None

            do_GET = do_POST = do_PUT = do_DELETE = do_CONNECT = pass_on

            def reply(self, status: int, body: bytes, kind: str = "text/plain") -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.handler = Handler
        self.url = ""


@pytest.fixture
def proxy() -> Iterator[SmallProxy]:
    small = SmallProxy()
    with listening(small.handler) as address:
        small.url = f"http://{USER}:s3cr%3At%2F@{address}"
        yield small


async def posted(url: str, rule: Proxy) -> None:
    async with webhook_client(rule) as client:
        with suppress(httpx.TransportError):
            await client.post(url, json={})


async def got(url: str, rule: Proxy) -> None:
    async with httpx.AsyncClient(transport=AiohttpTransport(client_session(), proxy=rule)) as client:
        with suppress(httpx.TransportError):
            await client.get(url)


async def charted(url: str, rule: Proxy) -> None:
    source = PromSource(url, time.monotonic, proxy=rule)
    with suppress(SourceFailed):
        await asyncio.to_thread(source.reservations, [timedelta(minutes=5)], datetime.now(UTC))


@pytest.mark.parametrize("call", [posted, got, charted], ids=lambda call: str(call.__name__))
async def test_every_client_asks_through_the_proxy_with_its_password(proxy: SmallProxy, call: Any) -> None:
    await call("http://other.example:8080", Proxy(proxy.url))
    assert proxy.asked
    assert {urlsplit(line.split()[1]).netloc for line in proxy.asked} == {"other.example:8080"}
    assert proxy.refused == 0


@pytest.mark.parametrize("call", [posted, got, charted], ids=lambda call: str(call.__name__))
async def test_https_goes_through_a_tunnel(proxy: SmallProxy, call: Any) -> None:
    await call("https://other.example", Proxy(proxy.url))
    assert set(proxy.asked) == {"CONNECT other.example:443"}
    assert proxy.refused == 0


@pytest.mark.parametrize("call", [posted, got, charted], ids=lambda call: str(call.__name__))
async def test_this_machine_is_asked_directly(proxy: SmallProxy, call: Any) -> None:
    for host in ("127.0.0.1", "localhost"):
        await call(f"http://{host}:9", Proxy(proxy.url))
    assert (proxy.asked, proxy.refused) == ([], 0)


@pytest.mark.parametrize(
    ("host", "is_direct"),
    [
        ("other.example", False),
        ("internal.example", True),
        ("INTERNAL.example.", True),
        ("a.internal.example", True),
        ("notinternal.example", False),
        ("b.dotted.example", True),
        ("10.1.2.3", True),
        ("11.1.2.3", False),
        ("192.0.2.7", True),
        ("2001:db8::5", True),
        ("2001:db9::5", False),
        ("127.0.0.2", True),
        ("::1", True),
        ("a.localhost", True),
        ("localhost.example", False),
    ],
)
def test_what_is_excepted_is_asked_directly(host: str, is_direct: bool) -> None:
    given = Settings.load(
        outgoing_proxy="http://proxy.example:3128",
        outgoing_no_proxy="internal.example, .dotted.example,10.0.0.0/8,192.0.2.7,2001:db8::/32,",
    )
    assert given.proxy.of(host) == (None if is_direct else "http://proxy.example:3128")
    assert Settings.load().proxy.of(host) is None


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("outgoing_proxy", "socks5://proxy.example:1080", "an http:// URL"),
        ("outgoing_proxy", "proxy.example:3128", "an http:// URL"),
        ("outgoing_proxy", f"http://{USER}:{PASSWORD}x@:99999", "an http:// URL"),
        ("outgoing_no_proxy", "*", "comma separated"),
        ("outgoing_no_proxy", "http://internal.example", "comma separated"),
        ("outgoing_no_proxy", "10.0.0.0/99", "comma separated"),
    ],
)
def test_a_wrong_value_is_reported_in_one_line(name: str, value: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        Settings.load(**{name: value})
    assert str(caught.value).startswith(name.upper())
    assert PASSWORD not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_worker_behind_a_proxy_sells_notifies_and_traces(
    tmp_path: Path, proxy: SmallProxy, nats_server: NatsServer
) -> None:
    environment = {
        "NATS_URL": nats_server.url,
        "INVENTORY_SERVICE_URL": "http://inventory.example",
        "ALERT_WEBHOOK_URL": "http://hooks.example/on-call",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.example:4318",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OUTGOING_PROXY": proxy.url,
    }
    with inventory_service(tmp_path, nats_server.url) as inventory:
        proxy.ports["inventory.example"] = inventory.port
        with worker(tmp_path, **environment) as service:
            reply = service.client.post("/api/v1/orders", json=plan_visit(random.Random(1)).body)
            assert reply.status_code == 201, service.log()

            def hosts() -> set[str]:
                return {urlsplit(line.split()[1]).hostname or "" for line in proxy.asked}

            expected = {"inventory.example", "hooks.example", "collector.example"}
            wait_until(lambda: hosts() == expected, 30.0, service.log)
            assert PASSWORD not in (tmp_path / "worker.log").read_text()
            assert "s3cr" not in (tmp_path / "worker.log").read_text()
