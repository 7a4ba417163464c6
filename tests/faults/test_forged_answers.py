"""Answers that no Inventory Service should give, after the real one did what it was asked.

What cannot be believed is not relied on, and what it may have left behind is given back.
Source: contract 4.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import httpx
import orjson
import pytest

from services.base.identity import new_id
from services.clients.http.transport import MAX_BODY_BYTES, AiohttpTransport
from services.clients.inventory.port import InventoryGateway
from services.domain.calls import INVALID, REJECTED, SUCCESS, THROTTLED, UNAVAILABLE, InventoryCall
from services.domain.errors import ApiError
from tests.faults.processes import Service
from tests.faults.shop import MUG, Shop, gateway_at, states
from tests.support.fakes import CAPTURE
from tests.support.orders_harness import Order

pytestmark = pytest.mark.slow

Forge = Callable[[dict[str, Any]], bytes]
"""The bytes to send instead of the real answer, whose body is given."""


def http(status: str, body: bytes, *headers: str) -> bytes:
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers])
    return f"{head}\r\n\r\n".encode() + body


def json_answer(body: Any, status: str = "200 OK", content_type: str = "application/json") -> bytes:
    return http(status, orjson.dumps(body), f"Content-Type: {content_type}")


def altered(body: dict[str, Any], **changes: Any) -> bytes:
    """The real answer with some of its data changed."""
    return json_answer(body | {"data": {**(body.get("data") or {}), **changes}})


def without_last_line(body: dict[str, Any]) -> bytes:
    return altered(body, items=body["data"]["items"][:-1])


def not_all_reserved(body: dict[str, Any]) -> bytes:
    return altered(body, items=[item | {"reserved": False} for item in body["data"]["items"]])


def fewer(body: dict[str, Any]) -> bytes:
    return altered(body, items=[item | {"quantity": item["quantity"] - 1} for item in body["data"]["items"]])


OUTAGES: dict[str, Forge] = {
    # Nobody answered, as far as we can tell: the order waits, and asks again.
    "garbage": lambda _: b"\x16\x03\x01 what is this?\r\n\r\n",
    "oversized, declared": lambda _: http("200 OK", b" " * (MAX_BODY_BYTES + 1)),
    "oversized, without end": lambda _: b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (2 * MAX_BODY_BYTES),
    "redirect": lambda _: http("302 Found", b"", "Location: http://127.0.0.1:1/elsewhere"),
    "permanent redirect": lambda _: http("308 Permanent Redirect", b"", "Location: /elsewhere"),
    "compressed": lambda _: http("200 OK", b"\x1f\x8b\x08", "Content-Encoding: gzip"),
    "shorter than declared": lambda _: http("200 OK", b'{"success"')[:-4],
    "server error with a success in it": lambda body: json_answer(body, "500 Internal Server Error"),
    "too many requests": lambda _: json_answer({}, "429 Too Many Requests"),
}
NO_ANSWERS: dict[str, Forge] = {
    # A success, whatever was asked, that does not say of what.
    "success is false": lambda body: json_answer(body | {"success": False}),
    "not JSON, and says so": lambda _: http("200 OK", b"<html>Welcome</html>", "Content-Type: text/html"),
    "empty": lambda _: http("200 OK", b""),
    "no content": lambda _: http("204 No Content", b""),
    "half of the JSON": lambda body: http("200 OK", orjson.dumps(body)[:40], "Content-Type: application/json"),
    "no data": lambda _: json_answer({"success": True}),
    "a list": lambda _: json_answer([]),
}
UNBELIEVABLE: dict[str, Forge] = NO_ANSWERS | {
    "another order": lambda body: altered(body, orderId=new_id()),
    "a line is missing": without_last_line,
    "nothing was reserved": not_all_reserved,
    "less than asked for": fewer,
    "no time zone": lambda body: altered(body, expiresAt="2099-01-01T00:00:00"),
    "no reservation": lambda body: altered(body, reservationId=""),
}

NO_CHECK = OUTAGES | NO_ANSWERS


class Forger:
    """An HTTP server that hands each request on and may lie about the answer."""

    def __init__(self, inventory: Service) -> None:
        self._base_url = f"http://127.0.0.1:{inventory.port}"
        self._forged: dict[str, Forge] = {}
        self.port = 0

    def forge(self, operation: str, forge: Forge) -> None:
        paths = {
            InventoryCall.RESERVE: "reserve",
            InventoryCall.RELEASE: "release",
            InventoryCall.CHECK_AVAILABILITY: "check-availability",
        }
        self._forged[f"/api/v1/inventory/{paths[operation]}"] = forge

    def be_honest(self) -> None:
        self._forged.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A client that will not read on hangs up.
        with suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            method, path, _ = head.decode().split(" ", 2)
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r")[0])
            writer.write(await self._answer(method, path, await reader.readexactly(length)))
            await writer.drain()
        writer.close()

    async def _answer(self, method: str, path: str, content: bytes) -> bytes:
        async with httpx.AsyncClient(base_url=self._base_url, trust_env=False) as client:
            reply = await client.request(method, path, content=content)
        if path in self._forged:
            return self._forged[path](reply.json())
        return http(f"{reply.status_code} {reply.reason_phrase}", reply.content, "Connection: close")


@pytest.fixture
async def forger(inventory: Service) -> AsyncIterator[Forger]:
    forger = Forger(inventory)
    server = await asyncio.start_server(forger.serve, "127.0.0.1", 0)
    forger.port = server.sockets[0].getsockname()[1]
    yield forger
    server.close()
    await server.wait_closed()


@pytest.fixture
def gateway(forger: Forger, transport: AiohttpTransport) -> InventoryGateway:
    return gateway_at(forger.port, transport, timeout_seconds=5.0)


@pytest.fixture
async def shop(sqlite_url: str, gateway: InventoryGateway) -> AsyncIterator[Shop]:
    shop = Shop(sqlite_url, gateway)
    yield shop
    shop.close()


async def place(shop: Shop) -> Order:
    return await shop.place(order_id=new_id(), lines=(MUG,))


async def outcomes(shop: Shop, order_id: str, operation: str) -> set[str]:
    timeline = await shop.timeline(order_id)
    return {entry.details["outcome"] for entry in timeline if entry.details.get("operation") == operation}


@pytest.mark.parametrize("forge", OUTAGES.values(), ids=OUTAGES)
async def test_an_answer_that_is_none_makes_the_order_wait_and_is_requested_again(
    shop: Shop, forger: Forger, inventory: Service, forge: Forge
) -> None:
    forger.forge(InventoryCall.RESERVE, forge)
    order = await place(shop)
    assert (order.status, order.payment_status) == ("PENDING_INVENTORY", "NONE")
    is_busy = forge is OUTAGES["too many requests"]
    assert await outcomes(shop, order.order_id, InventoryCall.RESERVE) == {THROTTLED if is_busy else UNAVAILABLE}
    (case,) = await shop.cases(order.order_id)
    assert case.detail.startswith("INVENTORY_UNAVAILABLE: ")
    forger.be_honest()
    order = await shop.sweep_when_due(order.order_id)
    assert (order.status, states(inventory, order.order_id)) == ("PLACED", ["ACTIVE"])


@pytest.mark.parametrize("forge", UNBELIEVABLE.values(), ids=UNBELIEVABLE)
async def test_a_reservation_that_cannot_be_relied_on_refuses_the_order_and_is_given_back(
    shop: Shop, forger: Forger, inventory: Service, forge: Forge
) -> None:
    forger.forge(InventoryCall.RESERVE, forge)
    order = await place(shop)
    assert (order.status, (order.failure or {})["code"]) == ("REJECTED", "RESERVATION_FAILED")
    assert await outcomes(shop, order.order_id, InventoryCall.RESERVE) == {INVALID}
    assert states(inventory, order.order_id) == ["ACTIVE"]
    await shop.drain()
    order = await shop.order(order.order_id)
    assert (order.inventory_status, states(inventory, order.order_id)) == ("RELEASED", ["RELEASED"])
    assert shop.payments.calls == []
    assert await shop.sent() == []


@pytest.mark.parametrize("forge", NO_CHECK.values(), ids=NO_CHECK)
async def test_a_check_that_cannot_be_used_is_an_outage_and_never_a_yes(
    shop: Shop, forger: Forger, inventory: Service, forge: Forge
) -> None:
    forger.forge(InventoryCall.CHECK_AVAILABILITY, forge)
    order = await place(shop)
    assert (order.status, (order.failure or {})["code"]) == ("REJECTED", "INVENTORY_UNAVAILABLE")
    assert states(inventory, order.order_id) == []


@pytest.mark.parametrize("forge", [OUTAGES["garbage"], OUTAGES["redirect"], NO_ANSWERS["success is false"]])
async def test_a_release_without_an_answer_is_repeated_until_there_is_one(
    shop: Shop, forger: Forger, inventory: Service, forge: Forge
) -> None:
    order = await place(shop)
    await shop.cancel(order.order_id)
    forger.forge(InventoryCall.RELEASE, forge)
    await shop.releases.run_due()
    release = await shop.release(order.order_id)
    assert release is not None
    assert (release.state, release.attempts) == ("PENDING", 1)
    forger.be_honest()
    await shop.drain()
    assert (await shop.order(order.order_id)).inventory_status == "RELEASED"
    assert states(inventory, order.order_id) == ["RELEASED"]


async def test_the_declared_type_of_a_good_answer_does_not_matter(shop: Shop, forger: Forger) -> None:
    forger.forge(InventoryCall.RESERVE, lambda body: json_answer(body, content_type="text/plain"))
    order = await place(shop)
    assert order.status == "PLACED"
    assert await outcomes(shop, order.order_id, InventoryCall.RESERVE) == {SUCCESS}
    assert shop.payments.count(CAPTURE) == 1


async def test_an_answer_in_a_refusals_clothes_is_a_refusal(shop: Shop, forger: Forger, inventory: Service) -> None:
    forger.forge(InventoryCall.RESERVE, lambda body: json_answer(body, "422 Unprocessable Content"))
    order = await place(shop)
    assert (order.status, (order.failure or {})["code"]) == ("REJECTED", "RESERVATION_FAILED")
    assert await outcomes(shop, order.order_id, InventoryCall.RESERVE) == {REJECTED}
    await shop.drain()
    assert states(inventory, order.order_id) == ["RELEASED"]


async def test_no_body_of_the_service_is_repeated_to_the_customer(gateway: InventoryGateway, forger: Forger) -> None:
    forger.forge(InventoryCall.RESERVE, lambda _: http("200 OK", b"password=hunter2"))
    with pytest.raises(ApiError) as caught:
        await gateway.reserve(new_id(), (MUG,), "user-1")
    assert "hunter2" not in f"{caught.value.message} {caught.value.details}"
