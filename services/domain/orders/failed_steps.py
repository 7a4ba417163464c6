"""Unforeseen failures of the steps of an order. Failures are counted and retried; after TRIES an operator decides.

Pure. A step is one run over an order: check, reserve, pay, request the confirmation, refund. The outcome of a failed
step is unknown, so the next run starts as after a crash and queries the other services first.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from services.domain.external import cut_text
from services.domain.orders.changes import Change, ReviewRequest, noted
from services.domain.orders.model import Order, OrderStatus, ReviewReason

TRIES = 4
"""Consecutive failed steps after which a review case opens."""

BASE_DELAY = timedelta(seconds=5)
LONGEST_DELAY = timedelta(minutes=15)

MAX_REASON = 500
"""Characters of the stored reason."""

_MIDWAY = frozenset({OrderStatus.RECEIVED, OrderStatus.RESERVING, OrderStatus.PAYING})
"""Statuses in which the next step begins at once. Reaching such a status does not reset the count of failures."""


def reason_of(error: BaseException) -> str:
    """Return the exception as one line of at most MAX_REASON characters that every database stores."""
    return cut_text(" ".join(f"{type(error).__name__}: {error}".split()), MAX_REASON)


def delay_after(failures: int) -> timedelta:
    """Return the delay after this many consecutive failed steps; each further one triples it, up to LONGEST_DELAY."""
    return min(timedelta(seconds=BASE_DELAY.total_seconds() * 3.0 ** min(failures - 1, 10)), LONGEST_DELAY)


def failed(order: Order, reason: str, at: datetime) -> Change:
    """Count one more failed step and retry it later; from TRIES failures on, also open a case."""
    failures = order.step_failures + 1
    values = {"step_failures": failures, "step_error": reason, "due_at": at + delay_after(failures)}
    if failures > TRIES:
        # Add no timeline entry, so that the timeline of an order that always fails stays bounded.
        return Change(values, opens=(_case(failures, reason),))
    opens = (_case(failures, reason),) if failures == TRIES else ()
    details = {"error": reason, "failures": failures}
    return noted(at, "A step failed unexpectedly", values, details, opens=opens)


def try_again(at: datetime) -> Change:
    """Retry the step at once for an operator. One further failure opens a case again."""
    return Change({"due_at": at, "step_failures": TRIES - 1})


def with_success_noted(order: Order, change: Change) -> Change:
    """Return the change; if it completes a step after failed steps, it also resets the count and closes the case."""
    if not order.step_failures or "step_failures" in change.values:
        return change
    is_decision = "status" in change.values or "payment_status" in change.values
    if not is_decision or change.values.get("status", order.status) in _MIDWAY:
        return change
    return change.then(Change({"step_failures": 0, "step_error": None}, closes=(ReviewReason.STEP_FAILED,)))


def _case(failures: int, reason: str) -> ReviewRequest:
    return ReviewRequest(ReviewReason.STEP_FAILED, f"{failures} steps in a row failed unexpectedly. {reason}")
