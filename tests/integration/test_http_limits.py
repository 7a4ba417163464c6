"""What clients can take of the HTTP server: sizes, times, connections and requests, over real sockets."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from services.base.file_descriptors import Budget
from services.http_server.process import listen, serving
from services.http_server.server import Patience
from tests.support.nats_server import eventually

HOST = "127.0.0.1"
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
CLOSING = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
HASTE = Patience(
    head=0.3, body=0.6, unread=0.5, linger=0.3, idle_for_room=0.05, head_for_room=0.1, body_for_room=0.1, waiting=0.3
)
HOUR = 3600.0
ROOMY = Budget.of(1024)
TIGHT = Budget(connections=4, surplus=4, requests=4, outgoing=1)


class Shop:
    """An application that can be made to wait, and counts what reaches it."""

    def __init__(self) -> None:
        self.requests = 0
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.application = Starlette(
            routes=[
                Route("/", self.answer, methods=["GET", "POST"]),
                Route("/broken", self.broken),
                Route("/large", self.large),
                Route("/healthz", self.healthy),
            ],
            exception_handlers={Exception: self.failed},
        )

    async def answer(self, request: Request) -> Response:
        self.requests += 1
        with suppress(ClientDisconnect):
            await request.body()
        await self.may_go_on.wait()
        return PlainTextResponse("ok")

    async def broken(self, _: Request) -> Response:
        raise RuntimeError("a fault")

    async def large(self, _: Request) -> Response:
        return Response(b"x" * 50_000_000)

    async def healthy(self, _: Request) -> Response:
        return PlainTextResponse("ok")

    async def failed(self, _: Request, __: Exception) -> Response:
        return PlainTextResponse("failed", 500)


class Client:
    """One raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, content: bytes) -> None:
        self.writer.write(content)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the next answer."""
        async with asyncio.timeout(5):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in head[1:] if line)}
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
            return int(head[0].split()[1]), headers, body

    async def is_closed(self) -> bool:
        """Whether the server has ended the connection without another byte; waits for it."""
        async with asyncio.timeout(5):
            with suppress(ConnectionResetError):
                return await self.reader.read(1) == b""
        return True

    async def can_send(self, content: bytes) -> bool:
        """Send more; False once the server has cut the connection."""
        self.send(content)
        with suppress(ConnectionError):
            await self.writer.drain()
            await asyncio.sleep(0.01)
            return not self.writer.transport.is_closing()
        return False

    async def is_cut_off(self) -> bool:
        """Whether the server cuts the connection while we send to it; waits for it."""
        while await self.can_send(b"a"):
            pass
        return True

    def close(self) -> None:
        self.writer.close()


class Site:
    def __init__(self, shop: Shop, port: int) -> None:
        self.shop, self.port = shop, port
        self._clients: list[Client] = []

    async def connect(self, content: bytes = b"") -> Client:
        client = Client(*await asyncio.open_connection(HOST, self.port))
        self._clients.append(client)
        if content:
            client.send(content)
        return client

    def close(self) -> None:
        for client in self._clients:
            client.close()


@asynccontextmanager
async def site(budget: Budget = ROOMY, patience: Patience = HASTE) -> AsyncIterator[Site]:
    shop = Shop()
    listener = listen(HOST, 0)
    async with serving(shop.application, listener, budget, patience):
        served = Site(shop, listener.getsockname()[1])
        try:
            yield served
        finally:
            shop.may_go_on.set()
            served.close()


def code_of(answer: tuple[int, dict[str, str], bytes]) -> tuple[int, str, bool]:
    error = json.loads(answer[2])["error"]
    return answer[0], error["code"], error["retryable"]


# ------------------------------------------------------------------------------ sizes


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\n" + b"X-A: " + b"a" * 40_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nX-A: " + b"a" * 300_000, 431),
        (b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(101)) + b"\r\n", 431),
        (b"GET /?" + b"a" * 9_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414),
        (b"GET /" + b"a" * 300_000, 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET http://[ HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ],
    ids=["header", "header without end", "headers", "target", "target without end", "TLS", "target that is none"],
)
async def test_a_head_that_is_too_large_or_none_is_refused_in_the_form_of_the_api(head: bytes, status: int) -> None:
    async with site() as here:
        client = await here.connect(head)
        answer = await client.answer()
        assert (answer[0], answer[1]["connection"]) == (status, "close")
        assert json.loads(answer[2])["success"] is False
        assert await client.is_closed()
        assert here.shop.requests == 0


async def test_a_large_body_is_not_taken_for_a_large_head() -> None:
    async with site() as here:
        client = await here.connect(b"POST / HTTP/1.1\r\nContent-Length: 200000\r\n\r\n" + b"a" * 200_000 + GET)
        assert [(await client.answer())[0] for _ in range(2)] == [200, 200]


async def test_a_client_that_goes_on_sending_after_a_refusal_is_cut_off() -> None:
    async with site() as here:
        client = await here.connect(b"GET / HTTP/1.1\r\nX-A: " + b"a" * 100_000)
        async with asyncio.timeout(10):
            while await client.can_send(b"a" * 100_000):
                pass


async def test_of_too_many_requests_in_a_row_the_first_are_answered_and_the_rest_left_to_be_repeated() -> None:
    async with site() as here:
        client = await here.connect(GET * 2_000)
        answers = [await client.answer()]
        while "connection" not in answers[-1][1]:
            answers.append(await client.answer())
        assert {answer[0] for answer in answers} == {200}
        assert await client.is_closed()
        assert here.shop.requests == len(answers) < 50


# ------------------------------------------------------------------------------ times


@pytest.mark.parametrize(
    "half",
    [
        b"G",
        b"GET / HTTP/1.1\r\nHost: h\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nab",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    ],
)
async def test_half_a_request_is_answered_408_in_time_and_closed(half: bytes) -> None:
    async with site() as here:
        client = await here.connect(half)
        answer = await client.answer()
        assert code_of(answer) == (408, "REQUEST_TIMEOUT", True)
        assert answer[1]["connection"] == "close"
        assert await client.is_closed()


async def test_a_body_that_was_announced_and_never_comes_is_408_after_its_100_continue() -> None:
    async with site() as here:
        client = await here.connect(b"POST / HTTP/1.1\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n")
        assert (await client.answer())[0] == 100
        assert code_of(await client.answer())[0] == 408
        assert await client.is_closed()


async def test_a_request_in_drops_has_the_same_time_as_one_that_stops() -> None:
    async with site() as here:
        client = await here.connect(b"GET / HTTP/1.1\r\n")
        answer = asyncio.ensure_future(client.answer())
        while not answer.done():
            client.send(b"X-A: b\r\n")
            await asyncio.sleep(0.02)
        assert code_of(await answer)[0] == 408


async def test_a_connection_that_never_asks_is_closed_without_a_log_entry() -> None:
    async with site() as here:
        client = await here.connect(b"\r\n\r\n")
        assert await client.is_closed()


async def test_a_request_that_takes_its_time_here_is_not_the_clients_fault() -> None:
    async with site() as here:
        here.shop.may_go_on.clear()
        client = await here.connect(GET)
        answer = asyncio.ensure_future(client.answer())
        done, _ = await asyncio.wait([answer], timeout=2.5)
        assert not done
        here.shop.may_go_on.set()
        assert (await answer)[0] == 200


async def test_an_answer_that_nobody_reads_is_given_up() -> None:
    async with site() as here:
        client = await here.connect(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n")
        await client.reader.readuntil(b"\r\n\r\n")
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        other = await here.connect(GET)
        assert (await other.answer())[0] == 200

        async with asyncio.timeout(5):
            assert await client.is_cut_off()


async def test_a_thousand_half_requests_shut_nobody_out_and_are_one_line_of_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with site() as here:
        halves = [await here.connect(b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n") for _ in range(400)]
        client = await here.connect(GET)
        assert (await client.answer())[0] == 200
        assert {(await half.answer())[0] for half in halves} == {408}
        await eventually(lambda: bool(caplog.records))
        lines = [record for record in caplog.records if record.name == "holdfast.http"]
        assert [line.message for line in lines] == ["connections_bounded"]
        assert lines[0].levelno == logging.WARNING
        assert [record for record in caplog.records if record.exc_info] == []


# --------------------------------------------------------------- connections, requests


async def test_idle_connections_make_room_for_those_that_ask() -> None:
    async with site(TIGHT) as here:
        for sent in (b"", b"\r\n"):
            idle = [await here.connect(sent) for _ in range(20)]
            client = await here.connect(GET)
            assert (await client.answer())[0] == 200
        assert await idle[0].is_closed()


async def test_a_connection_kept_after_an_answer_makes_room_too() -> None:
    async with site(TIGHT) as here:
        kept = [await here.connect(GET) for _ in range(4)]
        assert {(await client.answer())[0] for client in kept} == {200}
        client = await here.connect(GET)
        assert (await client.answer())[0] == 200


async def test_half_requests_whose_clients_never_close_make_room() -> None:
    endless = replace(HASTE, head=HOUR, body=HOUR, linger=HOUR, waiting=HOUR)
    async with site(TIGHT, endless) as here:
        half = [await here.connect(b"GET / HTTP/1.1\r\nX-A: ") for _ in range(40)]
        client = await here.connect(GET)
        assert (await client.answer())[0] == 200
        assert code_of(await half[0].answer()) == (408, "REQUEST_TIMEOUT", True)


async def test_more_customers_than_connections_are_served_one_after_another() -> None:
    async with site(TIGHT) as here:

        async def buy() -> int:
            return (await (await here.connect(GET)).answer())[0]

        assert await asyncio.gather(*(buy() for _ in range(100))) == [200] * 100


async def test_who_waits_for_too_long_is_refused_with_a_retry_time_and_nothing_is_dropped() -> None:
    async with site(TIGHT) as here:
        here.shop.may_go_on.clear()
        busy = [await here.connect(GET) for _ in range(4)]
        await eventually(lambda: here.shop.requests == 4)
        waiting = [await here.connect(GET) for _ in range(20)]
        for client in waiting:
            answer = await client.answer()
            assert code_of(answer) == (503, "SERVICE_OVERLOADED", True)
            assert (answer[1]["retry-after"], answer[1]["connection"]) == ("1", "close")
        here.shop.may_go_on.set()
        assert {(await client.answer())[0] for client in busy} == {200}
        assert (await (await here.connect(GET)).answer())[0] == 200


async def test_more_requests_at_once_than_allowed_are_refused_with_a_retry_time_and_health_is_answered() -> None:
    async with site(Budget(connections=50, surplus=4, requests=2, outgoing=1)) as here:
        here.shop.may_go_on.clear()
        busy = [await here.connect(GET) for _ in range(2)]
        await eventually(lambda: here.shop.requests == 2)
        client = await here.connect(GET)
        assert code_of(await client.answer()) == (503, "SERVICE_OVERLOADED", True)
        client.send(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await client.answer())[0] == 200
        here.shop.may_go_on.set()
        assert {(await each.answer())[0] for each in busy} == {200}
        client.send(GET)
        assert (await client.answer())[0] == 200


# ------------------------------------------------------------------------------ errors


async def test_a_connection_is_kept_after_an_unexpected_error() -> None:
    async with site() as here:
        client = await here.connect(b"GET /broken HTTP/1.1\r\nHost: h\r\n\r\n")
        status, headers, _ = await client.answer()
        assert (status, headers.get("connection")) == (500, None)
        client.send(GET)
        assert (await client.answer())[0] == 200


async def test_a_request_to_change_the_protocol_is_answered_and_closed() -> None:
    async with site() as here:
        client = await here.connect(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert (await client.answer())[0] == 200
        assert await client.is_closed()


async def test_the_server_answers_on_ipv6() -> None:
    shop, listener = Shop(), listen("::1", 0)
    async with serving(shop.application, listener) as url:
        assert url == f"http://[::1]:{listener.getsockname()[1]}"
        client = Client(*await asyncio.open_connection("::1", listener.getsockname()[1]))
        client.send(GET)
        assert (await client.answer())[0] == 200
        client.close()


async def test_every_address_of_ipv6_is_every_address_of_ipv4_too() -> None:
    shop, listener = Shop(), listen("::", 0)
    async with serving(shop.application, listener):
        client = Client(*await asyncio.open_connection(HOST, listener.getsockname()[1]))
        client.send(GET)
        assert (await client.answer())[0] == 200
        client.close()


async def test_a_server_that_hands_over_to_the_next_loses_no_request_that_it_accepted() -> None:
    clients: list[Client] = []

    async def come(port: int) -> None:
        while True:
            client = Client(*await asyncio.open_connection(HOST, port))
            client.send(CLOSING)
            clients.append(client)

    with listen(HOST, 0) as listener:
        for _ in range(10):
            # On a copy, as while the service waits for its database: the address stays taken.
            async with serving(Shop().application, listener.dup(), ROOMY, HASTE):
                coming = asyncio.create_task(come(listener.getsockname()[1]))
                await asyncio.sleep(0)
            coming.cancel()
            async with serving(Shop().application, listener.dup(), ROOMY, HASTE):
                assert {(await client.answer())[0] for client in clients} == {200}
            for client in clients:
                client.writer.close()
            clients.clear()
