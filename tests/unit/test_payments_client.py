"""What is sent to the payment gateway, and what its replies say about the money."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any
from unittest.mock import ANY
from urllib.parse import unquote

import httpx
import pytest

from services.clients.payments import HTTPPaymentGateway, NullPaymentGateway, PaymentGateway, PaymentState
from services.domain.calls import Attempt
from services.domain.errors import PaymentOutcomeUnknown
from services.domain.orders.model import Line
from tests.support.attempts import noted
from tests.support.one_reply import OneReply

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LINES = (Line("p1", "v1", 2),)


class Service(OneReply):
    """A payment gateway with one reply."""

    def gateway(self, timeout_seconds: float = 3.0) -> PaymentGateway:
        return HTTPPaymentGateway(
            httpx.MockTransport(self.handle),
            "http://pay.test",
            timeout_seconds=timeout_seconds,
            clock=lambda: NOW,
            stopwatch=lambda: 0.0,
        )

    async def capture(self) -> PaymentState:
        return await noted(self.gateway().capture("o-1", "u-1", LINES, {"card": "tok"}), self.attempts)

    async def find(self) -> PaymentState:
        return await noted(self.gateway().find("o-1"), self.attempts)

    async def refund(self) -> PaymentState:
        return await noted(self.gateway().refund("o-1"), self.attempts)

    async def void(self) -> PaymentState:
        return await noted(self.gateway().void("o-1"), self.attempts)


CALLS = [Service.capture, Service.find, Service.refund, Service.void]


def stated(state: str, order_id: str = "o-1") -> dict[str, Any]:
    return {"success": True, "data": {"orderId": order_id, "state": state}}


async def test_a_capture_is_keyed_by_the_order():
    service = Service(body=stated("CAPTURED"))
    assert await service.capture() is PaymentState.CAPTURED
    (request,) = service.requests
    assert (request.method, str(request.url)) == ("POST", "http://pay.test/api/v1/payments/capture")
    assert request.headers["Idempotency-Key"] == "o-1"
    assert json.loads(request.content) == {
        "orderId": "o-1",
        "userId": "u-1",
        "items": [{"productId": "p1", "variantId": "v1", "quantity": 2}],
        "metadata": {"card": "tok"},
    }
    assert service.attempts == [Attempt(NOW, "capture", "success", 0.0, 1, {"status": 200})]


async def test_a_find_and_a_refund_address_the_payment_of_the_order():
    service = Service(body=stated("REFUNDED"))
    assert await service.find() is PaymentState.REFUNDED
    assert await service.refund() is PaymentState.REFUNDED
    assert [(request.method, request.url.path) for request in service.requests] == [
        ("GET", "/api/v1/payments/o-1"),
        ("POST", "/api/v1/payments/o-1/refund"),
    ]
    assert [attempt.call for attempt in service.attempts] == ["find_payment", "refund"]


async def test_an_order_id_cannot_lead_to_another_path():
    service = Service(404, {"error": {"code": "PAYMENT_NOT_FOUND"}})
    await service.gateway().find("a/b?c")
    assert service.requests[0].url.raw_path == b"/api/v1/payments/a%2Fb%3Fc"


@pytest.mark.parametrize(
    ("call", "status", "state"),
    [
        (Service.capture, 402, PaymentState.DECLINED),
        (Service.capture, 410, PaymentState.VOIDED),
        (Service.void, 404, PaymentState.ABSENT),
        (Service.void, 405, PaymentState.ABSENT),
        (Service.void, 501, PaymentState.ABSENT),
        (Service.find, 404, PaymentState.ABSENT),
        (Service.refund, 404, PaymentState.ABSENT),
        (Service.refund, 409, PaymentState.DECLINED),
    ],
)
async def test_some_statuses_say_it_all(call, status, state):
    service = Service(status, {"success": False, "error": {"code": "X"}})
    assert await call(service) is state
    assert service.attempts[0].outcome == "success"


@pytest.mark.parametrize("state", ["CAPTURED", "DECLINED", "REFUNDED"])
@pytest.mark.parametrize("call", [Service.capture, Service.find])
async def test_the_body_reports_the_state(call, state):
    assert await call(Service(body=stated(state))) == state


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"",
        [],
        {},
        stated("PENDING"),
        stated("ABSENT"),
        stated("CAPTURED", order_id="another"),
        {"success": False, "data": stated("CAPTURED")["data"]},
        {"success": True, "data": None},
    ],
)
@pytest.mark.parametrize("call", CALLS)
async def test_a_reply_that_does_not_tell_the_state_of_this_order_leaves_it_unknown(call, body):
    service = Service(body=body)
    with pytest.raises(PaymentOutcomeUnknown) as caught:
        await call(service)
    assert (service.attempts[0].outcome, caught.value.may_have_run) == ("invalid", True)


async def test_a_refund_that_left_the_money_captured_is_no_refund():
    with pytest.raises(PaymentOutcomeUnknown):
        await Service(body=stated("CAPTURED")).refund()


@pytest.mark.parametrize(
    ("status", "outcome", "may_have_run"),
    [
        (400, "refused_us", False),
        (401, "refused_us", False),
        (403, "refused_us", False),
        (404, "refused_us", False),
        (405, "refused_us", False),
        (407, "refused_us", True),
        (421, "refused_us", True),
        (425, "refused_us", True),
        (422, "rejected", False),
        (429, "throttled", False),
        (408, "unavailable", True),
        (500, "unavailable", True),
        (503, "unavailable", True),
        (302, "unavailable", True),
    ],
)
async def test_any_other_status_leaves_the_payment_unknown(status, outcome, may_have_run):
    service = Service(status, headers={"Retry-After": "7"})
    with pytest.raises(PaymentOutcomeUnknown) as caught:
        await service.capture()
    assert (service.attempts[0].outcome, caught.value.may_have_run) == (outcome, may_have_run)
    assert caught.value.details == {"status": status}
    assert caught.value.retry_after_seconds == (7.0 if status in (429, 503) else None)


@pytest.mark.parametrize(
    ("error", "outcome", "may_have_run"),
    [
        (httpx.ConnectError("refused"), "unavailable", False),
        (httpx.ReadTimeout("slow"), "timeout", True),
        (httpx.RemoteProtocolError("gone"), "unavailable", True),
    ],
)
@pytest.mark.parametrize("call", CALLS)
async def test_a_lost_call_shows_whether_it_may_have_run(call, error, outcome, may_have_run):
    class Failing(Service):
        async def handle(self, request: httpx.Request) -> httpx.Response:
            raise error

    service = Failing()
    with pytest.raises(PaymentOutcomeUnknown) as caught:
        await call(service)
    assert (service.attempts[0].outcome, caught.value.may_have_run) == (outcome, may_have_run)


async def test_silence_leaves_the_payment_unknown():
    class Silent(Service):
        async def handle(self, request: httpx.Request) -> httpx.Response:
            await asyncio.Event().wait()
            raise AssertionError

    service = Silent()
    with pytest.raises(PaymentOutcomeUnknown) as caught:
        await noted(service.gateway(timeout_seconds=0.001).capture("o-1", "u-1", LINES, {}), service.attempts)
    assert (service.attempts[0].outcome, caught.value.may_have_run) == ("timeout", True)


async def test_the_null_gateway_approves_everything_and_names_itself_in_the_attempts():
    gateway: PaymentGateway = NullPaymentGateway(lambda: NOW)
    attempts: list[Attempt] = []
    states = [
        await noted(gateway.capture("o-1", "u-1", LINES, {}), attempts),
        await noted(gateway.find("o-1"), attempts),
        await noted(gateway.refund("o-1"), attempts),
        await noted(gateway.void("o-1"), attempts),
    ]
    assert states == ["CAPTURED", "CAPTURED", "REFUNDED", "VOIDED"]
    assert attempts == [
        Attempt(NOW, operation, "success", 0.0, 1, {"gateway": "null"})
        for operation in ("capture", "find_payment", "refund", "void")
    ]


@pytest.mark.parametrize("call", [Service.find, Service.refund])
@pytest.mark.parametrize("body", [b"", b"<html>", {"message": "no Route matched"}])
async def test_a_404_that_is_not_the_gateways_own_does_not_state_that_there_is_no_payment(call, body):
    service = Service(404, body)
    with pytest.raises(PaymentOutcomeUnknown):
        await call(service)
    assert service.attempts[0].outcome == "refused_us"


@pytest.mark.parametrize("order_id", [".", "..", "a b", "%2F", "ABC/12", "Größe-M", "auth0|x"])
async def test_any_order_id_stays_one_segment_of_the_path(order_id):
    service = Service(404, {"error": {"code": "PAYMENT_NOT_FOUND"}})
    await service.gateway().find(order_id)
    raw = service.requests[0].url.raw_path.decode()
    assert raw.startswith("/api/v1/payments/")
    segment = raw.removeprefix("/api/v1/payments/")
    assert unquote(segment) == order_id
    assert "/" not in segment
    assert set(segment) != {"."}


async def test_a_payment_is_read_in_any_form_that_means_the_same():
    order_id = "F47AC10B-58CC-4372-A567-0E02B2C3D479"
    body = b"\xef\xbb\xbf" + json.dumps({"data": {"orderId": order_id, "state": "CAPTURED", "more": 1}}).encode()
    assert await Service(200, body).gateway().find(order_id.lower()) == (PaymentState.CAPTURED, ANY)
