"""Why a case was resolved as it was: which actions need a word of their own, and which words there are.

Source: console page "Manual review" (note and resolution reason), rule 9.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum

from services.domain.errors import ValidationFailed
from services.domain.orders.model import ReviewReason
from services.domain.reviews import ReviewAction


class ResolutionReason(StrEnum):
    """Why a person did what they did."""

    CUSTOMER_ASKED = "CUSTOMER_ASKED"
    OUT_OF_STOCK = "OUT_OF_STOCK"
    SUSPECTED_FRAUD = "SUSPECTED_FRAUD"
    DUPLICATE_ORDER = "DUPLICATE_ORDER"
    PAYMENT_SEEN = "PAYMENT_SEEN"
    STOCK_SEEN = "STOCK_SEEN"
    SEEN_RELEASED = "SEEN_RELEASED"
    NEVER_RESERVED = "NEVER_HELD"
    OTHER = "OTHER"


R = ResolutionReason

REASONS: Mapping[str, tuple[ResolutionReason, ...]] = {
    ReviewAction.CANCEL_ORDER: (R.CUSTOMER_ASKED, R.OUT_OF_STOCK, R.SUSPECTED_FRAUD, R.DUPLICATE_ORDER, R.OTHER),
    ReviewAction.APPROVE: (R.STOCK_SEEN, R.PAYMENT_SEEN, R.CUSTOMER_ASKED, R.OTHER),
    ReviewAction.MARK_RELEASED: (R.SEEN_RELEASED, R.NEVER_RESERVED, R.OTHER),
}
"""The reasons that fit an action; the others, which only try again, need none."""

UNDO_FOR: Mapping[str, timedelta] = dict.fromkeys(REASONS, timedelta(seconds=10))
"""How long an action of one person on one case is held, so that it can be taken back."""


_SEEN = frozenset(ReviewReason) - {ReviewReason.AVAILABILITY_UNVERIFIED}
"""Approved on what a person has seen or done elsewhere."""


def needs_reason(case_reason: str, action: str) -> bool:
    """Whether the action must be explained: it cannot be undone, or rests on what a person has seen."""
    irreversible = action in (ReviewAction.CANCEL_ORDER, ReviewAction.MARK_RELEASED)
    return irreversible or (action == ReviewAction.APPROVE and case_reason in _SEEN)


def check(case_reason: str, action: str, resolution_reason: str | None, note: str) -> None:
    """Raises ValidationFailed naming field, value and what is allowed."""
    fitting = REASONS.get(action, ())
    if resolution_reason is not None and resolution_reason not in fitting:
        allowed = f"one of {', '.join(fitting)}" if fitting else "nothing: this action needs no reason"
        raise _refused("resolutionReason", resolution_reason, allowed)
    if needs_reason(case_reason, action) and resolution_reason in (None, R.OTHER) and not note.strip():
        others = ", ".join(reason for reason in fitting if reason != R.OTHER)
        raise _refused("note", note, f"1 character or more, unless resolutionReason is one of {others}")


def _refused(field: str, value: str, allowed: str) -> ValidationFailed:
    problem = {"field": field, "value": value, "allowed": allowed}
    return ValidationFailed(f"Not valid: {field}.", {"problems": [problem]})
