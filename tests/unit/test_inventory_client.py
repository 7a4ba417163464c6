"""What is sent to the Inventory Service, and how each of its replies is understood."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from services.clients.inventory.http import HTTPInventoryGateway
from services.clients.inventory.port import Availability, LineAvailability, Reservation
from services.domain.calls import Attempt
from services.domain.errors import (
    InsufficientInventory,
    InventoryRefusesUs,
    InventoryThrottled,
    InventoryTimeout,
    InventoryUnavailable,
    ReleaseFailed,
    ReservationFailed,
)
from services.domain.orders.model import Line
from tests.support.attempts import noted
from tests.support.one_reply import OneReply

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LINES = (Line("p1", "v1", 2), Line("p2", "v2", 1))
ORDER = "f47ac10b-58cc-4372-a567-0e02b2c3d479"


class Service(OneReply):
    """An Inventory Service with one reply."""

    def gateway(self, **options: Any) -> HTTPInventoryGateway:
        ticks = iter(range(100))
        return HTTPInventoryGateway(
            httpx.MockTransport(self.handle),
            "http://inventory.test",
            **{
                "timeout_seconds": 3.0,
                "reservation_ttl_seconds": 1800,
                "clock": lambda: NOW,
                "stopwatch": lambda: next(ticks) / 4,
                **options,
            },
        )

    async def check(self) -> Availability:
        return await noted(self.gateway().check_availability(LINES), self.attempts)

    async def reserve(self) -> Reservation:
        return await noted(self.gateway().reserve(ORDER, LINES, "user-1"), self.attempts)

    async def release(self) -> bool:
        return await noted(self.gateway().release(ORDER), self.attempts)

    @property
    def outcome(self) -> str:
        (attempt,) = self.attempts
        return attempt.outcome


CALLS = [Service.check, Service.reserve, Service.release]


class Failing(Service):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    async def handle(self, request: httpx.Request) -> httpx.Response:
        raise self.error


class Silent(Service):
    async def handle(self, request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    def gateway(self, **options: Any) -> HTTPInventoryGateway:
        return super().gateway(timeout_seconds=0.001, **options)


def availability(*, available: bool = True, first: dict[str, Any] | None = None) -> dict[str, Any]:
    items = [
        {"productId": "p1", "variantId": "v1", "available": True, "requestedQuantity": 2, "availableQuantity": 15},
        {"productId": "p2", "variantId": "v2", "available": True, "requestedQuantity": 1, "availableQuantity": 8},
    ]
    items[0] |= first or {}
    return {"success": True, "data": {"available": available, "items": items}, "meta": {"timestamp": "x"}}


def reservation(**changes: Any) -> dict[str, Any]:
    data = {
        "reservationId": "r-1",
        "orderId": ORDER,
        "items": [
            {"productId": "p1", "variantId": "v1", "quantity": 2, "reserved": True},
            {"productId": "p2", "variantId": "v2", "quantity": 1, "reserved": True},
        ],
        "expiresAt": "2023-11-21T15:57:30.123Z",
    }
    return {"success": True, "data": {**data, **changes}, "meta": {"timestamp": "x"}}


async def test_a_check_sends_the_seeds_body_and_reads_its_answer():
    service = Service(body=availability())
    assert await service.check() == Availability(
        available=True,
        lines=(
            LineAvailability("p1", "v1", available=True, requested_quantity=2, available_quantity=15),
            LineAvailability("p2", "v2", available=True, requested_quantity=1, available_quantity=8),
        ),
    )
    (request,) = service.requests
    assert (request.method, str(request.url)) == ("POST", "http://inventory.test/api/v1/inventory/check-availability")
    assert request.headers["Content-Type"] == "application/json"
    assert "Authorization" not in request.headers
    assert json.loads(request.content) == {
        "items": [
            {"productId": "p1", "variantId": "v1", "quantity": 2},
            {"productId": "p2", "variantId": "v2", "quantity": 1},
        ]
    }


async def test_a_reservation_sends_the_seeds_body_and_reads_its_answer():
    service = Service(body=reservation())
    expected = Reservation("r-1", datetime(2023, 11, 21, 15, 57, 30, 123_000, tzinfo=UTC))
    assert await service.reserve() == expected
    (request,) = service.requests
    assert str(request.url) == "http://inventory.test/api/v1/inventory/reserve"
    assert json.loads(request.content) == {
        "orderId": ORDER,
        "items": [
            {"productId": "p1", "variantId": "v1", "quantity": 2},
            {"productId": "p2", "variantId": "v2", "quantity": 1},
        ],
        "expiresIn": 1800,
        "metadata": {"userId": "user-1"},
    }


async def test_a_release_sends_the_order_id_only():
    service = Service(body={"success": True})
    assert await service.release() is True
    (request,) = service.requests
    assert str(request.url) == "http://inventory.test/api/v1/inventory/release"
    assert json.loads(request.content) == {"orderId": ORDER}


async def test_a_token_is_presented_as_a_bearer_token():
    service = Service(204, b"")
    await service.gateway(token="s3cret").release(ORDER)
    assert service.requests[0].headers["Authorization"] == "Bearer s3cret"


async def test_an_attempt_records_when_how_long_and_what_was_answered():
    service = Service(body=availability())
    await service.check()
    assert service.attempts == [Attempt(NOW, "check_availability", "success", 0.25, 1, {"status": 200})]


async def test_a_failed_attempt_records_why():
    service = Service(503)
    with pytest.raises(InventoryUnavailable):
        await service.reserve()
    error = "The Inventory Service answered 503."
    assert service.attempts == [Attempt(NOW, "reserve", "unavailable", 0.25, 1, {"status": 503, "error": error})]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(availability(available=False), id="overall"),
        pytest.param(availability(first={"available": False}), id="one line"),
        pytest.param(availability(first={"requestedQuantity": 1, "availableQuantity": 1}), id="less than asked for"),
    ],
)
async def test_a_no_anywhere_in_a_check_is_a_no(body):
    service = Service(body=body)
    assert (await service.check()).available is False
    assert service.outcome == "success"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<html>", id="html"),
        pytest.param(b"", id="empty"),
        pytest.param([], id="not an object"),
        pytest.param({"success": True}, id="no data"),
        pytest.param({"success": False, "data": availability()["data"]}, id="success is false"),
        pytest.param(availability(first={"available": "yes"}), id="text for a truth"),
        pytest.param(availability(first={"availableQuantity": "many"}), id="no number"),
    ],
)
async def test_a_check_that_cannot_be_read_is_an_unavailable_service(body):
    service = Service(body=body)
    with pytest.raises(InventoryUnavailable):
        await service.check()
    assert service.outcome == "invalid"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<html>", "Invalid JSON"),
        ({"success": False, "error": {"code": "NOPE", "message": "not today"}}, "success is false"),
        ({"success": True, "data": None}, "field data: missing"),
        (reservation(orderId="another"), "the reservation belongs to order 'another'"),
        (reservation(expiresAt="tomorrow"), "field data.expiresAt"),
        (reservation(expiresAt="2023-11-21T15:57:30"), "field data.expiresAt"),
        (reservation(reservationId=""), "field data.reservationId"),
        (reservation(reservationId=7), "field data.reservationId"),
        (reservation(items=[{**reservation()["data"]["items"][0], "reserved": False}]), "not every line"),
        (reservation(items=reservation()["data"]["items"][:1]), "not every line was reserved"),
        (reservation(items=[{**item, "quantity": 1} for item in reservation()["data"]["items"]]), "not every line"),
    ],
)
async def test_a_reservation_that_cannot_be_relied_on_has_failed_and_states_the_reason(body, reason):
    service = Service(body=body)
    with pytest.raises(ReservationFailed) as caught:
        await service.reserve()
    assert service.outcome == "invalid"
    assert caught.value.details["status"] == 200
    assert reason in caught.value.details["reason"]


async def test_the_services_own_words_stand_in_the_details():
    service = Service(422, {"success": False, "error": {"code": "TOMBSTONED", "message": "was released", "x": 1}})
    with pytest.raises(ReservationFailed) as caught:
        await service.reserve()
    assert caught.value.details == {"status": 422, "code": "TOMBSTONED", "message": "was released"}


SHORT = {"productId": "p1", "variantId": "v1", "requestedQuantity": 2, "availableQuantity": 1}
OTHER = {"productId": "p2", "variantId": "v2", "requestedQuantity": 1, "availableQuantity": 0}
ENOUGH = {"productId": "p3", "variantId": "v3", "requestedQuantity": 1, "availableQuantity": 9}


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"details": {"items": [SHORT, OTHER]}}},
        {"error": {"details": [SHORT, OTHER, ENOUGH]}},
        {"details": {"items": [SHORT, OTHER]}},
        {"details": [SHORT, OTHER]},
        {"items": [SHORT, ENOUGH, OTHER]},
        {"data": {"items": [{**SHORT, "available": False}, {**ENOUGH, "available": True}, OTHER]}},
        {"items": [{**SHORT, "requestedQuantity": None}, {"productId": "p2", "variantId": "v2", "available": 0}]},
        {"items": [{"productId": "p1", "variantId": "v1", "quantity": 2, "availableQuantity": 1}, "?", OTHER]},
    ],
)
@pytest.mark.parametrize("call", [Service.check, Service.reserve])
async def test_409_is_insufficient_inventory_with_every_short_line_wherever_the_service_puts_them(call, body):
    service = Service(409, body)
    with pytest.raises(InsufficientInventory) as caught:
        await call(service)
    assert caught.value.details == {"items": [SHORT, OTHER]}
    assert service.outcome == "rejected"


@pytest.mark.parametrize("body", [b"", b"conflict", [], {"error": "no"}, {"error": {"details": "no"}}, {"items": 3}])
async def test_a_409_that_names_no_lines_is_insufficient_inventory_all_the_same(body):
    with pytest.raises(InsufficientInventory) as caught:
        await Service(409, body).reserve()
    assert caught.value.details == {"items": []}


async def test_a_short_line_keeps_what_was_said_and_leaves_open_what_was_not():
    with pytest.raises(InsufficientInventory) as caught:
        await Service(409, {"items": [{"productId": "p1", "variantId": "v1"}]}).reserve()
    assert caught.value.details == {"items": [SHORT | {"availableQuantity": None}]}


OWN_ERROR = {"success": False, "error": {"code": "VALIDATION_ERROR", "message": "quantity"}}


@pytest.mark.parametrize(("status", "body"), [(422, b""), (400, OWN_ERROR), (400, {"code": "BAD_QUANTITY"})])
@pytest.mark.parametrize("call", [Service.check, Service.reserve])
async def test_a_refusal_of_the_order_ends_it(call, status, body):
    service = Service(status, body)
    with pytest.raises(ReservationFailed) as caught:
        await call(service)
    assert (service.outcome, caught.value.details["status"]) == ("rejected", status)


REFUSALS_OF_US = [401, 403, 405, 406, 407, 410, 413, 415, 421, 425, 426, 431, 451]


@pytest.mark.parametrize("status", [*REFUSALS_OF_US, 400, 404])
@pytest.mark.parametrize("body", [b"", b"<html>", {"message": "no route"}, {"error": {"code": 400}}])
@pytest.mark.parametrize("call", [Service.check, Service.reserve])
async def test_a_refusal_of_the_caller_implies_nothing_of_the_order(call, body, status):
    service = Service(status, body)
    with pytest.raises(InventoryRefusesUs) as caught:
        await call(service)
    assert (service.outcome, caught.value.code, caught.value.details["status"]) == (
        "refused_us",
        "INVENTORY_UNAVAILABLE",
        status,
    )
    assert service.attempts[0].details["status"] == status


@pytest.mark.parametrize("status", [401, 403, 404, 405, 407, 421, 425])
async def test_an_error_code_does_not_turn_a_refusal_of_the_caller_into_one_of_the_order(status):
    with pytest.raises(InventoryRefusesUs):
        await Service(status, {"success": False, "error": {"code": "UNAUTHORIZED"}}).reserve()


@pytest.mark.parametrize("status", [*REFUSALS_OF_US, 400])
async def test_a_release_that_was_refused_to_the_caller_is_still_to_be_done(status):
    service = Service(status, b"")
    with pytest.raises(InventoryRefusesUs):
        await service.release()
    assert service.outcome == "refused_us"


@pytest.mark.parametrize("call", CALLS)
async def test_too_many_requests_is_a_call_that_was_not_carried_out(call):
    service = Service(429, b"slow down", headers={"Retry-After": "3"})
    with pytest.raises(InventoryThrottled) as caught:
        await call(service)
    assert (service.outcome, caught.value.was_sent, caught.value.retry_after_seconds) == ("throttled", True, 3.0)
    assert (caught.value.code, caught.value.may_have_run) == ("INVENTORY_UNAVAILABLE", False)


@pytest.mark.parametrize("status", [302, 408, 500, 502, 503, 504])
@pytest.mark.parametrize("call", CALLS)
async def test_a_service_that_cannot_now_is_unavailable(call, status):
    service = Service(status, b"oops")
    with pytest.raises(InventoryUnavailable) as caught:
        await call(service)
    assert (service.outcome, caught.value.may_have_run, caught.value.retry_after_seconds) == ("unavailable", True, None)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("99999", 900.0),
        ("Sun, 01 Mar 2026 12:00:30 GMT", 30.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        ("Sun, 01 Mar 2026 12:00:30 -0000", None),
        ("soon", None),
        ("-3", None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_passed_on_within_bounds(status, header, seconds):
    with pytest.raises(InventoryUnavailable) as caught:
        await Service(status, headers={"Retry-After": header}).reserve()
    assert caught.value.retry_after_seconds == seconds


@pytest.mark.parametrize("call", CALLS)
async def test_silence_is_a_timeout_that_may_have_run(call):
    service = Silent()
    with pytest.raises(InventoryTimeout) as caught:
        await call(service)
    assert (service.outcome, caught.value.may_have_run) == ("timeout", True)
    assert service.attempts[0].details == {"error": "no complete reply within 0.001 s"}


@pytest.mark.parametrize(
    ("error", "kind", "outcome", "may_have_run"),
    [
        (httpx.ConnectError("refused"), InventoryUnavailable, "unavailable", False),
        (httpx.ConnectTimeout("slow"), InventoryTimeout, "timeout", False),
        (httpx.PoolTimeout("full"), InventoryTimeout, "timeout", False),
        (httpx.UnsupportedProtocol("ftp"), InventoryUnavailable, "unavailable", False),
        (httpx.ReadTimeout("slow"), InventoryTimeout, "timeout", True),
        (httpx.ReadError("reset"), InventoryUnavailable, "unavailable", True),
        (httpx.WriteError("reset"), InventoryUnavailable, "unavailable", True),
        (httpx.RemoteProtocolError("garbage"), InventoryUnavailable, "unavailable", True),
        (httpx.DecodingError("bad gzip"), InventoryUnavailable, "unavailable", True),
    ],
)
@pytest.mark.parametrize("call", CALLS)
async def test_a_lost_call_shows_whether_it_may_have_run(call, error, kind, outcome, may_have_run):
    service = Failing(error)
    with pytest.raises(kind) as caught:
        await call(service)
    assert (service.outcome, caught.value.may_have_run) == (outcome, may_have_run)
    assert service.attempts[0].details == {"error": str(error)}
    assert str(error) not in caught.value.message


@pytest.mark.parametrize("status", [404, 409])
async def test_a_release_of_what_is_gone_is_done(status):
    service = Service(status, {"success": False})
    assert await service.release() is False
    assert service.outcome == "success"


async def test_a_release_may_be_acknowledged_without_a_body():
    assert await Service(204, b"").release() is True


@pytest.mark.parametrize("body", [{"success": False}, b"<html>", []])
async def test_a_release_whose_acknowledgement_cannot_be_believed_is_tried_again(body):
    service = Service(200, body)
    with pytest.raises(InventoryUnavailable):
        await service.release()
    assert service.outcome == "invalid"


async def test_a_refused_release_has_failed():
    service = Service(422, b"")
    with pytest.raises(ReleaseFailed) as caught:
        await service.release()
    assert (service.outcome, caught.value.details) == ("rejected", {"status": 422})


async def test_a_cancelled_call_leaves_no_attempt():
    service = Silent()
    call = asyncio.create_task(Service.gateway(service).reserve(ORDER, LINES, "u"))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert service.attempts == []


async def test_the_reservation_lives_as_long_as_configured():
    service = Service(body=reservation(expiresAt=(NOW + timedelta(minutes=5)).isoformat()))
    await service.gateway(reservation_ttl_seconds=300).reserve(ORDER, LINES, "u")
    assert json.loads(service.requests[0].content)["expiresIn"] == 300
