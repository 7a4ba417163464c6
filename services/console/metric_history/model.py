"""Stretches of time that people look at, and how finely they are cut. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from services.metrics.rollup import floor

PRESETS = {
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
    "24h": timedelta(days=1),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
LONGEST = timedelta(days=400)
"""So long hours are kept."""
SHORTEST = timedelta(minutes=1)

MAX_POINTS = 180
"""Of one line; Prometheus refuses more than 11 000."""

STEPS = tuple(
    timedelta(seconds=seconds)
    for seconds in (15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14_400, 43_200, 86_400, 172_800)
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person asked for: a preset that ends now, or a fixed stretch."""

    preset: str = "1h"
    start: datetime | None = None
    end: datetime | None = None
    """Both given: the stretch; else the preset."""


@dataclass(frozen=True, slots=True)
class Span:
    """``[start, end)`` cut into steps; the last one may be cut short by ``end``."""

    start: datetime
    end: datetime
    step: timedelta

    @property
    def length(self) -> timedelta:
        return self.end - self.start

    @property
    def points(self) -> int:
        return -(-self.length // self.step)

    def number(self, at: datetime) -> int | None:
        """The step that ``at`` lies in; None outside."""
        return (at - self.start) // self.step if self.start <= at < self.end else None

    def begins(self, number: int) -> datetime:
        return self.start + number * self.step


def span_of(wanted: Wanted, now: datetime) -> Span:
    """The stretch as it is read: at least SHORTEST, at most LONGEST, never beyond now."""
    if wanted.start is None or wanted.end is None:
        end, length = now, PRESETS.get(wanted.preset, PRESETS["1h"])
    else:
        end = min(max(wanted.end, wanted.start + SHORTEST), now)
        length = min(max(end - wanted.start, SHORTEST), LONGEST)
    step = next((step for step in STEPS if length / step <= MAX_POINTS), STEPS[-1])
    if end - length < now - timedelta(days=1):
        # Further back there are only minutes.
        step = max(step, timedelta(minutes=1))
    return Span(floor(end - length, step), end, step)
