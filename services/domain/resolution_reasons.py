"""Resolution reasons: which actions need a reason, and which reasons fit an action.

Source: requirements 11, page "Manual review" (note and resolution reason), rule 9.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum

from services.domain.errors import ValidationFailed
from services.domain.orders.model import ReviewReason
from services.domain.reviews import ReviewAction


class ResolutionReason(StrEnum):
    """Why a person resolved a case. The values are stored."""

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
"""The allowed reasons of each action. Actions that only retry need no reason."""

UNDO_FOR: Mapping[str, timedelta] = dict.fromkeys(REASONS, timedelta(seconds=10))
"""Time for which the command of an action is delayed, so that it can be undone."""


_SEEN = frozenset(ReviewReason) - {ReviewReason.AVAILABILITY_UNVERIFIED}
"""Review reasons whose approval depends on facts outside this service."""


def needs_reason(case_reason: str, action: str) -> bool:
    """Whether the action needs a reason: it is irreversible, or depends on facts outside this service."""
    irreversible = action in (ReviewAction.CANCEL_ORDER, ReviewAction.MARK_RELEASED)
    return irreversible or (action == ReviewAction.APPROVE and case_reason in _SEEN)


def check(case_reason: str, action: str, resolution_reason: str | None, note: str) -> None:
    """Check reason and note of an action. Raises ValidationFailed with field, value and what is allowed."""
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
