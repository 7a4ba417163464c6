"""Whatever order the API takes, its events fit into the broker's default of 256 KB."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from services.api.routes.orders import MAX_ITEMS_BYTES
from services.domain.external import MAX_ID_LENGTH
from services.domain.orders.events import ORDER_RETURNED, OutgoingEvent, timestamp
from services.messaging.envelope import encode
from tests.support.api import Api, error_of

BROKER_TAKES = 256 * 1024
HEADERS = 500
"""Bytes of Nats-Msg-Id, traceparent and what a batch adds are fewer."""

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def items(character: str, count: int = 200) -> list[dict[str, Any]]:
    width = MAX_ID_LENGTH - 3
    return [
        {"productId": f"{number:03}{character * width}", "variantId": character * MAX_ID_LENGTH, "quantity": 1}
        for number in range(count)
    ]


def largest(lines: list[dict[str, Any]]) -> bytes:
    """The event with the most fields, each as long as it may be."""
    widest = "\U0001f600" * MAX_ID_LENGTH
    data = {"eventType": ORDER_RETURNED, "orderId": widest, "userId": widest, "items": lines}
    data |= {"returnId": widest, "reservationId": widest, "reason": "\U0001f600" * 2000, "restockable": False}
    return encode(OutgoingEvent(ORDER_RETURNED, widest, data | {"timestamp": timestamp(NOON)}), "e" * 128, NOON)


def test_the_largest_event_of_items_at_the_limit_fits() -> None:
    empty = len(largest([]))
    # The items stand in the event twice.
    assert empty + 2 * MAX_ITEMS_BYTES + HEADERS <= BROKER_TAKES


@pytest.mark.parametrize("character", ["x", '"', "ж"])
async def test_two_hundred_lines_of_long_ids_are_taken_and_their_event_fits(api: Api, character: str) -> None:
    lines = items(character)
    assert len(orjson.dumps(lines)) <= MAX_ITEMS_BYTES
    answer = await api.post("/api/v1/orders", {"userId": "user-1", "items": lines})
    assert answer.json().get("error", {}).get("code") != "VALIDATION_ERROR"
    assert len(largest(lines)) + HEADERS <= BROKER_TAKES


async def test_items_whose_event_no_broker_would_take_are_refused_with_the_limit(api: Api) -> None:
    answer = await api.post("/api/v1/orders", {"userId": "user-1", "items": items("\U0001f600")})
    error = error_of(answer, 400, "VALIDATION_ERROR")
    assert str(MAX_ITEMS_BYTES) in orjson.dumps(error).decode()
    assert len(answer.content) < 5000
