"""States in words, each with an icon; colour comes last, so that everything reads in grey.

The words of a filter's options also stand in addresses, so a changed word breaks saved links.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from services.console.status import NAMES

Color = Literal["red", "orange", "blue", "green", "violet", "gray"]

_BREAK = "\u200b"
_LINKED = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?=@)", re.IGNORECASE)
"""Markdown makes links of bare addresses, escaped ones too; an invisible break at these places prevents it."""

_BROKEN = re.compile(rf"{_BREAK}(?=//|\.|@)")

MOST_TEXT = 2_000
"""Characters of a foreign text on a page."""
MOST_STATE = 60
"""Characters of an unknown state."""

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~$:&])")


class Word(NamedTuple):
    """How a state is said and drawn."""

    text: str
    icon: str
    color: Color


ORDER = {
    "RECEIVED": Word("Received", "inbox", "gray"),
    "RESERVING": Word("Reserving", "hourglass_top", "blue"),
    "PENDING_INVENTORY": Word("Waiting for inventory", "hourglass_top", "orange"),
    "PAYING": Word("Paying", "credit_card", "blue"),
    "PLACED": Word("Placed", "shopping_bag", "blue"),
    "CONFIRMED": Word("Confirmed", "check_circle", "green"),
    "CONFIRMATION_FAILED": Word("Confirmation failed", "error", "red"),
    "CANCELLED": Word("Cancelled", "cancel", "gray"),
    "REJECTED": Word("Rejected", "block", "gray"),
    "PARTIALLY_RETURNED": Word("Partially returned", "undo", "gray"),
    "RETURNED": Word("Returned", "undo", "gray"),
}
INVENTORY = {
    "NONE": Word("Nothing held", "remove", "gray"),
    "RESERVED": Word("Reserved", "lock", "blue"),
    "CONFIRM_REQUESTED": Word("Confirmation requested", "outgoing_mail", "blue"),
    "INVENTORY_CONFIRMED": Word("Deducted", "check_circle", "green"),
    "INVENTORY_FAILED": Word("Refused", "error", "red"),
    "RELEASE_PENDING": Word("Release pending", "hourglass_top", "orange"),
    "RELEASED": Word("Released", "lock_open", "gray"),
    "RELEASE_FAILED": Word("Release failed", "error", "red"),
    "RESTOCK_REQUESTED": Word("Restock requested", "outgoing_mail", "gray"),
}
PAYMENT = {
    "NONE": Word("Not charged", "remove", "gray"),
    "UNKNOWN": Word("Unknown", "help", "orange"),
    "CAPTURED": Word("Captured", "check_circle", "green"),
    "REFUND_PENDING": Word("Refund pending", "hourglass_top", "orange"),
    "REFUNDED": Word("Refunded", "undo", "gray"),
    "FAILED": Word("Not charged, failed", "block", "gray"),
}
REVIEW = {
    "AVAILABILITY_UNVERIFIED": Word("Availability unverified", "help", "violet"),
    "PENDING_INVENTORY": Word("Waiting for inventory", "hourglass_top", "orange"),
    "INVENTORY_CONFIRMATION_FAILED": Word("Confirmation failed", "error", "red"),
    "CONFIRMATION_TIMEOUT": Word("No confirmation", "timer_off", "orange"),
    "RELEASE_FAILED": Word("Release failed", "lock_reset", "red"),
    "PAYMENT_UNKNOWN": Word("Payment unknown", "credit_card_off", "red"),
    "STEP_FAILED": Word("Step failed", "running_with_errors", "red"),
    "CONSERVATION_DIFFERENCE": Word("Does not add up", "balance", "red"),
}
RELEASE = {
    "PENDING": Word("Pending", "hourglass_top", "orange"),
    "FAILED": Word("Failed", "error", "red"),
    "DONE": Word("Released", "check_circle", "green"),
}
BREAKER = {
    "closed": Word("Closed", "check_circle", "green"),
    "open": Word("Open", "block", "red"),
    "half_open": Word("Half-open", "hourglass_top", "orange"),
    "forced_open": Word("Forced open", "front_hand", "red"),
    "forced_closed": Word("Forced closed", "front_hand", "orange"),
}
COMMAND = {
    "STORED": Word("Stored", "schedule", "gray"),
    "RUNNING": Word("Running", "sync", "blue"),
    "DONE": Word("Done", "check_circle", "green"),
    "REFUSED": Word("Refused", "block", "red"),
    "WITHDRAWN": Word("Taken back", "undo", "gray"),
    "FAILED": Word("Effect unknown", "help", "orange"),
}
TIMELINE = {
    "transition": Word("Status", "arrow_forward", "blue"),
    "call": Word("Call", "swap_horiz", "violet"),
    "event_out": Word("Event out", "upload", "gray"),
    "event_in": Word("Event in", "download", "gray"),
    "action": Word("By a person", "person", "orange"),
}
DIFFERENCE = {
    "HOLD_LEAKED": Word("Hold leaked", "lock", "red"),
    "DEDUCTION_KEPT": Word("Deduction kept", "inventory", "red"),
    "NOT_DEDUCTED": Word("Not deducted", "inventory_2", "red"),
    "MONEY_KEPT": Word("Money kept", "payments", "red"),
    "NOT_PAID": Word("Not paid", "money_off", "red"),
}
DIFFERENCE_STATE = {
    "OPEN": Word("Open", "error", "red"),
    "COMPENSATING": Word("Being settled", "hourglass_top", "orange"),
}
BULK_JOB = {
    "RUNNING": Word("Running", "sync", "blue"),
    "PAUSED": Word("Paused", "pause_circle", "orange"),
    "STOPPED": Word("Stopped itself", "front_hand", "red"),
    "DONE": Word("Done", "check_circle", "green"),
    "UNCONFIRMED": Word("Ended, not all confirmed", "error", "orange"),
    "CANCELLED": Word("Cancelled", "cancel", "gray"),
}

BULK_ITEM = {
    "ASKED": Word("Waits for its turn", "schedule", "gray"),
    "SENT": Word("Sent", "outgoing_mail", "blue"),
    "ACCEPTED": Word("Accepted", "done", "blue"),
    "CONFIRMED": Word("Confirmed", "check_circle", "green"),
    "RECORDED": Word("Recorded here", "task_alt", "green"),
    "FAILED": Word("Failed again", "error", "red"),
    "UNANSWERED": Word("Never answered", "help", "orange"),
    "SKIPPED": Word("Skipped, changed", "redo", "gray"),
    "NOT_SENT": Word("Never sent", "block", "gray"),
}
CALL = {
    "check_availability": "Availability check",
    "reserve": "Reservation",
    "release": "Release",
    "confirm": "Confirmation",
}
IMPACT = {
    "denied": Word("Call denied", "block", "red"),
    "fallback": Word("Fallback served", "alt_route", "orange"),
    "flagged": Word("Flagged", "flag", "orange"),
    "refused": Word("Order refused", "cancel", "red"),
    "timeout": Word("Timed out", "timer_off", "violet"),
}
FAILURE = {
    "INVENTORY_UNAVAILABLE": "Inventory unavailable",
    "INSUFFICIENT_INVENTORY": "Insufficient inventory",
    "INVENTORY_TIMEOUT": "Inventory timeout",
    "RESERVATION_FAILED": "Reservation failed",
    **{reason: word.text for reason, word in REVIEW.items()},
}
QUEUE = {
    "reservation": "Waiting for inventory",
    "release": "Releases pending",
    "outbox": "Outbox",
    "reviews": "Flagged orders",
    "deadLetters": "Dead letters",
}
ALERT = {
    "firing": Word("Firing", "notifications_active", "red"),
    "pending": Word("Pending", "hourglass_top", "orange"),
    "resolved": Word("Resolved", "check_circle", "green"),
}
SEVERITY = {
    "critical": Word("Critical", "error", "red"),
    "warning": Word("Warning", "warning", "orange"),
}
ALERT_SOURCE = {
    "worker": Word("Judged here", "dns", "gray"),
    "prometheus": Word("Received from Prometheus", "input", "gray"),
}
ALERT_EVENT = {
    "FIRING": Word("Firing", "notifications_active", "red"),
    "RESOLVED": Word("Resolved", "check_circle", "green"),
    "ACKNOWLEDGED": Word("Acknowledged", "person_check", "blue"),
    "SILENCED": Word("Silenced", "notifications_off", "violet"),
    "SILENCE_ENDED": Word("Silence ended", "notifications", "gray"),
}
NOTIFICATION = {
    "PENDING": Word("Waits", "schedule", "orange"),
    "SENT": Word("Sent", "check_circle", "green"),
    "FAILED": Word("Given up", "error", "red"),
}
OUTGOING = {
    "pending": Word("Not published", "schedule", "orange"),
    "failing": Word("Refused, tried again", "error", "red"),
    "undeliverable": Word("Cannot be published", "unsubscribe", "red"),
    "published": Word("Published", "check_circle", "green"),
}
INCOMING = {
    "handled": Word("Handled", "check_circle", "green"),
    "ignored": Word("Changed nothing", "remove", "gray"),
    "duplicate": Word("Came again", "content_copy", "gray"),
}
DEAD_LETTER = {
    "OPEN": Word("Open", "mark_email_unread", "red"),
    "REPLAYED": Word("Replayed", "check_circle", "green"),
    "DISCARDED": Word("Discarded", "delete", "gray"),
}
STOCK = {
    "out": Word("Out of stock", "production_quantity_limits", "red"),
    "low": Word("Low", "trending_down", "orange"),
    "in_stock": Word("In stock", "check_circle", "green"),
}
SOURCES = {
    "inventory.out_of_stock": "event: out of stock",
    "inventory.low_stock": "event: low stock",
    "inventory.back_in_stock": "event: back in stock",
    "decay": "no news for long",
}
DRILL = {
    "WAITING": Word("Waiting to begin", "schedule", "gray"),
    "APPLYING": Word("Switching faults on", "sync", "orange"),
    "RUNNING": Word("Faults are on", "local_fire_department", "red"),
    "RESTORING": Word("Switching faults off", "sync", "orange"),
    "RECOVERING": Word("Recovering", "healing", "orange"),
    "CHECKING": Word("Comparing the books", "balance", "blue"),
    "DONE": Word("Finished", "check_circle", "green"),
}
AUDIT = {
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
KINDS = {
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
    "steer_operation": "Steer operation",
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
ACTIONS = {
    "RETRY_RESERVATION": "Retry reservation",
    "RECONFIRM": "Confirm again",
    "APPROVE": "Approve",
    "CANCEL_ORDER": "Cancel order",
    "MARK_RELEASED": "Mark released",
    "RETRY_STEP": "Try again",
}
PAST_ACTIONS = ACTIONS | {
    "BY_ITSELF": "Settled by itself",
    "RETRY": "Retry",
    "BULK_RETRY": "Bulk retry",
    "AUTOMATIC": "Automatic retries",
    "MARKED": "Marked released",
    "BULK_MARKED": "Marked released in bulk",
}
STOCK_STATE = {
    "HELD": Word("Held", "lock", "blue"),
    "DEDUCTED": Word("Deducted", "check_circle", "green"),
    "FREE": Word("Nothing held", "lock_open", "gray"),
}
LOOKUP_PROBLEM = {
    "CANNOT_ANSWER": Word("Cannot answer", "help", "gray"),
    "NO_ANSWER": Word("No answer", "cloud_off", "orange"),
}
RESOLUTION_REASONS = {
    "CUSTOMER_ASKED": "The customer asked for it",
    "OUT_OF_STOCK": "Out of stock",
    "SUSPECTED_FRAUD": "Suspected fraud",
    "DUPLICATE_ORDER": "Duplicate order",
    "PAYMENT_SEEN": "Payment seen at the gateway",
    "STOCK_SEEN": "Stock seen",
    "SEEN_RELEASED": "Seen released in their ledger",
    "NEVER_HELD": "Nothing was ever held",
    "OTHER": "Other, see note",
}
FIELDS = {"note": "Note", "resolutionReason": "Resolution reason"}
PRIORITY = {"high": "High priority", "standard": "Standard"}
CONTROLS = {"pause": "Pause", "resume": "Resume", "cancel": "Cancel the rest"}
"""What a person may do about a bulk operation."""

SETTLED_BY_ITSELF = "SETTLED"
"""The resolution of a case that events settled without anybody's action."""

