"""How often a move has held, the last times a cause came. Source: console, "what none of them has" 6.

A move on a review case held when its order has ended well and no case was opened for it afterwards; it
failed when one was, or when the order ended the other way; until then it is still open. A move on a release
job held when the hold was given back and there was nothing to release for the order again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from services.domain.orders.model import OrderStatus
from services.domain.reviews import ReviewAction

HELD, FAILED, UNDECIDED = "HELD", "FAILED", "UNDECIDED"

BY_ITSELF = "BY_ITSELF"
"""Nobody did anything: events settled the case."""


class ReleaseMoveKind(StrEnum):
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
class Past:
    """One thing that was done: on a review case the last one, on a release job any."""

    move: str
    """A ReviewAction, BY_ITSELF or a ReleaseMoveKind."""
    by: str
    at: datetime
    verdict: str
    """HELD, FAILED or UNDECIDED."""
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is known of one move."""

    move: str
    times: int
    held: int
    failed: int
    last: Past

    @property
    def undecided(self) -> int:
        return self.times - self.held - self.failed


def verdict(move: str, order_status: str, *, came_again: bool) -> str:
    """Whether a move on a review case held."""
    if came_again:
        return FAILED
    if move in (ReviewAction.MARK_RELEASED, ReviewAction.RETRY_STEP):
        return HELD
    if move == ReviewAction.CANCEL_ORDER:
        return HELD if order_status in _CALLED_OFF else UNDECIDED
    if order_status in _DELIVERED:
        return HELD
    return FAILED if order_status in _CALLED_OFF else UNDECIDED


def remember(past: Sequence[Past]) -> tuple[Remembered, ...]:
    """The moves among what was done (newest first), the most frequent first."""
    by_move: dict[str, list[Past]] = {}
    for one in past:
        by_move.setdefault(one.move, []).append(one)
    found = [_remembered(move, of_move) for move, of_move in by_move.items()]
    return tuple(sorted(found, key=lambda one: (-one.times, one.move)))


def _remembered(move: str, past: Sequence[Past]) -> Remembered:
    ends = [one.verdict for one in past]
    return Remembered(move, len(past), ends.count(HELD), ends.count(FAILED), past[0])
