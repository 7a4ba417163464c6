"""The reference payment gateway: captured once, refunded once, keyed by the order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.sandbox.payment_gateway import SLOW_SECONDS, PaymentApi, metadata
from state.engine.database import opened

NOW = datetime(2026, 11, 21, 15, 27, 30, 123456, tzinfo=UTC)
AT = "2026-11-21T15:27:30.123Z"
CAPTURE = "/api/v1/payments/capture"


@pytest.fixture
def naps() -> list[float]:
    return []


@pytest.fixture
async def http(tmp_path: Path, naps: list[float]) -> AsyncIterator[httpx.AsyncClient]:
    async def nap(seconds: float) -> None:
        naps.append(seconds)

    with opened(f"sqlite:///{tmp_path}/payments.db") as database:
        metadata.create_all(database.engine)
        transport = httpx.ASGITransport(PaymentApi(database, lambda: NOW, nap).application())
        async with httpx.AsyncClient(transport=transport, base_url="http://payments") as client:
            yield client


def payment(order_id: str, fate: str | None = None) -> dict[str, Any]:
    metadata = {"totalAmount": 12.5} | ({"sandboxPayment": fate} if fate else {})
    items = [{"productId": "p", "variantId": "v", "quantity": 1}]
    return {"orderId": order_id, "userId": "u-1", "items": items, "metadata": metadata}


async def state(http: httpx.AsyncClient, order_id: str) -> Any:
    return (await http.get(f"/api/v1/payments/{order_id}")).json().get("data", {}).get("state")


async def test_a_payment_is_captured_once(http: httpx.AsyncClient) -> None:
    replies = [await http.post(CAPTURE, json=payment("o-1")) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [200, 200]
    assert replies[0].json()["data"] == {"orderId": "o-1", "state": "CAPTURED", "capturedAt": AT, "refundedAt": None}
    assert len((await http.get("/api/v1/payments")).json()["data"]["items"]) == 1


async def test_a_declined_payment_stays_declined(http: httpx.AsyncClient) -> None:
    first = await http.post(CAPTURE, json=payment("o-1", "decline"))
    again = await http.post(CAPTURE, json=payment("o-1"))
    assert [(r.status_code, r.json()["error"]["code"]) for r in (first, again)] == [(402, "PAYMENT_DECLINED")] * 2
    assert await state(http, "o-1") == "DECLINED"


async def test_a_timed_out_payment_is_captured_and_answered_late_once(
    http: httpx.AsyncClient, naps: list[float]
) -> None:
    await http.post(CAPTURE, json=payment("o-1", "timeout"))
    assert naps == [SLOW_SECONDS]
    await http.post(CAPTURE, json=payment("o-1", "timeout"))
    assert naps == [SLOW_SECONDS]
    assert await state(http, "o-1") == "CAPTURED"


async def test_a_refund_is_made_once_and_a_later_capture_takes_nothing(http: httpx.AsyncClient) -> None:
    await http.post(CAPTURE, json=payment("o-1"))
    replies = [await http.post("/api/v1/payments/o-1/refund") for _ in range(2)]
    assert [(r.status_code, r.json()["data"]["state"]) for r in replies] == [(200, "REFUNDED")] * 2
    assert (await http.post(CAPTURE, json=payment("o-1"))).json()["data"]["state"] == "REFUNDED"


async def test_there_is_no_refund_of_unknown_or_declined_payments(http: httpx.AsyncClient) -> None:
    await http.post(CAPTURE, json=payment("o-1", "decline"))
    assert (await http.post("/api/v1/payments/o-1/refund")).status_code == 409
    assert (await http.post("/api/v1/payments/o-2/refund")).status_code == 404
    assert (await http.get("/api/v1/payments/o-2")).status_code == 404
    assert await state(http, "o-1") == "DECLINED"


async def test_payments_are_paged_in_the_order_they_were_made(http: httpx.AsyncClient) -> None:
    for number in range(5):
        await http.post(CAPTURE, json=payment(f"o-{number}"))
    seen, cursor = [], "0"
    while cursor is not None:
        data = (await http.get("/api/v1/payments", params={"limit": 2, "cursor": cursor})).json()["data"]
        seen += [item["orderId"] for item in data["items"]]
        cursor = data["nextCursor"]
    assert seen == [f"o-{number}" for number in range(5)]


async def test_a_wrong_body_is_400(http: httpx.AsyncClient) -> None:
    reply = await http.post(CAPTURE, json={"orderId": "o-1"})
    assert (reply.status_code, reply.json()["error"]["details"]["field"]) == (400, "userId")


async def test_a_key_that_was_fenced_off_is_never_captured(http: httpx.AsyncClient) -> None:
    for _ in range(2):
        reply = await http.post("/api/v1/payments/o-1/void", json={})
        assert (reply.status_code, reply.json()["data"]["state"]) == (200, "VOIDED")
    late = await http.post(CAPTURE, json=payment("o-1"))
    assert (late.status_code, late.json()["error"]["code"]) == (410, "PAYMENT_VOIDED")
    assert await state(http, "o-1") == "VOIDED"
    assert (await http.post("/api/v1/payments/o-1/refund", json={})).status_code == 404
    assert (await http.get("/api/v1/payments")).json()["data"]["items"] == []


@pytest.mark.parametrize(("fate", "expected"), [(None, "CAPTURED"), ("decline", "DECLINED")])
async def test_a_fence_leaves_a_payment_that_was_faster_as_it_is(
    http: httpx.AsyncClient, fate: str | None, expected: str
) -> None:
    await http.post(CAPTURE, json=payment("o-1", fate))
    assert (await http.post("/api/v1/payments/o-1/void", json={})).json()["data"]["state"] == expected
    assert await state(http, "o-1") == expected
