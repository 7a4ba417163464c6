"""What people can ask for on the console, and what each kind of command acts on.

Source: console rule 8: what is refused is found in the audit log where what is done is found.
"""

from __future__ import annotations

from collections.abc import Mapping

TARGETS: Mapping[str, str] = {
    "cancel_order": "order",
    "return_items": "order",
    "ask_theirs": "order",
    "ask_theirs_many": "preview",
    "resolve_review": "review",
    "claim_review": "review",
    "release_claim": "review",
    "retry_release": "release",
    "mark_released": "release",
    "compensate": "difference",
    "steer_operation": "operation",
    "replay_dead_letter": "dead-letter",
    "discard_dead_letter": "dead-letter",
    "retry_outgoing_event": "outbox-event",
    "discard_outgoing_event": "outbox-event",
    "set_override": "breaker",
    "end_override": "breaker",
    "acknowledge_alert": "alert",
    "silence_alert": "alert",
    "end_silence": "silence",
    "start_drill": "drill",
    "stop_drill": "drill",
    "set_traffic": "sandbox",
}
"""What the target of a command is called in the audit log, as in the entry of the action itself."""

OF_ORDERS = frozenset(kind for kind, target in TARGETS.items() if target in ("order", "release"))
"""Kinds whose target is known by its order's id."""
