"""How often an action has held, the last times a cause came. Source: console, "what none of them has" 6.

An action on a review case held when its order has ended well and no case was opened for it afterwards; it
failed when one was, or when the order ended the other way; until then it is still open. An action on a release
job held when the hold was given back and there was nothing to release for the order again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from services.domain.orders.model import OrderStatus
from services.domain.reviews import ReviewAction


class ResolutionOutcome(StrEnum):
    """What became of an action after it was done. The values are stored."""

    LASTED = "HELD"
    FAILED = "FAILED"
    UNDECIDED = "UNDECIDED"


BY_ITSELF = "BY_ITSELF"
"""Nobody did anything: events settled the case."""


class ReleaseActionKind(StrEnum):
    """What is done about a release job that has failed."""

    RETRY = "RETRY"
    BULK_RETRY = "BULK_RETRY"
    AUTOMATIC = "AUTOMATIC"
    """Nobody did anything: the retries of the job itself."""
    MARKED = "MARKED"
    BULK_MARKED = "BULK_MARKED"


_DELIVERED = frozenset({OrderStatus.CONFIRMED, OrderStatus.PARTIALLY_RETURNED, OrderStatus.RETURNED})
_CALLED_OFF = frozenset({OrderStatus.CANCELLED, OrderStatus.REJECTED})


@dataclass(frozen=True, slots=True)
class PastResolution:
    """One thing that was done: on a review case the last one, on a release job any."""

    action: str
    """A ReviewAction, BY_ITSELF or a ReleaseMoveKind."""
    by: str
    at: datetime
    outcome: str
    """A ResolutionOutcome."""
    why: str | None = None


@dataclass(frozen=True, slots=True)
class ActionSummary:
    """What is known of one action."""

    action: str
    times: int
    lasted: int
    failed: int
    last: PastResolution

    @property
    def undecided(self) -> int:
        return self.times - self.lasted - self.failed


def outcome_of(action: str, order_status: str, *, came_again: bool) -> str:
    """Whether an action on a review case held."""
    if came_again:
        return ResolutionOutcome.FAILED
    if action in (ReviewAction.MARK_RELEASED, ReviewAction.RETRY_STEP):
        return ResolutionOutcome.LASTED
    if action == ReviewAction.CANCEL_ORDER:
        return ResolutionOutcome.LASTED if order_status in _CALLED_OFF else ResolutionOutcome.UNDECIDED
    if order_status in _DELIVERED:
        return ResolutionOutcome.LASTED
    return ResolutionOutcome.FAILED if order_status in _CALLED_OFF else ResolutionOutcome.UNDECIDED


def summarise(past: Sequence[PastResolution]) -> tuple[ActionSummary, ...]:
    """The actions among what was done (newest first), the most frequent first."""
    by_action: dict[str, list[PastResolution]] = {}
    for one in past:
        by_action.setdefault(one.action, []).append(one)
    found = [_summary(action, of_action) for action, of_action in by_action.items()]
    return tuple(sorted(found, key=lambda one: (-one.times, one.action)))


def _summary(action: str, past: Sequence[PastResolution]) -> ActionSummary:
    ends = [one.outcome for one in past]
    return ActionSummary(
        action, len(past), ends.count(ResolutionOutcome.LASTED), ends.count(ResolutionOutcome.FAILED), past[0]
    )
