"""AiohttpTransport against loopback servers that misbehave in one way each."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace

import aiohttp
import httpx
import pytest
from multidict import CIMultiDict
from yarl import URL

from services.clients.http.transport import MAX_INTERIM_REPLIES, AiohttpTransport, Outgoing, Progress, client_session

OK = b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{"ok":true}'
Script = Callable[[asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Reads one request after another and answers each by the next part of its script."""

    def __init__(self, *script: bytes | Script) -> None:
        self.script = list(script)
        self.requests: list[bytes] = []
        self.connections = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while self.script:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next((int(v) for k, v in headers(head) if k == "content-length"), 0)
                self.requests.append(head + await reader.readexactly(length))
                answer = self.script.pop(0)
                if not isinstance(answer, bytes):
                    await answer(writer)
                    break
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"


def headers(head: bytes) -> list[tuple[str, str]]:
    lines = head.decode().split("\r\n")[1:]
    return [(k.lower(), v.strip()) for k, _, v in (line.partition(":") for line in lines) if k]


@asynccontextmanager
async def serving(*script: bytes | Script) -> AsyncIterator[Server]:
    server = Server(*script)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        await listener.wait_closed()


@asynccontextmanager
async def transport(**options: object) -> AsyncIterator[AiohttpTransport]:
    async with AiohttpTransport(client_session(), **options) as it:
        yield it


async def send(it: AiohttpTransport, url: str, method: str = "POST", **timeouts: float) -> httpx.Response:
    content = b'{"a":1}' if method == "POST" else None
    request = httpx.Request(method, url, headers={"X-Mine": "1"}, content=content, extensions={"timeout": timeouts})
    return await it.handle_async_request(request)


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()


async def reset(writer: asyncio.StreamWriter) -> None:
    linger_zero = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_zero)
    writer.transport.abort()


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_the_request_arrives_as_it_was_given_and_asks_for_a_plain_body():
    async with serving(OK) as server, transport() as it:
        response = await send(it, server.url + "?q=%2F")
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert (response.status_code, response.json()) == (200, {"ok": True})
    assert head.startswith(b"POST /api?q=%2F HTTP/1.1\r\n")
    assert sorted(headers(head)) == [
        ("accept-encoding", "identity"),
        ("content-length", "7"),
        ("host", f"127.0.0.1:{server.port}"),
        ("x-mine", "1"),
    ]
    assert body == b'{"a":1}'


async def test_our_own_clients_send_the_same_without_the_objects_of_httpx():
    async with (
        serving(OK, b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n") as server,
        transport() as it,
    ):
        request = Outgoing("POST", URL(server.url + "?q=%2F", encoded=True), CIMultiDict({"X-Mine": "1"}), b'{"a":1}')
        first, second = await it.send(request, Progress()), await it.send(request, Progress())
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /api?q=%2F HTTP/1.1\r\n")
    assert {("accept-encoding", "identity"), ("x-mine", "1")} <= set(headers(head))
    assert body == b'{"a":1}'
    assert (first.status, first.content, first.header(b"retry-after")) == (200, b'{"ok":true}', None)
    assert (second.status, second.content, second.header(b"retry-after")) == (503, b"", "7")
    assert server.requests[1] == server.requests[0]


async def test_their_errors_are_those_of_httpx():
    request = Outgoing("GET", URL(f"http://127.0.0.1:{unused_port()}/"), CIMultiDict())
    async with transport() as it:
        with pytest.raises(httpx.ConnectError, match="ClientConnectorError"):
            await it.send(request, Progress())


async def test_nobody_listening_means_surely_not_sent():
    async with transport() as it:
        with pytest.raises(httpx.ConnectError):
            await send(it, f"http://127.0.0.1:{unused_port()}/")


async def test_waiting_for_a_free_connection_in_vain_means_surely_not_sent():
    asked, answer = asyncio.Event(), asyncio.Event()

    async def slow(writer: asyncio.StreamWriter) -> None:
        asked.set()
        await answer.wait()
        writer.write(OK)

    async with serving(slow) as server, AiohttpTransport(client_session(connections=1)) as it:
        first = asyncio.create_task(send(it, server.url))
        await asked.wait()
        with pytest.raises(httpx.PoolTimeout):
            await send(it, server.url, pool=0.01)
        answer.set()
        assert (await first).status_code == 200
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(hang_up, httpx.RemoteProtocolError, id="disconnect"),
        pytest.param(reset, httpx.ReadError, id="reset"),
        pytest.param(b"what?\r\n\r\n", httpx.RemoteProtocolError, id="garbage"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Len", httpx.RemoteProtocolError, id="truncated head"),
        pytest.param(OK[:-3], httpx.RemoteProtocolError, id="truncated body"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", httpx.RemoteProtocolError, id="bad chunk"
        ),
    ],
)
async def test_what_goes_wrong_after_sending_may_have_run_and_is_not_sent_again(answer, error):
    async with serving(answer) as server, transport() as it:
        with pytest.raises(error):
            await send(it, server.url)
    assert len(server.requests) == 1


