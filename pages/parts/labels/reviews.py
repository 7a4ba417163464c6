"""Manual review: reasons of a case, actions on it, reasons of a resolution, and inventory statuses."""

from __future__ import annotations

from pages.parts.labels.markdown import Word, plain
from services.domain.conservation import StockState
from services.domain.orders.model import ReviewReason
from services.domain.resolution_reasons import ResolutionReason
from services.domain.reviews import ReviewAction

REVIEW: dict[str, Word] = {
    ReviewReason.AVAILABILITY_UNVERIFIED: Word("Availability unverified", "help", "violet"),
    ReviewReason.PENDING_INVENTORY: Word("Waiting for inventory", "hourglass_top", "orange"),
    ReviewReason.INVENTORY_CONFIRMATION_FAILED: Word("Confirmation failed", "error", "red"),
    ReviewReason.CONFIRMATION_TIMEOUT: Word("No confirmation", "timer_off", "orange"),
    ReviewReason.RELEASE_FAILED: Word("Release failed", "lock_reset", "red"),
    ReviewReason.PAYMENT_UNKNOWN: Word("Payment unknown", "credit_card_off", "red"),
    ReviewReason.STEP_FAILED: Word("Step failed", "running_with_errors", "red"),
    ReviewReason.CONSERVATION_DIFFERENCE: Word("Does not add up", "balance", "red"),
}
ACTIONS: dict[str, str] = {
    ReviewAction.RETRY_RESERVATION: "Retry reservation",
    ReviewAction.RECONFIRM: "Confirm again",
    ReviewAction.APPROVE: "Approve",
    ReviewAction.CANCEL_ORDER: "Cancel order",
    ReviewAction.MARK_RELEASED: "Mark released",
    ReviewAction.RETRY_STEP: "Try again",
}
RESOLUTION_REASONS: dict[str, str] = {
    ResolutionReason.CUSTOMER_ASKED: "The customer asked for it",
    ResolutionReason.OUT_OF_STOCK: "Out of stock",
    ResolutionReason.SUSPECTED_FRAUD: "Suspected fraud",
    ResolutionReason.DUPLICATE_ORDER: "Duplicate order",
    ResolutionReason.PAYMENT_SEEN: "Payment seen at the gateway",
    ResolutionReason.STOCK_SEEN: "Stock seen",
    ResolutionReason.SEEN_RELEASED: "Seen released in their ledger",
    ResolutionReason.NEVER_RESERVED: "Nothing was ever reserved",
    ResolutionReason.OTHER: "Other, see note",
}
FIELDS: dict[str, str] = {"note": "Note", "resolutionReason": "Resolution reason"}
STOCK_STATE: dict[str, Word] = {
    StockState.RESERVED: Word("Reserved", "lock", "blue"),
    StockState.DEDUCTED: Word("Deducted", "check_circle", "green"),
    StockState.FREE: Word("Nothing reserved", "lock_open", "gray"),
}
LOOKUP_PROBLEM: dict[str, Word] = {
    "CANNOT_ANSWER": Word("Cannot answer", "help", "gray"),
    "NO_ANSWER": Word("No answer", "cloud_off", "orange"),
}

SETTLED_BY_ITSELF = "SETTLED"
"""The resolution of a case that events settled without an action of a person."""


def resolution(action: str | None, by: str | None) -> str:
    """The resolution of a case and its actor, as text."""
    if action in (None, SETTLED_BY_ITSELF):
        return "settled by itself"
    return f"{ACTIONS.get(str(action), plain(action))} by {plain(by or 'the service')}"
