"""Past resolutions: how often an action lasted for earlier failures with the same cause.

An action on a review case lasted when its order ended as intended and no case was opened for the order afterwards. It
failed when a case was opened afterwards, or when the order was cancelled or rejected instead. Until then it is
undecided. An action on a release job lasted when the reservation was released and the order needed no further release.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from services.domain.orders.model import OrderStatus
from services.domain.reviews import ReviewAction


class ResolutionOutcome(StrEnum):
    """Whether an action lasted. The values are stored."""

    LASTED = "HELD"
    FAILED = "FAILED"
    UNDECIDED = "UNDECIDED"


BY_ITSELF = "BY_ITSELF"
"""No action was taken: events settled the case."""


class ReleaseActionKind(StrEnum):
    """Actions on a failed release job."""

    RETRY = "RETRY"
    BULK_RETRY = "BULK_RETRY"
    AUTOMATIC = "AUTOMATIC"
    """No action was taken: the automatic retries of the job continued."""
    MARKED = "MARKED"
    BULK_MARKED = "BULK_MARKED"


_DELIVERED = frozenset({OrderStatus.CONFIRMED, OrderStatus.PARTIALLY_RETURNED, OrderStatus.RETURNED})
_CALLED_OFF = frozenset({OrderStatus.CANCELLED, OrderStatus.REJECTED})


@dataclass(frozen=True, slots=True)
class PastResolution:
    """One past action: the last action on a review case, or any action on a release job."""

    action: str
    """A ReviewAction, BY_ITSELF or a ReleaseActionKind."""
    by: str
    at: datetime
    outcome: str
    """A ResolutionOutcome."""
    why: str | None = None


@dataclass(frozen=True, slots=True)
class ActionSummary:
    """How often an action was taken, and how often it lasted or failed."""

    action: str
    times: int
    lasted: int
    failed: int
    last: PastResolution

    @property
    def undecided(self) -> int:
        return self.times - self.lasted - self.failed


def outcome_of(action: str, order_status: str, *, came_again: bool) -> str:
    """Return the ResolutionOutcome of an action; ``came_again``: a case opened for the order afterwards."""
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
    """Summarise past resolutions, given newest first, by action; the most frequent action comes first."""
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
