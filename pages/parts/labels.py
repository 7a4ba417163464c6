"""Labels of states, and messages of the service, as text, badges and Markdown. Names of actions are in names.

Each state has a word and an icon, which are sufficient without the color. Addresses contain the words of a filter's
options, so that a changed word breaks saved links.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

from pages.parts.names import ACTIONS, FAILURES, KINDS
from services.console.sandbox import Phase
from services.domain.bulk import BulkItemState, BulkJobState
from services.domain.commands import CommandState
from services.domain.conservation import DifferenceKind, StockState
from services.domain.orders.model import InventoryStatus, OrderStatus, PaymentStatus, ReviewReason
from services.metrics.health import NAMES

Color = Literal["red", "orange", "blue", "green", "violet", "gray"]


class Word(NamedTuple):
    """The label of a state: its word, icon and color."""

    text: str
    icon: str
    color: Color


# -- orders, reviews and releases -----------------------------------------------------------------

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
TIMELINE: dict[str, Word] = {
    "transition": Word("Status", "arrow_forward", "blue"),
    "call": Word("Call", "swap_horiz", "violet"),
    "event_out": Word("Event out", "upload", "gray"),
    "event_in": Word("Event in", "download", "gray"),
    "action": Word("By a person", "person", "orange"),
}
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
STOCK_STATE: dict[str, Word] = {
    StockState.RESERVED: Word("Reserved", "lock", "blue"),
    StockState.DEDUCTED: Word("Deducted", "check_circle", "green"),
    StockState.FREE: Word("Nothing reserved", "lock_open", "gray"),
}
LOOKUP_PROBLEM: dict[str, Word] = {
    "CANNOT_ANSWER": Word("Cannot answer", "help", "gray"),
    "NO_ANSWER": Word("No answer", "cloud_off", "orange"),
}
RELEASE: dict[str, Word] = {
    "PENDING": Word("Pending", "hourglass_top", "orange"),
    "FAILED": Word("Failed", "error", "red"),
    "DONE": Word("Released", "check_circle", "green"),
}

# -- commands and bulk jobs -----------------------------------------------------------------------

COMMAND: dict[str, Word] = {
    CommandState.STORED: Word("Stored", "schedule", "gray"),
    CommandState.RUNNING: Word("Running", "sync", "blue"),
    CommandState.DONE: Word("Done", "check_circle", "green"),
    CommandState.REFUSED: Word("Refused", "block", "red"),
    CommandState.WITHDRAWN: Word("Taken back", "undo", "gray"),
    CommandState.FAILED: Word("Effect unknown", "help", "orange"),
}
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
AUDIT_RESULT: dict[str, Word] = {
    "done": Word("Done", "check_circle", "green"),
    "started": Word("Started", "sync", "blue"),
    "failed": Word("Failed", "error", "red"),
    "refused": Word("Refused", "block", "red"),
}

# -- stock, events and sandbox --------------------------------------------------------------------

STOCK: dict[str, Word] = {
    "out": Word("Out of stock", "production_quantity_limits", "red"),
    "low": Word("Low", "trending_down", "orange"),
    "in_stock": Word("In stock", "check_circle", "green"),
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
OUTGOING: dict[str, Word] = {
    "pending": Word("Not published", "schedule", "orange"),
    "failing": Word("Refused, tried again", "error", "red"),
    "undeliverable": Word("Cannot be published", "unsubscribe", "red"),
    "published": Word("Published", "check_circle", "green"),
}
INCOMING: dict[str, Word] = {
    "handled": Word("Handled", "check_circle", "green"),
    "ignored": Word("Changed nothing", "remove", "gray"),
    "duplicate": Word("Came again", "content_copy", "gray"),
}
DEAD_LETTER: dict[str, Word] = {
    "OPEN": Word("Open", "mark_email_unread", "red"),
    "REPLAYED": Word("Replayed", "check_circle", "green"),
    "DISCARDED": Word("Discarded", "delete", "gray"),
}
DRILL: dict[str, Word] = {
    Phase.WAITING: Word("Waiting to begin", "schedule", "gray"),
    Phase.APPLYING: Word("Switching faults on", "sync", "orange"),
    Phase.RUNNING: Word("Faults are on", "local_fire_department", "red"),
    Phase.RESTORING: Word("Switching faults off", "sync", "orange"),
    Phase.RECOVERING: Word("Recovering", "healing", "orange"),
    Phase.CHECKING: Word("Comparing the books", "balance", "blue"),
    Phase.DONE: Word("Finished", "check_circle", "green"),
}

# -- breakers, metrics and alerts -----------------------------------------------------------------

BREAKER: dict[str, Word] = {
    "closed": Word("Closed", "check_circle", "green"),
    "open": Word("Open", "block", "red"),
    "half_open": Word("Half-open", "hourglass_top", "orange"),
    "forced_open": Word("Forced open", "front_hand", "red"),
    "forced_closed": Word("Forced closed", "front_hand", "orange"),
}
IMPACT: dict[str, Word] = {
    "denied": Word("Call denied", "block", "red"),
    "fallback": Word("Fallback served", "alt_route", "orange"),
    "flagged": Word("Flagged", "flag", "orange"),
    "refused": Word("Order refused", "cancel", "red"),
    "timeout": Word("Timed out", "timer_off", "violet"),
}
FAILURE: dict[str, str] = {
    "INVENTORY_UNAVAILABLE": "Inventory unavailable",
    "INSUFFICIENT_INVENTORY": "Insufficient inventory",
    "INVENTORY_TIMEOUT": "Inventory timeout",
    "RESERVATION_FAILED": "Reservation failed",
    **{reason: word.text for reason, word in REVIEW.items()},
}
ALERT: dict[str, Word] = {
    "firing": Word("Firing", "notifications_active", "red"),
    "pending": Word("Pending", "hourglass_top", "orange"),
    "resolved": Word("Resolved", "check_circle", "green"),
}
SEVERITY: dict[str, Word] = {
    "critical": Word("Critical", "error", "red"),
    "warning": Word("Warning", "warning", "orange"),
}
ALERT_SOURCE: dict[str, Word] = {
    "worker": Word("Evaluated here", "dns", "gray"),
    "prometheus": Word("Received from Prometheus", "input", "gray"),
}
ALERT_EVENT: dict[str, Word] = {
    "FIRING": Word("Firing", "notifications_active", "red"),
    "RESOLVED": Word("Resolved", "check_circle", "green"),
    "ACKNOWLEDGED": Word("Acknowledged", "person_check", "blue"),
    "SILENCED": Word("Silenced", "notifications_off", "violet"),
    "SILENCE_ENDED": Word("Silence ended", "notifications", "gray"),
}
NOTIFICATION: dict[str, Word] = {
    "PENDING": Word("Waits", "schedule", "orange"),
    "SENT": Word("Sent", "check_circle", "green"),
    "FAILED": Word("Given up", "error", "red"),
}

# -- labels as text -------------------------------------------------------------------------------


_BREAK = "\u200b"
_LINKED = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?=@)", re.IGNORECASE)
"""Places for an invisible break. Without it, Markdown makes links of bare addresses, even of escaped ones."""

_BROKEN = re.compile("\u200b" r"(?=//|\.|@)")

MOST_TEXT = 2_000
"""Maximum characters that a page shows of a text of unknown origin."""
MOST_STATE = 60
"""Maximum characters that a page shows of an unknown state."""

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~$:&])")


def named(table: Mapping[str, str], name: str) -> str:
    """The label of a name; an unknown name is shown without underscores."""
    return table.get(name) or name.replace("_", " ").capitalize()


def word(table: Mapping[str, Word], state: str) -> Word:
    """The label of a state; an unknown state is shown as its own name."""
    return table.get(state) or Word(state.replace("_", " ").capitalize(), "help", "gray")


def text(table: Mapping[str, Word], state: str) -> str:
    """The word of a state, escaped for Markdown; an unknown state is cut to MOST_STATE characters."""
    return table[state].text if state in table else plain(named({}, state), MOST_STATE)


def count(number: int, noun: str) -> str:
    """A number with its noun: ``1 order``, ``1,204 orders``."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def bulk_action(name: str, action: str | None) -> str:
    """Label of what a bulk job does: its action, or its kind without one."""
    return ACTIONS.get(action or "") or kind(name)


