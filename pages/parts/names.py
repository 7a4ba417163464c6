"""Names of actions, commands, reasons, failures and calls, on buttons and in messages. States are in labels."""

from __future__ import annotations

from services.domain.bulk import BulkAction, ControlAction
from services.domain.calls import FailureClass, InventoryCall
from services.domain.commands import COMMANDS
from services.domain.orders.model import CustomerPriority
from services.domain.reviews import ReleaseActionKind, ResolutionReason, ReviewAction

ACTIONS: dict[str, str] = {
    ReviewAction.RETRY_RESERVATION: "Retry reservation",
    ReviewAction.RECONFIRM: "Confirm again",
    ReviewAction.APPROVE: "Approve",
    ReviewAction.CANCEL_ORDER: "Cancel order",
    ReviewAction.MARK_RELEASED: "Mark released",
    ReviewAction.RETRY_STEP: "Try again",
}
CONSEQUENCES: dict[str, str] = {
    "retry_release": "One attempt each. Releasing twice is harmless: the second finds no reservation.",
    "mark_released": "Each job is closed without a release: you have verified that nothing is reserved any more. Jobs "
    "whose stock the Inventory Service has still reserved or has sold are refused. This cannot be undone.",
    "replay_event": "The handler runs on the stored bytes again, the oldest first. What was handled before has no "
    "second effect; what fails again stays open with its new reason.",
    "discard_event": "These events will never take effect; the dead letters stay readable for 90 days. "
    "This cannot be undone.",
    "RETRY_RESERVATION": "The Inventory Service is asked to reserve once more. Nothing has been charged.",
    "RETRY_STEP": "The step that failed is tried again within a second. The other services are asked first, so that "
    "nothing is reserved or charged twice. If it fails again, the case comes back.",
    "RECONFIRM": "Stock is reserved anew where needed, and its deduction is requested again.",
    "APPROVE": "The case is closed as checked by you. The order goes on as it stands.",
    "CANCEL_ORDER": "The order is cancelled, reserved stock is released and captured money is refunded. "
    "This cannot be undone.",
    "MARK_RELEASED": "The job is closed without another call: you have verified that nothing is reserved any more. "
    "This cannot be undone.",
}
KINDS: dict[str, str] = {kind: command.label for kind, command in COMMANDS.items()} | {
    BulkAction.REPLAY_EVENT: "Replay events",
    BulkAction.DISCARD_EVENT: "Discard events",
}
CONTROLS: dict[str, str] = {
    ControlAction.PAUSE: "Pause",
    ControlAction.RESUME: "Resume",
    ControlAction.CANCEL: "Cancel the rest",
}
"""Labels of the controls of a bulk job."""
RESOLUTION_REASONS: dict[str, str] = {
    ResolutionReason.CUSTOMER_ASKED: "The customer asked for it",
    ResolutionReason.OUT_OF_STOCK: "Out of stock",
    ResolutionReason.SUSPECTED_FRAUD: "Suspected fraud",
    ResolutionReason.DUPLICATE_ORDER: "Duplicate order",
    ResolutionReason.PAYMENT_SEEN: "Payment seen at the gateway",
    ResolutionReason.STOCK_SEEN: "Stock seen",
    ResolutionReason.SEEN_RELEASED: "Seen released at the Inventory Service",
    ResolutionReason.NEVER_RESERVED: "Nothing was ever reserved",
    ResolutionReason.OTHER: "Other, see note",
}
FIELDS: dict[str, str] = {"note": "Note", "resolutionReason": "Resolution reason"}
PAST_ACTIONS: dict[str, str] = ACTIONS | {
    "BY_ITSELF": "Settled by itself",
    ReleaseActionKind.RETRY: "Retry",
    ReleaseActionKind.BULK_RETRY: "Bulk retry",
    ReleaseActionKind.AUTOMATIC: "Automatic retries",
    ReleaseActionKind.MARKED: "Marked released",
    ReleaseActionKind.BULK_MARKED: "Marked released in bulk",
}
AUDIT: dict[str, str] = {
    "CANCEL_ORDER": "Cancelled the order",
    "RETURN_ITEMS": "Recorded a return",
    "RETRY_RELEASE": "Retried a release",
    "COMPENSATE": "Compensated a difference",
    "FORCE_BREAKER": "Forced a breaker",
    "END_BREAKER_OVERRIDE": "Ended a forced breaker state",
    "UNDO": "Took an action back",
    "REPLAY_EVENT": "Replayed an event",
    "DISCARD_EVENT": "Discarded an event",
    "RETRY_OUTGOING_EVENT": "Published an event again",
    "DISCARD_OUTGOING_EVENT": "Gave an outgoing event up",
    "START_DRILL": "Started a drill",
    "STOP_DRILL": "Stopped a drill",
    "FINISH_DRILL": "Drill finished",
    "SET_TRAFFIC": "Set the demo traffic",
    "RETRY_RESERVATION": "Retried a reservation",
    "RECONFIRM": "Asked to confirm again",
    "RETRY_STEP": "Had a failed step tried again",
    "APPROVE": "Approved a case",
    "MARK_RELEASED": "Marked as released",
    "MARK_AS_SEEN": "Took note of the hand-over",
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
CALL: dict[str, str] = {
    InventoryCall.CHECK_AVAILABILITY: "Availability check",
    InventoryCall.RESERVE: "Reservation",
    InventoryCall.RELEASE: "Release",
    "confirm": "Confirmation",
}
QUEUE: dict[str, str] = {
    "reservation": "Waiting for inventory",
    "release": "Releases pending",
    "outbox": "Outbox",
    "reviews": "Flagged orders",
    "deadLetters": "Dead letters",
}
SOURCES: dict[str, str] = {
    "inventory.out_of_stock": "event: out of stock",
    "inventory.low_stock": "event: low stock",
    "inventory.back_in_stock": "event: back in stock",
    "decay": "no news for long",
}
PRIORITY: dict[str, str] = {CustomerPriority.HIGH: "High priority", CustomerPriority.STANDARD: "Standard"}
