"""How often a move has held, the last times a cause came. Source: console, "what none of them has" 6.

A move held when its order has ended well and no case was opened for it afterwards; it failed when one
was, or when the order ended the other way; until then it is still open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.domain.order import OrderStatus
from services.domain.reviews import ReviewAction

HELD, FAILED, UNDECIDED = "HELD", "FAILED", "UNDECIDED"

BY_ITSELF = "BY_ITSELF"
"""Nobody did anything: events settled the case."""

_DELIVERED = frozenset({OrderStatus.CONFIRMED, OrderStatus.PARTIALLY_RETURNED, OrderStatus.RETURNED})
_CALLED_OFF = frozenset({OrderStatus.CANCELLED, OrderStatus.REJECTED})


@dataclass(frozen=True, slots=True)
class Past:
    """One resolved case: what was done last, by whom, and what came of it."""

    move: str
    """A ReviewAction or BY_ITSELF."""
    by: str
    at: datetime
    order_status: str
    came_again: bool
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
    """Whether a move held."""
    if came_again:
        return FAILED
    if move == ReviewAction.MARK_RELEASED:
        return HELD
    if move == ReviewAction.CANCEL_ORDER:
        return HELD if order_status in _CALLED_OFF else UNDECIDED
    if order_status in _DELIVERED:
        return HELD
    return FAILED if order_status in _CALLED_OFF else UNDECIDED


def remember(cases: Sequence[Past]) -> tuple[Remembered, ...]:
    """The moves of these cases (newest first), the most frequent first."""
    by_move: dict[str, list[Past]] = {}
    for case in cases:
        by_move.setdefault(case.move, []).append(case)
    found = [_remembered(move, of_move) for move, of_move in by_move.items()]
    return tuple(sorted(found, key=lambda one: (-one.times, one.move)))


def _remembered(move: str, cases: Sequence[Past]) -> Remembered:
    ends = [verdict(move, case.order_status, came_again=case.came_again) for case in cases]
    return Remembered(move, len(cases), ends.count(HELD), ends.count(FAILED), cases[0])
