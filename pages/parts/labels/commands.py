"""Commands: their kinds, on buttons and in messages, their states, and how the audit log names an action."""

from __future__ import annotations

from pages.parts.labels.markdown import Word, plain

KINDS: dict[str, str] = {
    "return_items": "Return items",
    "replay_dead_letter": "Replay event",
    "discard_dead_letter": "Discard event",
    "retry_outgoing_event": "Publish event again",
    "discard_outgoing_event": "Give event up",
    "replay_event": "Replay events",
    "discard_event": "Discard events",
    "start_drill": "Start drill",
    "stop_drill": "Stop drill",
    "set_traffic": "Set traffic",
    "retry_release": "Retry release",
    "mark_released": "Mark released",
    "steer_operation": "BulkControl operation",
    "resolve_review": "Resolve case",
    "cancel_order": "Cancel order",
    "compensate": "Compensate",
    "claim_review": "Claim case",
    "release_claim": "Hand case back",
    "ask_theirs": "Ask the Inventory Service",
    "ask_theirs_many": "Ask the Inventory Service about several orders",
    "set_override": "Override breaker",
    "end_override": "End the override",
    "acknowledge_alert": "Acknowledge alert",
    "silence_alert": "Silence",
    "end_silence": "End silence",
}
COMMAND: dict[str, Word] = {
    "STORED": Word("Stored", "schedule", "gray"),
    "RUNNING": Word("Running", "sync", "blue"),
    "DONE": Word("Done", "check_circle", "green"),
    "REFUSED": Word("Refused", "block", "red"),
    "WITHDRAWN": Word("Taken back", "undo", "gray"),
    "FAILED": Word("Effect unknown", "help", "orange"),
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
    """What a kind of command is called, for Markdown."""
    return KINDS.get(name) or plain(name)
