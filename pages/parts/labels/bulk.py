"""Bulk jobs: states of a job and of its items, the controls of a job, and the consequences of each action."""

from __future__ import annotations

from pages.parts.labels.markdown import Word
from services.domain.bulk import BulkItemState, BulkJobState, ControlAction

BULK_JOB: dict[str, Word] = {
    BulkJobState.RUNNING: Word("Running", "sync", "blue"),
    BulkJobState.PAUSED: Word("Paused", "pause_circle", "orange"),
    BulkJobState.STOPPED: Word("Stopped itself", "front_hand", "red"),
    BulkJobState.DONE: Word("Done", "check_circle", "green"),
    "UNCONFIRMED": Word("Ended, not all confirmed", "error", "orange"),
    BulkJobState.CANCELLED: Word("Cancelled", "cancel", "gray"),
}
BULK_ITEM: dict[str, Word] = {
    BulkItemState.ASKED: Word("Waits for its turn", "schedule", "gray"),
    BulkItemState.SENT: Word("Sent", "outgoing_mail", "blue"),
    BulkItemState.ACCEPTED: Word("Accepted", "done", "blue"),
    BulkItemState.CONFIRMED: Word("Confirmed", "check_circle", "green"),
    BulkItemState.RECORDED: Word("Recorded here", "task_alt", "green"),
    BulkItemState.FAILED: Word("Failed again", "error", "red"),
    BulkItemState.UNANSWERED: Word("Never answered", "help", "orange"),
    BulkItemState.SKIPPED: Word("Skipped, changed", "redo", "gray"),
    BulkItemState.NOT_SENT: Word("Never sent", "block", "gray"),
}
CONTROLS: dict[str, str] = {
    ControlAction.PAUSE: "Pause",
    ControlAction.RESUME: "Resume",
    ControlAction.CANCEL: "Cancel the rest",
}
"""Labels of the controls of a bulk job."""
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
