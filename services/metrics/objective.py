"""The objective for reservations: the error budget that is left and its burn rates. Pure.

A burn rate of 1 uses the budget up exactly within the period; 14.4 uses 2 % of a 30-day budget in an hour.
Source: requirements 9.2, High Reservation Failure Rate; the windows are those of the SRE workbook.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

PERIOD = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Calls:
    """Numbers of answered calls and of all calls in an interval."""

    good: float = 0.0
    total: float = 0.0

    @property
    def success_rate(self) -> float | None:
        return self.good / self.total if self.total else None


@dataclass(frozen=True, slots=True)
class Pace:
    """Two windows whose burn rates must both reach the limit; the short window shows that the burn continues."""

    name: str
    long: timedelta
    short: timedelta
    limit: float
    """Burn rate at which the alert fires."""


PACES = (
    Pace("Fast burn", timedelta(hours=1), timedelta(minutes=5), 14.4),
    Pace("Slow burn", timedelta(hours=6), timedelta(minutes=30), 6.0),
)
WINDOWS = tuple(sorted({PERIOD, *(pace.long for pace in PACES), *(pace.short for pace in PACES)}))
"""The intervals that end now and that evaluate() needs."""


@dataclass(frozen=True, slots=True)
class Burn:
    """The burn rates of the two windows of a pace; None without calls."""

    pace: Pace
    long: float | None
    short: float | None

    @property
    def is_too_fast(self) -> bool:
        return all(rate is not None and rate >= self.pace.limit for rate in (self.long, self.short))


@dataclass(frozen=True, slots=True)
class Budget:
    """The objective and its error budget."""

    target: float
    calls: Calls
    """Calls within PERIOD."""
    left: float | None
    """Share of the error budget that is left: 1 unused, 0 used up, negative overdrawn; None without calls."""
    burns: tuple[Burn, ...]

    @property
    def is_used_up(self) -> bool:
        return self.left is not None and self.left <= 0


def evaluate(target: float, calls: Mapping[timedelta, Calls]) -> Budget:
    """The state of the objective; ``calls`` has an entry for each of WINDOWS."""
    period = calls.get(PERIOD, Calls())
    used = burn_rate(target, period)
    burns = (
        Burn(pace, burn_rate(target, calls.get(pace.long, Calls())), burn_rate(target, calls.get(pace.short, Calls())))
        for pace in PACES
    )
    return Budget(target, period, None if used is None else 1 - used, tuple(burns))


def burn_rate(target: float, calls: Calls) -> float | None:
    """Failures as a multiple of the failures that the target allows; infinite when the target allows none."""
    if not calls.total:
        return None
    failed = max(0.0, 1 - calls.good / calls.total)
    allowed = 1 - target
    if allowed <= 0:
        return math.inf if failed else 0.0
    return failed / allowed