WITH_RESERVATION = ("RESERVED", "CONFIRM_REQUESTED", "INVENTORY_FAILED", "RELEASE_PENDING", "RELEASE_FAILED")
"""Inventory statuses in which a hold may exist, so that its end matters."""

CONSEQUENCES = {
    "retry_release": "One attempt each. Releasing twice is harmless: the second finds nothing held.",
    "mark_released": "Each job is closed without a release: you have seen that nothing is held any more. Jobs whose "
    "stock the Inventory Service still holds or has sold are refused. This cannot be undone.",
    "replay_event": "The handler runs on the stored bytes again, the oldest first. What was handled before has no "
    "second effect; what fails again stays open with its new reason.",
    "discard_event": "These events will never take effect; the letters stay readable for 90 days. "
    "This cannot be undone.",
    "RETRY_RESERVATION": "The Inventory Service is asked to reserve once more. Nothing has been charged.",
    "RETRY_STEP": "The step that failed is tried again within a second. The other services are asked first, so that "
    "nothing is reserved or charged twice. If it fails again, the case comes back.",
    "RECONFIRM": "Stock is reserved anew where needed, and its deduction is requested again.",
    "APPROVE": "The case is closed as checked by you. The order goes on as it stands.",
    "CANCEL_ORDER": "The order is cancelled, held stock is released and captured money is refunded. "
    "This cannot be undone.",
    "MARK_RELEASED": "The job is closed without another call: you have seen that nothing is held any more. "
    "This cannot be undone.",
}


