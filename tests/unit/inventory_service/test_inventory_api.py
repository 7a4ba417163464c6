"""The HTTP API, spoken to without sockets: bodies and replies as the seed writes them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from services.clients.http.exchange import path_segment
from services.clients.inventory.models import read_availability, read_reservation, short_lines
from services.sandbox.inventory_service.api import InventoryApi
from services.sandbox.inventory_service.faults import Faults, FaultSettings
from services.sandbox.inventory_service.tables import outbox
from tests.support.inventory_shop import Shop, mugs, pens

CHECK = "/api/v1/inventory/check-availability"
RESERVE = "/api/v1/inventory/reserve"
RELEASE = "/api/v1/inventory/release"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
META = {"timestamp": "2026-11-21T15:27:30.123Z"}


class Naps:
    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.fixture
def naps() -> Naps:
    return Naps()


@pytest.fixture
async def http(shop: Shop, naps: Naps) -> AsyncIterator[httpx.AsyncClient]:
    async def health() -> dict[str, Any]:
        return {"nats": "disconnected"}

    faults = Faults(lambda: 0.5, naps)
    api = InventoryApi(shop.database, lambda: shop.now, faults, health=health, on_commit=lambda: None)
    transport = httpx.ASGITransport(api.application())
    async with httpx.AsyncClient(transport=transport, base_url="http://inventory") as client:
        yield client


def order(order_id: str, *lines: Any, **more: Any) -> dict[str, Any]:
    return {"orderId": order_id, "items": [line.wire() for line in lines], "expiresIn": 1800} | more


async def test_availability_is_answered_line_by_line(http: httpx.AsyncClient) -> None:
    reply = await http.post(CHECK, json={"items": [mugs(2).wire(), pens(6).wire()]})
    assert reply.status_code == 200
    assert reply.json() == {
        "success": True,
        "data": {
            "available": False,
            "items": [
                {
                    "productId": "p-mug",
                    "variantId": "v-white",
                    "available": True,
                    "requestedQuantity": 2,
                    "availableQuantity": 10,
                },
                {
                    "productId": "p-pen",
                    "variantId": "v-fine",
                    "available": False,
                    "requestedQuantity": 6,
                    "availableQuantity": 5,
                },
            ],
        },
        "meta": META,
    }


async def test_an_unknown_product_is_not_available(http: httpx.AsyncClient) -> None:
    items = [{"productId": "p-none", "variantId": "v", "quantity": 1}]
    data = (await http.post(CHECK, json={"items": items})).json()["data"]
    assert (data["available"], data["items"][0]["availableQuantity"]) == (False, 0)


async def test_a_reservation_is_answered_as_in_the_seed(http: httpx.AsyncClient) -> None:
    reply = await http.post(RESERVE, json=order("o-1", mugs(2), pens(1), metadata={"userId": "u-1"}))
    body = reply.json()
    assert reply.status_code == 200
    assert body["data"].pop("reservationId")
    assert body == {
        "success": True,
        "data": {
            "orderId": "o-1",
            "items": [mugs(2).wire() | {"reserved": True}, pens(1).wire() | {"reserved": True}],
            "expiresAt": "2026-11-21T15:57:30.123Z",
        },
        "meta": META,
    }


async def test_a_shortage_is_409_with_every_short_line(http: httpx.AsyncClient, shop: Shop) -> None:
    reply = await http.post(RESERVE, json=order("o-1", mugs(11), pens(6)))
    assert reply.status_code == 409
    body = reply.json()
    assert (body["success"], body["error"]["code"], body["meta"]) == (False, "INSUFFICIENT_INVENTORY", META)
    assert body["error"]["details"]["items"] == [
        {"productId": "p-mug", "variantId": "v-white", "requestedQuantity": 11, "availableQuantity": 10},
        {"productId": "p-pen", "variantId": "v-fine", "requestedQuantity": 6, "availableQuantity": 5},
    ]
    assert shop.columns(mugs(0)) == (10, 0)


async def test_other_lines_and_ended_orders_are_422(http: httpx.AsyncClient) -> None:
    await http.post(RESERVE, json=order("o-1", mugs(1)))
    other = await http.post(RESERVE, json=order("o-1", mugs(2)))
    await http.post(RELEASE, json={"orderId": "o-2"})
    ended = await http.post(RESERVE, json=order("o-2", mugs(2)))
    assert [(r.status_code, r.json()["error"]["details"]["reason"]) for r in (other, ended)] == [
        (422, "OTHER_LINES"),
        (422, "RELEASED"),
    ]


async def test_releases_are_200_again_and_again_but_409_once_confirmed(http: httpx.AsyncClient, shop: Shop) -> None:
    held, confirmed = shop.reserve("o-1", mugs(1)), shop.reserve("o-2", mugs(1))
    shop.confirm(confirmed)
    replies = [await http.post(RELEASE, json={"orderId": order_id}) for order_id in ("o-1", "o-1", "o-9", "o-2")]
    assert [reply.status_code for reply in replies] == [200, 200, 200, 409]
    assert replies[0].json()["data"] == {"orderId": "o-1", "reservationId": held.reservation_id, "released": True}
    assert replies[1].json()["data"] == {"orderId": "o-1", "reservationId": None, "released": False}
    assert replies[3].json()["error"]["code"] == "ALREADY_CONFIRMED"


@pytest.mark.parametrize(
    ("body", "field", "value"),
    [
        (order("o-1", mugs(1), expiresIn=59), "expiresIn", 59),
        (order("o-1", mugs(1), expiresIn=86_401), "expiresIn", 86_401),
        (order("o-1", mugs(1), expiresIn="1800"), "expiresIn", "1800"),
        (order("o-1", mugs(1), expiresIn=None), "expiresIn", None),
        (order("o-1", mugs(0)), "items.0.quantity", 0),
        (order("o-1", mugs(1), mugs(-1)), "items.1.quantity", -1),
        (order("o-1"), "items", "[]"),
        (order("", mugs(1)), "orderId", ""),
        (order("o" * 129, mugs(1)), "orderId", "o" * 129),
        (order("o-1", mugs(1), expires=60), "expires", 60),
        ({"items": [mugs(1).wire()]}, "orderId", None),
        ([], "body", "[]"),
    ],
)
async def test_a_wrong_body_is_400_naming_field_value_and_what_is_allowed(
    http: httpx.AsyncClient, shop: Shop, body: Any, field: str, value: Any
) -> None:
    reply = await http.post(RESERVE, json=body)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (400, "VALIDATION_ERROR")
    assert (error["details"]["field"], error["details"]["value"]) == (field, value)
    assert error["details"]["allowed"]
    assert field in error["message"]
    assert shop.kinds("o-1") == []


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"orderId":"\\ud800"}'])
async def test_what_is_not_json_is_400(http: httpx.AsyncClient, content: bytes) -> None:
    reply = await http.post(RELEASE, content=content)
    assert (reply.status_code, reply.json()["error"]["details"]["field"]) == (400, "body")


async def test_a_huge_number_and_a_huge_body_are_refused(http: httpx.AsyncClient) -> None:
    number = await http.post(RESERVE, content=b'{"orderId":"o-1","items":[],"expiresIn":1' + b"0" * 400 + b"}")
    assert number.status_code == 400
    body = await http.post(RESERVE, content=b" " * 300_000)
    assert (body.status_code, body.json()["error"]["code"]) == (413, "BODY_TOO_LARGE")


async def test_unknown_routes_and_methods_are_answered_in_the_same_format(http: httpx.AsyncClient) -> None:
    nowhere, wrong = await http.get("/nowhere"), await http.get(RESERVE)
    assert (nowhere.status_code, nowhere.json()["error"]["code"]) == (404, "NOT_FOUND")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "METHOD_NOT_ALLOWED")


async def test_an_orders_reservation_is_shown_with_its_ledger(http: httpx.AsyncClient, shop: Shop) -> None:
    shop.reserve("o-1", mugs(2), seconds=60)
    shop.wait(60)
    overdue = (await http.get("/api/v1/inventory/reservations/o-1")).json()["data"]
    assert overdue["state"] == "EXPIRED"
    shop.confirm(shop.reserve("o-1", mugs(1)))
    data = (await http.get("/api/v1/inventory/reservations/o-1")).json()["data"]
    assert data["state"] == "CONFIRMED"
    assert data["items"] == [
        {"productId": "p-mug", "variantId": "v-white", "quantity": 1, "deducted": 1, "returned": 0}
    ]
    assert [entry["state"] for entry in data["reservations"]] == ["CONFIRMED", "EXPIRED"]
    assert [entry["kind"] for entry in data["ledger"]] == ["HOLD", "EXPIRE", "HOLD", "DEDUCT"]


async def test_a_tombstone_is_shown_and_an_unknown_order_is_404(http: httpx.AsyncClient, shop: Shop) -> None:
    shop.cancel("o-1")
    data = (await http.get("/api/v1/inventory/reservations/o-1")).json()["data"]
    assert (data["state"], data["tombstone"]["cause"], data["ledger"]) == ("TOMBSTONED", "ORDER_CANCELLED", [])
    assert (await http.get("/api/v1/inventory/reservations/o-2")).status_code == 404


async def test_stock_is_listed_and_adjusted(http: httpx.AsyncClient) -> None:
    key = {"productId": "p-mug", "variantId": "v-white"}
    reply = await http.post("/api/v1/inventory/stock/adjust", json=key | {"delta": -4, "reason": "broken"})
    expected = key | {
        "name": "Mug",
        "onHand": 6,
        "reserved": 0,
        "available": 6,
        "safety": 0,
        "lowStockThreshold": 3,
        "level": "IN_STOCK",
    }
    assert reply.json()["data"] == expected
    items = (await http.get("/api/v1/inventory/stock")).json()["data"]["items"]
    assert [item["name"] for item in items] == ["Mug", "Pen"]
    assert items[0] == expected
    newest = (await http.get("/api/v1/inventory/ledger?limit=1")).json()["data"]["items"]
    assert [(entry["kind"], entry["onHandDelta"], entry["reason"]) for entry in newest] == [("ADJUST", -4, "broken")]


@pytest.mark.parametrize(("product", "delta", "status"), [("p-none", 1, 404), ("p-mug", -11, 409), ("p-mug", 0, 400)])
async def test_impossible_adjustments_are_refused(
    http: httpx.AsyncClient, shop: Shop, product: str, delta: int, status: int
) -> None:
    body = {"productId": product, "variantId": "v-white", "delta": delta, "reason": "count"}
    assert (await http.post("/api/v1/inventory/stock/adjust", json=body)).status_code == status
    assert shop.columns(mugs(0)) == (10, 0)


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "ten", "²", "9" * 5000])
async def test_a_wrong_limit_is_400(http: httpx.AsyncClient, limit: str) -> None:
    reply = await http.get("/api/v1/inventory/ledger", params={"limit": limit})
    assert (reply.status_code, reply.json()["error"]["details"]["field"]) == (400, "limit")


async def test_an_outage_answers_503_and_can_be_ended(http: httpx.AsyncClient, shop: Shop) -> None:
    await http.put("/api/v1/sandbox/faults", json={"outage": True})
    for path, body in (
        (CHECK, {"items": [mugs(1).wire()]}),
        (RESERVE, order("o-1", mugs(1))),
        (RELEASE, {"orderId": "o-1"}),
    ):
        assert (await http.post(path, json=body)).status_code == 503
    assert shop.columns(mugs(0)) == (10, 0)
    assert (await http.get("/api/v1/inventory/stock")).status_code == 200
    await http.put("/api/v1/sandbox/faults", json={})
    assert (await http.post(RESERVE, json=order("o-1", mugs(1)))).status_code == 200


async def test_errors_occur_at_their_rate_and_latency_delays_calls(
    http: httpx.AsyncClient, shop: Shop, naps: Naps
) -> None:
    await http.put("/api/v1/sandbox/faults", json={"errorRate": 0.6})
    assert (await http.post(RESERVE, json=order("o-1", mugs(1)))).status_code == 500
    await http.put("/api/v1/sandbox/faults", json={"errorRate": 0.5, "latencyMs": 4000})
    assert (await http.post(RESERVE, json=order("o-1", mugs(1)))).status_code == 200
    assert naps.seconds == [4.0]
    assert shop.columns(mugs(0)) == (10, 1)


async def test_faults_are_shown_and_checked(http: httpx.AsyncClient) -> None:
    await http.put("/api/v1/sandbox/faults", json={"silentConfirmations": True, "errorRate": 1})
    assert (await http.put("/api/v1/sandbox/faults", json={"errorRate": 2})).status_code == 400
    assert (await http.put("/api/v1/sandbox/faults", json={"outtage": True})).status_code == 400
    assert (await http.get("/api/v1/sandbox/faults")).json()["data"] == {
        "outage": False,
        "latencyMs": 0,
        "errorRate": 1.0,
        "silentConfirmations": True,
        "soldOut": False,
        "credentialsExpired": False,
        "otherForm": False,
        "requestsPerSecond": 0,
        "leaseMs": None,
    }


async def test_sold_out_refuses_new_reservations_and_keeps_existing_ones(http: httpx.AsyncClient, shop: Shop) -> None:
    held = await http.post(RESERVE, json=order("o-1", mugs(1)))
    await http.put("/api/v1/sandbox/faults", json={"soldOut": True})
    assert (await http.post(RESERVE, json=order("o-1", mugs(1)))).json()["data"] == held.json()["data"]
    refused = await http.post(RESERVE, json=order("o-2", mugs(1)))
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "INSUFFICIENT_INVENTORY")
    assert refused.json()["error"]["details"]["items"][0]["availableQuantity"] == 0
    checked = await http.post("/api/v1/inventory/check-availability", json={"items": order("o-3", mugs(1))["items"]})
    assert checked.json()["data"]["available"] is False
    assert shop.columns(mugs(0)) == (10, 1)


async def test_expired_credentials_refuse_every_call_and_touch_no_stock(http: httpx.AsyncClient, shop: Shop) -> None:
    await http.put("/api/v1/sandbox/faults", json={"credentialsExpired": True})
    for path, body in (
        (CHECK, {"items": [mugs(1).wire()]}),
        (RESERVE, order("o-1", mugs(1))),
        (RELEASE, {"orderId": "o-1"}),
    ):
        assert (await http.post(path, json=body)).status_code == 401
    assert shop.columns(mugs(0)) == (10, 0)


async def test_calls_above_the_rate_get_429_with_retry_after(http: httpx.AsyncClient) -> None:
    await http.put("/api/v1/sandbox/faults", json={"requestsPerSecond": 1})
    replies = [await http.post(RELEASE, json={"orderId": "o-1"}) for _ in range(5)]
    assert replies[0].status_code == 200
    refused = [reply for reply in replies if reply.status_code == 429]
    assert {reply.headers["Retry-After"] for reply in refused} == {"1"}


async def test_answers_in_another_form_mean_the_same(http: httpx.AsyncClient) -> None:
    order_id = "f47ac10b-58cc-4372-a567-0e02b2c3d479"
    await http.put("/api/v1/sandbox/faults", json={"otherForm": True})
    checked = await http.post(CHECK, json={"items": [mugs(2).wire()]})
    assert checked.content.startswith(b"\xef\xbb\xbf")
    assert json.loads(checked.content.decode("utf-8-sig"))["data"]["items"] == [
        {
            "productId": "p-mug",
            "variantId": "v-white",
            "available": True,
            "requestedQuantity": "2",
            "availableQuantity": None,
            "tracking": "NOT_TRACKED",
        }
    ]
    reserved = await http.post(RESERVE, json=order(order_id, mugs(2)))
    assert order_id.upper() in reserved.text
    assert read_availability(checked.content, (mugs(2),)).available
    assert read_reservation(reserved.content, order_id, (mugs(2),)).reservation_id.isupper()
    short = await http.post(RESERVE, json=order("o-2", mugs(20)))
    assert [line["availableQuantity"] for line in short_lines(short.content, (mugs(20),))] == [8]


@pytest.mark.parametrize("order_id", ["gid://shop/Product/1", "auth0|x", "ABC/12", "Größe-M", "a b", "%2F", ".", ".."])
async def test_an_order_of_any_id_can_be_requested(http: httpx.AsyncClient, order_id: str) -> None:
    assert (await http.post(RESERVE, json=order(order_id, mugs(1)))).status_code == 200
    found = await http.get(f"/api/v1/inventory/reservations/{path_segment(order_id)}")
    assert found.json()["data"]["orderId"] == order_id


def test_faults_end_with_their_lease_unless_they_are_set_again() -> None:
    now = [0.0]
    faults = Faults(lambda: 0.5, monotonic=lambda: now[0])
    faults.settings = FaultSettings(outage=True, leaseMs=2000)
    now[0] = 1.9
    assert faults.settings.outage
    faults.settings = FaultSettings(outage=True, leaseMs=2000)
    now[0] = 3.8
    assert faults.settings.outage
    now[0] = 3.9
    assert faults.settings == FaultSettings()


async def test_the_rate_of_the_traffic_is_a_switch_that_is_unset_at_first(http: httpx.AsyncClient) -> None:
    assert (await http.get("/api/v1/sandbox/traffic")).json()["data"] == {"ordersPerSecond": None}
    assert (await http.put("/api/v1/sandbox/traffic", json={"ordersPerSecond": 101})).status_code == 400
    await http.put("/api/v1/sandbox/traffic", json={"ordersPerSecond": 2.5})
    assert (await http.get("/api/v1/sandbox/traffic")).json()["data"] == {"ordersPerSecond": 2.5}


async def test_health_is_answered(http: httpx.AsyncClient) -> None:
    assert (await http.get("/healthz")).json()["data"] == {"state": "ok", "nats": "disconnected"}


@pytest.mark.parametrize(("given", "stored"), [(TRACEPARENT, TRACEPARENT), ("nonsense", None), (None, None)])
async def test_events_that_a_request_causes_carry_its_traceparent(
    http: httpx.AsyncClient, shop: Shop, given: str | None, stored: str | None
) -> None:
    line = mugs(shop.available(mugs(1)))
    headers = {"traceparent": given} if given else {}
    reply = await http.post(RESERVE, json={"orderId": "o-1", "items": [line.wire()]}, headers=headers)
    assert reply.is_success
    rows = shop.read(lambda c: c.execute(select(outbox.c.subject, outbox.c.traceparent)).all())
    assert [tuple(row) for row in rows] == [("inventory.out_of_stock", stored)]
