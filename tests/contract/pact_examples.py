"""The seed's own examples, and how far the values of others may differ from them.

Fields without a matcher must be equal. Source: requirements 3.1, 3.2, 5 and 10.3.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pact import match

from services.domain.orders.model import Line

HOLDFAST = "OrderService"
HOLDFAST_EVENTS = "OrderServiceEvents"
INVENTORY = "InventoryService"
INVENTORY_EVENTS = "InventoryServiceEvents"
"""The seed's names; events have providers of their own, because they are verified in another way."""

ORDER_ID = "f47ac10b-58cc-4372-a567-0e02b2c3d479"
USER_ID = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
RESERVATION_ID = "d290f1ee-6c54-4b01-90e6-d701748f0851"
EVENT_ID = "6f1c2f0e-3f0a-4c6e-9a58-5d7d3a1f6b20"
RETURN_ID = "a5c1f7d2-8a0b-4f6e-b1f3-2f3f5c0e9d11"

NOTEBOOKS = Line("0e8dddc7-9ebf-41f3-b08a-5a3f91f1c3c0", "7c9e6679-7425-40de-944b-e07fc1f90ae7", 2)
PENS = Line("9e3a3ca9-4c41-4c3c-8e82-3b323d9a3e23", "4f6a9b7c-0e2d-4f37-9a3c-2e9a4e3b5c1d", 1)
LINES = (NOTEBOOKS, PENS)
ITEMS = [line.wire() for line in LINES]
SKU = {"productId": NOTEBOOKS.product_id, "variantId": NOTEBOOKS.variant_id}

JSON = "application/json"

HAS_STOCK = "the variant has stock"
HOLDS = "the order holds a reservation"
DEDUCTED = "the stock of the order was deducted"
"""Provider states. HAS_STOCK: ``{productId, variantId, quantity}``, the others ``{orderId, items}``."""

NOW = datetime(2023, 11, 21, 15, 27, 30, 123_000, tzinfo=UTC)
NOW_TEXT = "2023-11-21T15:27:30.123Z"
EXPIRES_TEXT = "2023-11-21T15:57:30.123Z"


def identifier(example: str) -> Any:
    """Text of 1 to 128 characters."""
    return match.regex(example, regex=r"^.{1,128}$")


def moment(example: str = NOW_TEXT) -> Any:
    """UTC with milliseconds and a Z."""
    return match.regex(example, regex=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$")


def text(example: str) -> Any:
    """Text for people; not empty."""
    return match.regex(example, regex=r"^.+")


def items() -> Any:
    """One or more lines of any product."""
    product_id, variant_id = identifier(NOTEBOOKS.product_id), identifier(NOTEBOOKS.variant_id)
    return match.each_like({"productId": product_id, "variantId": variant_id, "quantity": match.int(2)})


COMMITTED = Path(__file__).parent / "pacts"


def committed(consumer: str, provider: str) -> Path:
    """The contract between two parties as everybody has agreed to it."""
    return COMMITTED / f"{consumer}-{provider}.json"