GONE = " · no longer in this list"
"""Behind the facts of a row that keeps its place in a list that is held."""

_SAID = (
    {name: word.text for table in (ORDER, REVIEW, DIFFERENCE) for name, word in table.items()}
    | ACTIONS
    | {breaker: name.lower() for breaker, name in NAMES.items()}
)
_NAMED = re.compile(rf"\b({'|'.join(_SAID)})\b")


def named(table: Mapping[str, str], name: str) -> str:
    """What something is called; an unknown name speaks for itself."""
    return table.get(name) or name.replace("_", " ").capitalize()


def word(table: dict[str, Word], state: str) -> Word:
    """The word of a state; an unknown state speaks for itself."""
    return table.get(state) or Word(state.replace("_", " ").capitalize(), "help", "gray")


def text(table: Mapping[str, Word], state: str) -> str:
    """The word of a state for Markdown: an unknown one is shown as it is, cut."""
    said = word(dict(table), state).text
    return said if state in table else plain(_cut(said, MOST_STATE))


def breaker(name: str) -> str:
    """What a breaker is called, for Markdown."""
    return NAMES.get(name) or plain(name)


def kind(name: str) -> str:
    """What a kind of command is called, for Markdown."""
    return KINDS.get(name) or plain(name)


def badge(table: dict[str, Word], state: str, *, grey: bool = False) -> str:
    """A state as Markdown badge; ``grey`` when it may no longer be true."""
    _, icon, color = word(table, state)
    return f":{'gray' if grey else color}-badge[:material/{icon}: {text(table, state)}]"


