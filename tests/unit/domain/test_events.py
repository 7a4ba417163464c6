"""The events that are published, field by field as the seed's section 3.2 and the contract's section 5 have them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from services.domain.orders import events
from services.domain.orders.model import Line, Order

AT = datetime(2023, 11, 21, 15, 27, 30, 123456, tzinfo=UTC)

ORDER = Order(
    order_id="f47ac10b-58cc-4372-a567-0e02b2c3d479",
    user_id="3fa85f64-5717-4562-b3fc-2c963f66afa6",
    customer_priority="standard",
    lines=(
        Line("0e8dddc7-9ebf-41f3-b08a-5a3f91f1c3c0", "7c9e6679-7425-40de-944b-e07fc1f90ae7", 2),
        Line("9e3a3ca9-4c41-4c3c-8e82-3b323d9a3e23", "4f6a9b7c-0e2d-4f37-9a3c-2e9a4e3b5c1d", 1),
    ),
    created_at=AT,
    updated_at=AT,
)

ITEMS = [
    {
        "productId": "0e8dddc7-9ebf-41f3-b08a-5a3f91f1c3c0",
        "variantId": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
        "quantity": 2,
    },
    {
        "productId": "9e3a3ca9-4c41-4c3c-8e82-3b323d9a3e23",
        "variantId": "4f6a9b7c-0e2d-4f37-9a3c-2e9a4e3b5c1d",
        "quantity": 1,
    },
]


def test_order_created_is_the_seeds():
    event = events.order_created(ORDER, "d290f1ee-6c54-4b01-90e6-d701748f0851", AT)
    assert (event.type, event.order_id) == ("order.created", ORDER.order_id)
    assert event.data == {
        "eventType": "order.created",
        "orderId": "f47ac10b-58cc-4372-a567-0e02b2c3d479",
        "userId": "3fa85f64-5717-4562-b3fc-2c963f66afa6",
        "items": ITEMS,
        "reservationId": "d290f1ee-6c54-4b01-90e6-d701748f0851",
        "timestamp": "2023-11-21T15:27:30.123Z",
    }


def test_order_cancelled_is_the_seeds():
    event = events.order_cancelled(ORDER, "CUSTOMER_CANCELLED", AT)
    assert event.data == {
        "eventType": "order.cancelled",
        "orderId": "f47ac10b-58cc-4372-a567-0e02b2c3d479",
        "userId": "3fa85f64-5717-4562-b3fc-2c963f66afa6",
        "items": ITEMS,
        "reason": "CUSTOMER_CANCELLED",
        "timestamp": "2023-11-21T15:27:30.123Z",
    }


def test_order_returned_carries_what_came_back():
    event = events.order_returned(ORDER, "r-1", ORDER.lines[:1], "DAMAGED", True, AT)
    assert event.data == {
        "eventType": "order.returned",
        "orderId": "f47ac10b-58cc-4372-a567-0e02b2c3d479",
        "userId": "3fa85f64-5717-4562-b3fc-2c963f66afa6",
        "returnId": "r-1",
        "items": ITEMS[:1],
        "reason": "DAMAGED",
        "restockable": True,
        "timestamp": "2023-11-21T15:27:30.123Z",
    }


def test_confirm_requested_carries_order_and_reservation_only():
    event = events.confirm_requested("o-1", "r-1")
    assert (event.type, event.data) == ("inventory.confirm_requested", {"orderId": "o-1", "reservationId": "r-1"})


def test_a_timestamp_is_utc_with_milliseconds_and_a_z():
    assert events.timestamp(AT) == "2023-11-21T15:27:30.123Z"
    assert events.timestamp(AT.replace(microsecond=0)) == "2023-11-21T15:27:30.000Z"
    there = AT.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert events.timestamp(there) == "2023-11-21T15:27:30.123Z"


def test_the_lists_of_events_are_complete_and_apart():
    assert set(events.OUTGOING) == {
        "order.created",
        "order.cancelled",
        "order.returned",
        "inventory.confirm_requested",
    }
    assert set(events.INCOMING) == {
        "inventory.confirmed",
        "inventory.confirmation_failed",
        "inventory.out_of_stock",
        "inventory.low_stock",
        "inventory.back_in_stock",
    }
