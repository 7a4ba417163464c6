"""Stock: levels and their sources, and the differences of the conservation audit."""

from __future__ import annotations

from pages.parts.labels.markdown import Word
from services.domain.conservation import DifferenceKind

STOCK: dict[str, Word] = {
    "out": Word("Out of stock", "production_quantity_limits", "red"),
    "low": Word("Low", "trending_down", "orange"),
    "in_stock": Word("In stock", "check_circle", "green"),
}
SOURCES: dict[str, str] = {
    "inventory.out_of_stock": "event: out of stock",
    "inventory.low_stock": "event: low stock",
    "inventory.back_in_stock": "event: back in stock",
    "decay": "no news for long",
}
DIFFERENCE: dict[str, Word] = {
    DifferenceKind.RESERVATION_LEAKED: Word("Reservation leaked", "lock", "red"),
    DifferenceKind.DEDUCTION_KEPT: Word("Deduction kept", "inventory", "red"),
    DifferenceKind.NOT_DEDUCTED: Word("Not deducted", "inventory_2", "red"),
    DifferenceKind.MONEY_KEPT: Word("Money kept", "payments", "red"),
    DifferenceKind.NOT_PAID: Word("Not paid", "money_off", "red"),
}
DIFFERENCE_STATE: dict[str, Word] = {
    "OPEN": Word("Open", "error", "red"),
    "COMPENSATING": Word("Being settled", "hourglass_top", "orange"),
}
