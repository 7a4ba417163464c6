"""What Holdfast asks of the Inventory Service over REST, and what it makes of the answers.

Source: requirements 3.1 and 10.3; contract 4.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pact import match

from services.clients.inventory.port import Availability, LineAvailability, Reservation
from services.domain.calls import REJECTED, SUCCESS
from services.domain.errors import InsufficientInventory, ReservationFailed
from services.domain.orders.model import Line
from tests.contract.pact_examples import (
    DEDUCTED,
    EXPIRES_TEXT,
    HAS_STOCK,
    HOLDS,
    ITEMS,
    JSON,
    LINES,
    NOTEBOOKS,
    ORDER_ID,
    PENS,
    RESERVATION_ID,
    USER_ID,
    identifier,
    moment,
    text,
)
from tests.contract.pact_rest import AgreedInventoryService, State, refusal, success

RESERVE_BODY = {"orderId": ORDER_ID, "items": ITEMS, "expiresIn": 1800, "metadata": {"userId": USER_ID}}
RESERVED = {
    "reservationId": identifier(RESERVATION_ID),
    "orderId": ORDER_ID,
    "items": match.array_containing([item | {"reserved": True} for item in ITEMS]),
    "expiresAt": moment(EXPIRES_TEXT),
}
RESERVATION = Reservation(RESERVATION_ID, datetime(2023, 11, 21, 15, 57, 30, 123_000, tzinfo=UTC))


@pytest.fixture
def inventory(pact_directory: Path) -> AgreedInventoryService:
    return AgreedInventoryService(pact_directory)


def in_stock(notebooks: int, pens: int) -> list[State]:
    """What may still be reserved; lines that hold stock already count as free here."""
    found = ((NOTEBOOKS, notebooks), (PENS, pens))
    return [(HAS_STOCK, sku(line) | {"quantity": left}) for line, left in found]


def sku(line: Line) -> dict[str, Any]:
    return {"productId": line.product_id, "variantId": line.variant_id}


def answered(line: Line, *, available: bool, quantity: int) -> dict[str, Any]:
    numbers = {"requestedQuantity": line.quantity, "availableQuantity": match.int(quantity)}
    return sku(line) | {"available": available} | numbers


@pytest.mark.parametrize(
    ("notebooks", "title"),
    [(15, "a check of a cart that is in stock"), (1, "a check of a cart with a short line")],
)
def test_a_check_of_a_cart_answers_each_line(inventory, notebooks, title):
    enough = notebooks >= NOTEBOOKS.quantity
    check = inventory.upon(title, "check-availability", {"items": ITEMS}, *in_stock(notebooks, 8))
    lines = [
        answered(NOTEBOOKS, available=enough, quantity=notebooks),
        answered(PENS, available=True, quantity=8),
    ]
    success(check, {"available": enough, "items": match.array_containing(lines)})
    assert inventory.ask(lambda gateway: gateway.check_availability(LINES)) == Availability(
        enough,
        (LineAvailability(*NOTEBOOKS.sku, enough, 2, notebooks), LineAvailability(*PENS.sku, True, 1, 8)),
    )
    assert inventory.outcomes == [SUCCESS]


@pytest.mark.parametrize(
    ("title", "states"),
    [
        ("a reservation of stock that is there", in_stock(15, 8)),
        ("a reservation asked for again", [*in_stock(2, 1), (HOLDS, {"orderId": ORDER_ID, "items": ITEMS})]),
    ],
)
def test_stock_is_reserved_and_a_repeated_request_is_answered_alike(inventory, title, states):
    success(inventory.upon(title, "reserve", RESERVE_BODY, *states), RESERVED)
    assert inventory.ask(lambda gateway: gateway.reserve(ORDER_ID, LINES, USER_ID)) == RESERVATION
    assert inventory.outcomes == [SUCCESS]


def test_a_shortage_is_refused_with_every_short_line(inventory):
    reserve = inventory.upon(
        "a reservation of more than there is",
        "reserve",
        RESERVE_BODY,
        *in_stock(1, 0),
    )
    short = [
        sku(NOTEBOOKS) | {"requestedQuantity": 2, "availableQuantity": match.int(1)},
        sku(PENS) | {"requestedQuantity": 1, "availableQuantity": match.int(0)},
    ]
    message = text("2 of the products are short of stock.")
    details = {"items": match.array_containing(short)}
    refusal(reserve, 409, {"code": "INSUFFICIENT_INVENTORY", "message": message, "details": details})
    error = inventory.ask(lambda gateway: gateway.reserve(ORDER_ID, LINES, USER_ID))
    assert isinstance(error, InsufficientInventory)
    assert error.details["items"] == [
        sku(NOTEBOOKS) | {"requestedQuantity": 2, "availableQuantity": 1},
        sku(PENS) | {"requestedQuantity": 1, "availableQuantity": 0},
    ]
    assert inventory.outcomes == [REJECTED]


def test_other_items_for_an_order_with_reserved_items_are_refused(inventory):
    reserve = inventory.upon(
        "a reservation of other items than the order holds",
        "reserve",
        RESERVE_BODY,
        *in_stock(15, 8),
        (HOLDS, {"orderId": ORDER_ID, "items": [PENS.wire()]}),
    )
    message = text("The order holds other lines than these already.")
    refusal(reserve, 422, {"code": "RESERVATION_FAILED", "message": message})
    error = inventory.ask(lambda gateway: gateway.reserve(ORDER_ID, LINES, USER_ID))
    assert isinstance(error, ReservationFailed)
    assert error.details == {
        "status": 422,
        "code": "RESERVATION_FAILED",
        "message": "The order holds other lines than these already.",
    }
    assert inventory.outcomes == [REJECTED]


@pytest.mark.parametrize(
    ("title", "state", "status"),
    [("a release of a reservation", HOLDS, 200), ("a release of stock that was deducted", DEDUCTED, 409)],
)
def test_a_reservation_is_released_unless_its_stock_was_deducted(inventory, title, state, status):
    states = [*in_stock(2, 1), (state, {"orderId": ORDER_ID, "items": ITEMS})]
    release = inventory.upon(title, "release", {"orderId": ORDER_ID}, *states)
    release.will_respond_with(status).with_body({"success": status == 200}, JSON)
    assert inventory.ask(lambda gateway: gateway.release(ORDER_ID)) is (status == 200)
    assert inventory.outcomes == [SUCCESS]


def test_a_service_that_knows_no_such_order_is_understood_and_not_required_to_answer_so(tmp_path):
    inventory = AgreedInventoryService(tmp_path, is_promised=False)
    release = inventory.upon("a release for an unknown order", "release", {"orderId": ORDER_ID})
    release.will_respond_with(404)
    assert inventory.ask(lambda gateway: gateway.release(ORDER_ID)) is False
    assert inventory.outcomes == [SUCCESS]
    assert list(tmp_path.iterdir()) == []
