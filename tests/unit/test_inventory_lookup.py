"""Asking the Inventory Service what it holds, where it can say."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx
import pytest

from services.clients.inventory.http import MAX_WORD, PAUSE_SECONDS, HTTPInventoryLookup
from services.domain.conservation import StockState
from services.domain.reconciliation import CANNOT_ANSWER, LookupResult

NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)


class Service:
    """Answers every request alike and counts them."""

    def __init__(self, response: httpx.Response | Exception) -> None:
        self.response = response
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if isinstance(self.response, Exception):
            raise self.response
        return self.response


def a_lookup(service: Service, monotonic=lambda: 0.0) -> HTTPInventoryLookup:
    return HTTPInventoryLookup(
        httpx.MockTransport(service),
        "http://inventory",
        timeout_seconds=1.0,
        clock=lambda: NOW,
        token="secret",
        monotonic=monotonic,
    )


@pytest.mark.parametrize(
    ("state", "meaning"),
    [
        ("ACTIVE", StockState.RESERVED),
        ("CONFIRMED", StockState.DEDUCTED),
        ("EXPIRED", StockState.FREE),
        ("RELEASED", StockState.FREE),
        ("RESTOCKED", StockState.FREE),
        ("TOMBSTONED", StockState.FREE),
    ],
)
async def test_the_state_of_a_reservation_shows_what_is_reserved(state, meaning):
    service = Service(httpx.Response(200, json={"success": True, "data": {"orderId": "o-1", "state": state}}))

    assert (await a_lookup(service).find("o-1")).stock == meaning

    request = service.requests[0]
    assert (request.method, request.url.path) == ("GET", "/api/v1/inventory/reservations/o-1")
    assert request.headers["Authorization"] == "Bearer secret"


@pytest.mark.parametrize("word", ["ON_HOLD", "active", "", "X" * 100])
async def test_a_word_that_we_do_not_know_implies_nothing_about_the_stock(word):
    service = Service(httpx.Response(200, json={"success": True, "data": {"orderId": "o-1", "state": word}}))
    lookup = a_lookup(service)

    assert await lookup.find("o-1") == LookupResult(None, word[:MAX_WORD], problem=CANNOT_ANSWER)

    # It has answered, and is asked about other orders at once.
    await lookup.find("o-2")
    assert len(service.requests) == 2


async def test_an_order_that_the_service_does_not_know_reserves_nothing():
    service = Service(httpx.Response(404, json={"success": False, "error": {"code": "RESERVATION_NOT_FOUND"}}))
    assert (await a_lookup(service).find("o-1")).stock == StockState.FREE


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(404, json={"detail": "Not Found"}),
        httpx.Response(404, text="no such page"),
        httpx.Response(405),
        httpx.Response(200, json={"success": True, "data": {}}),
        httpx.Response(200, text="<html>"),
    ],
)
async def test_a_service_without_this_route_cannot_answer_and_is_left_alone_for_a_while(response):
    now = [0.0]
    service = Service(response)
    lookup = a_lookup(service, lambda: now[0])

    assert (await lookup.find("o-1")).stock is None
    now[0] = PAUSE_SECONDS - 1
    assert (await lookup.find("o-2")).stock is None
    assert len(service.requests) == 1

    now[0] = PAUSE_SECONDS
    assert (await lookup.find("o-2")).stock is None
    assert len(service.requests) == 2


@pytest.mark.parametrize("response", [httpx.Response(503), httpx.Response(429), httpx.ConnectError("refused")])
async def test_a_service_that_is_away_is_asked_again_at_once(response):
    service = Service(response)
    lookup = a_lookup(service)

    assert (await lookup.find("o-1")).stock is None
    assert (await lookup.find("o-1")).stock is None
    assert len(service.requests) == 2
