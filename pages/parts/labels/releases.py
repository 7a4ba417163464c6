"""Release jobs: their states, past actions on them, and failure classes."""

from __future__ import annotations

from pages.parts.labels.markdown import Word
from pages.parts.labels.reviews import ACTIONS
from services.domain.failures import FailureClass
from services.domain.past_resolutions import ReleaseActionKind

RELEASE: dict[str, Word] = {
    "PENDING": Word("Pending", "hourglass_top", "orange"),
    "FAILED": Word("Failed", "error", "red"),
    "DONE": Word("Released", "check_circle", "green"),
}
PAST_ACTIONS: dict[str, str] = ACTIONS | {
    "BY_ITSELF": "Settled by itself",
    ReleaseActionKind.RETRY: "Retry",
    ReleaseActionKind.BULK_RETRY: "Bulk retry",
    ReleaseActionKind.AUTOMATIC: "Automatic retries",
    ReleaseActionKind.MARKED: "Marked released",
    ReleaseActionKind.BULK_MARKED: "Marked released in bulk",
}
FAILURES: dict[str, str] = {
    FailureClass.NOT_TRIED: "Not tried yet",
    FailureClass.BREAKER_OPEN: "The circuit breaker is open",
    FailureClass.THROTTLED: "The Inventory Service limits calls",
    FailureClass.CALLER_REFUSED: "The Inventory Service refuses this service",
    FailureClass.TIMEOUT: "The Inventory Service took too long",
    FailureClass.UNAVAILABLE: "The Inventory Service is unavailable",
    FailureClass.RELEASE_REFUSED: "The Inventory Service refused the release",
    FailureClass.RESERVATION_REFUSED: "The Inventory Service refused the reservation",
    FailureClass.SHORT_OF_STOCK: "Not enough stock",
    FailureClass.UNEXPECTED: "Failed unexpectedly",
    FailureClass.NOT_RECORDED: "The outcome could not be stored",
}
