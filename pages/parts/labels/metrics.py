"""Metrics: labels of calls, failures and queues in charts and tiles."""

from __future__ import annotations

from pages.parts.labels.reviews import REVIEW
from services.domain.call_attempts import InventoryCall

CALL: dict[str, str] = {
    InventoryCall.CHECK_AVAILABILITY: "Availability check",
    InventoryCall.RESERVE: "Reservation",
    InventoryCall.RELEASE: "Release",
    "confirm": "Confirmation",
}
FAILURE: dict[str, str] = {
    "INVENTORY_UNAVAILABLE": "Inventory unavailable",
    "INSUFFICIENT_INVENTORY": "Insufficient inventory",
    "INVENTORY_TIMEOUT": "Inventory timeout",
    "RESERVATION_FAILED": "Reservation failed",
    **{reason: word.text for reason, word in REVIEW.items()},
}
QUEUE: dict[str, str] = {
    "reservation": "Waiting for inventory",
    "release": "Releases pending",
    "outbox": "Outbox",
    "reviews": "Flagged orders",
    "deadLetters": "Dead letters",
}
