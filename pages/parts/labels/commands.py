"""Commands: their kinds, on buttons and in messages, their states, and how the audit log names an action."""

from __future__ import annotations

from pages.parts.labels.markdown import Word, plain
from services.domain.bulk import BulkAction
from services.domain.commands import COMMANDS, CommandState

KINDS: dict[str, str] = {kind: command.label for kind, command in COMMANDS.items()} | {
    BulkAction.REPLAY_EVENT: "Replay events",
    BulkAction.DISCARD_EVENT: "Discard events",
}
COMMAND: dict[str, Word] = {
    CommandState.STORED: Word("Stored", "schedule", "gray"),
    CommandState.RUNNING: Word("Running", "sync", "blue"),
    CommandState.DONE: Word("Done", "check_circle", "green"),
    CommandState.REFUSED: Word("Refused", "block", "red"),
    CommandState.WITHDRAWN: Word("Taken back", "undo", "gray"),
    CommandState.FAILED: Word("Effect unknown", "help", "orange"),
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


def kind(name: str) -> str:
    """Label of a command kind or bulk action, for Markdown."""
    return KINDS.get(name) or plain(name)