async def test_silence_is_a_read_timeout():
    silence = asyncio.Event()

    async def silent(_: asyncio.StreamWriter) -> None:
        await silence.wait()

    async with serving(silent) as server, transport() as it:
        with pytest.raises(httpx.ReadTimeout):
            await send(it, server.url, read=0.01)
        silence.set()


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 65", b"Transfer-Encoding: chunked\r\n\r\n41"], ids=["declared", "chunked"]
)
async def test_a_body_above_the_bound_is_refused(framing):
    end = b"\r\n0\r\n\r\n" if b"chunked" in framing else b""
    blank = b"" if b"chunked" in framing else b"\r\n"
    answer = b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n" + blank + b"x" * 65 + end
    async with serving(answer) as server, transport(max_body_bytes=64) as it:
        with pytest.raises(httpx.RemoteProtocolError, match="body too large"):
            await send(it, server.url)


async def test_a_chunked_body_within_the_bound_arrives_whole():
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n"
    async with serving(answer) as server, transport(max_body_bytes=6) as it:
        assert (await send(it, server.url)).content == b"abcdef"


async def test_an_encoded_body_that_nobody_asked_for_is_refused():
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nxx"
    async with serving(answer) as server, transport() as it:
        with pytest.raises(httpx.RemoteProtocolError, match="identity"):
            await send(it, server.url)


async def test_a_redirect_is_an_answer_like_any_other():
    answer = b"HTTP/1.1 307 Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
    async with serving(answer, OK) as server, transport() as it:
        assert (await send(it, server.url)).status_code == 307
    assert len(server.requests) == 1


async def test_cookies_are_not_kept():
    answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"
    async with serving(answer, OK) as server, transport() as it:
        await send(it, server.url)
        await send(it, server.url)
    assert server.connections == 1
    assert "cookie" not in dict(headers(server.requests[1]))


async def test_an_idle_connection_that_the_server_has_closed_is_not_used_again():
    async def answer_and_close(writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        writer.close()

    session = client_session()
    async with serving(answer_and_close, OK) as server, AiohttpTransport(session) as it:
        await send(it, server.url)
        ((idle, _),) = next(iter(session.connector._conns.values()))
        await idle.closed
        assert (await send(it, server.url)).status_code == 200
    assert (len(server.requests), server.connections) == (2, 2)


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_connection_that_closes_before_anything_is_written_is_replaced_silently(method):
    async def close_what_was_just_taken_from_the_pool(
        session: aiohttp.ClientSession, _: SimpleNamespace, __: object
    ) -> None:
        for protocol in session.connector._acquired:
            protocol.transport.close()

    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(close_what_was_just_taken_from_the_pool)
    trace.freeze()
    session = client_session()
    session._trace_configs.append(trace)
    async with serving(OK, OK) as server, AiohttpTransport(session) as it:
        await send(it, server.url)
        assert (await send(it, server.url, method)).status_code == 200
    assert (len(server.requests), server.connections) == (2, 2)


INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"


async def test_a_few_interim_replies_are_passed_over_on_every_request_of_a_connection():
    few = INTERIM * MAX_INTERIM_REPLIES
    async with serving(few + OK, few + OK) as server, transport() as it:
        assert [(await send(it, server.url)).status_code for _ in range(2)] == [200, 200]
    assert server.connections == 1


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("begin", "more", "limit_bytes"),
    [
        (b"", INTERIM * 1000, 25_000_000),
        (HEAD, b"X-More: " + b"a" * 1000 + b"\r\n", 16_000_000),
        (HEAD + b"X-Long: ", b"a" * 10_000, 16_000_000),
    ],
    ids=["interim replies", "headers", "one header line"],
)
async def test_a_reply_without_end_is_no_reply_and_ends_the_connection(begin: bytes, more: bytes, limit_bytes: int):
    sent = 0

    async def flood(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(begin)
        while True:
            writer.write(more)
            sent += len(more)
            await writer.drain()

    async with serving(flood) as server, transport() as it:
        with pytest.raises(httpx.RemoteProtocolError):
            await send(it, server.url)
    assert sent < limit_bytes
    assert len(server.requests) == 1