FILTERS = {"status": ORDER, "job": RELEASE, "reason": REVIEW}
"""Filters that stand in addresses in words."""


def in_address(filters: Mapping[str, str]) -> dict[str, str] | None:
    """Filters by the names of the service, as the address of a page holds them; None when there are none."""
    said = {name: word(FILTERS[name], state).text if name in FILTERS else state for name, state in filters.items()}
    return said or None


def texts(table: dict[str, Word], states: Iterable[str]) -> list[str]:
    """The words of several states, as a filter of them stands in an address."""
    return [word(table, state).text for state in states]


def plain(text: object) -> str:
    """Text of unknown origin, so that Markdown shows it as it is, on one line; of a long one the beginning."""
    line = " ".join(_cut(str(text), MOST_TEXT).split())
    return _SPECIAL.sub(r"\\\1", _LINKED.sub(_BREAK, line))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def said(text: str) -> str:
    """A sentence of the service with the names of states and breakers in it as people say them."""
    return _NAMED.sub(lambda name: _SAID[name[0]], text)


def told(text: str) -> str:
    """The same, so that Markdown shows it as it is."""
    return plain(said(text))


def typed(text: object) -> str:
    """What a person typed or pasted, without the invisible breaks of plain()."""
    return _BROKEN.sub("", str(text or "")).strip()


def resolution(action: str | None, by: str | None) -> str:
    """How a case ended, and through whom."""
    if action in (None, SETTLED_BY_ITSELF):
        return "settled by itself"
    return f"{ACTIONS.get(str(action), plain(action))} by {plain(by or 'the service')}"