def badge(table: Mapping[str, Word], state: str, *, grey: bool = False) -> str:
    """A state as a Markdown badge; ``grey`` if the data is old."""
    _, icon, color = word(table, state)
    return f":{'gray' if grey else color}-badge[:material/{icon}: {text(table, state)}]"


def plain(text: object, most: int = MOST_TEXT) -> str:
    """Text of unknown origin, escaped for Markdown, on one line and cut to ``most`` characters."""
    said = str(text)
    shown = said if len(said) <= most else f"{said[: most - 1]}…"
    return _SPECIAL.sub(r"\\\1", _LINKED.sub(_BREAK, " ".join(shown.split())))


def typed(text: object) -> str:
    """Typed or pasted text without the invisible breaks of plain()."""
    return _BROKEN.sub("", str(text or "")).strip()


GONE = " · no longer in this list"
"""Text after the facts of a row that is no longer in its paused list."""

FILTERS = {"status": ORDER, "job": RELEASE, "reason": REVIEW}
"""Filters whose values are words in addresses, with the table of those words."""

_LABELS = (
    {name: word.text for table in (ORDER, REVIEW, DIFFERENCE) for name, word in table.items()}
    | ACTIONS
    | {breaker: name.lower() for breaker, name in NAMES.items()}
)
_NAME = re.compile(rf"\b({'|'.join(_LABELS)})\b")


def in_address(filters: Mapping[str, str]) -> dict[str, str] | None:
    """Convert filters from the service's names to the words in a page's address; None without filters."""
    words = {name: word(FILTERS[name], state).text if name in FILTERS else state for name, state in filters.items()}
    return words or None


def with_labels(text: str) -> str:
    """A sentence of the service with the names of states, actions and breakers replaced by their labels."""
    return _NAME.sub(lambda name: _LABELS[name[0]], text)


def sentence(text: str) -> str:
    """The result of with_labels(), escaped for Markdown."""
    return plain(with_labels(text))


def cause_text(key: str) -> str:
    """The cause of a release job or a review case: the key of a failure, or another code."""
    failure, _, status = key.partition(":")
    if failure not in FAILURES:
        return with_labels(key)
    return f"{FAILURES[failure]} (HTTP {status})" if status else FAILURES[failure]


def kind(name: str) -> str:
    """Label of a command kind or bulk action, for Markdown."""
    return KINDS.get(name) or plain(name)


def breaker(name: str) -> str:
    """The label of a breaker; an unknown name is escaped for Markdown."""
    return NAMES.get(name) or plain(name)


SETTLED_BY_ITSELF = "SETTLED"
"""The resolution of a case that events settled without an action of a person."""


def resolution(action: str | None, by: str | None) -> str:
    """The resolution of a case and its actor, as text."""
    if action in (None, SETTLED_BY_ITSELF):
        return "settled by itself"
    return f"{ACTIONS.get(str(action), plain(action))} by {plain(by or 'the service')}"
