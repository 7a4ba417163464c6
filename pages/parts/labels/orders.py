"""Orders: states of the order, its stock and its payment; steps of its timeline; customer priority."""

from __future__ import annotations

from pages.parts.labels.markdown import Word
from services.domain.orders.model import CustomerPriority, InventoryStatus, OrderStatus, PaymentStatus

ORDER: dict[str, Word] = {
    OrderStatus.RECEIVED: Word("Received", "inbox", "gray"),
    OrderStatus.RESERVING: Word("Reserving", "hourglass_top", "blue"),
    OrderStatus.PENDING_INVENTORY: Word("Waiting for inventory", "hourglass_top", "orange"),
    OrderStatus.PAYING: Word("Paying", "credit_card", "blue"),
    OrderStatus.PLACED: Word("Placed", "shopping_bag", "blue"),
    OrderStatus.CONFIRMED: Word("Confirmed", "check_circle", "green"),
    OrderStatus.CONFIRMATION_FAILED: Word("Confirmation failed", "error", "red"),
    OrderStatus.CANCELLED: Word("Cancelled", "cancel", "gray"),
    OrderStatus.REJECTED: Word("Rejected", "block", "gray"),
    OrderStatus.PARTIALLY_RETURNED: Word("Partially returned", "undo", "gray"),
    OrderStatus.RETURNED: Word("Returned", "undo", "gray"),
}
INVENTORY: dict[str, Word] = {
    InventoryStatus.NONE: Word("Nothing reserved", "remove", "gray"),
    InventoryStatus.RESERVED: Word("Reserved", "lock", "blue"),
    InventoryStatus.CONFIRM_REQUESTED: Word("Confirmation requested", "outgoing_mail", "blue"),
    InventoryStatus.INVENTORY_CONFIRMED: Word("Deducted", "check_circle", "green"),
    InventoryStatus.INVENTORY_FAILED: Word("Refused", "error", "red"),
    InventoryStatus.RELEASE_PENDING: Word("Release pending", "hourglass_top", "orange"),
    InventoryStatus.RELEASED: Word("Released", "lock_open", "gray"),
    InventoryStatus.RELEASE_FAILED: Word("Release failed", "error", "red"),
    InventoryStatus.RESTOCK_REQUESTED: Word("Restock requested", "outgoing_mail", "gray"),
}
PAYMENT: dict[str, Word] = {
    PaymentStatus.NONE: Word("Not charged", "remove", "gray"),
    PaymentStatus.UNKNOWN: Word("Unknown", "help", "orange"),
    PaymentStatus.CAPTURED: Word("Captured", "check_circle", "green"),
    PaymentStatus.REFUND_PENDING: Word("Refund pending", "hourglass_top", "orange"),
    PaymentStatus.REFUNDED: Word("Refunded", "undo", "gray"),
    PaymentStatus.FAILED: Word("Not charged, failed", "block", "gray"),
}
PRIORITY: dict[str, str] = {CustomerPriority.HIGH: "High priority", CustomerPriority.STANDARD: "Standard"}
TIMELINE: dict[str, Word] = {
    "transition": Word("Status", "arrow_forward", "blue"),
    "call": Word("Call", "swap_horiz", "violet"),
    "event_out": Word("Event out", "upload", "gray"),
    "event_in": Word("Event in", "download", "gray"),
    "action": Word("By a person", "person", "orange"),
}
WITH_RESERVATION = (
    InventoryStatus.RESERVED,
    InventoryStatus.CONFIRM_REQUESTED,
    InventoryStatus.INVENTORY_FAILED,
    InventoryStatus.RELEASE_PENDING,
    InventoryStatus.RELEASE_FAILED,
)
"""Inventory statuses in which the Inventory Service may have a reservation, so that its expiry matters."""
