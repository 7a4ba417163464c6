"""The interval of the Metrics page, its steps, and the interface and result of the two metric sources."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from services.metrics.expressions import floor
from services.metrics.objective import Calls

if TYPE_CHECKING:
    from pandas import DataFrame

PRESETS = {
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
    "24h": timedelta(days=1),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
LONGEST = timedelta(days=400)
"""The longest interval; hour rollups are kept for this time."""
SHORTEST = timedelta(minutes=1)

MAX_POINTS = 180
"""Maximum points of one line. Prometheus refuses more than 11 000."""

STEPS = tuple(
    timedelta(seconds=seconds)
    for seconds in (15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14_400, 43_200, 86_400, 172_800)
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The interval that a page requests: a preset that ends now, or a fixed one."""

    preset: str = "1h"
    start: datetime | None = None
    end: datetime | None = None
    """``start`` and ``end`` replace the preset if both are given."""


@dataclass(frozen=True, slots=True)
class Span:
    """``[start, end)`` in steps; ``end`` may shorten the last step."""

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
        """The number of the step that contains ``at``; None outside of the interval."""
        return (at - self.start) // self.step if self.start <= at < self.end else None

    def begins(self, number: int) -> datetime:
        return self.start + number * self.step


def span_of(wanted: Wanted, now: datetime) -> Span:
    """The interval that is read: at least SHORTEST, at most LONGEST, never beyond now."""
    if wanted.start is None or wanted.end is None:
        end, length = now, PRESETS.get(wanted.preset, PRESETS["1h"])
    else:
        end = min(max(wanted.end, wanted.start + SHORTEST), now)
        length = min(max(end - wanted.start, SHORTEST), LONGEST)
    step = next((step for step in STEPS if length / step <= MAX_POINTS), STEPS[-1])
    if end - length < now - timedelta(days=1):
        # Samples are kept for a day; older history has minutes only.
        step = max(step, timedelta(minutes=1))
    return Span(floor(end - length, step), end, step)


COLUMNS = ("at", "metric", "series", "value")

Point = tuple[datetime, str, str, float | None]
"""``(at, metric, series, value)``; points without a value are left out of frames."""


class SourceFailed(Exception):
    """The source could not answer; the message is a sentence for a person."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The metrics of a span."""

    time_series: DataFrame
    """Columns COLUMNS: ``at`` (aware UTC, the start of a step), ``metric``, ``series``, ``value`` (float).

    Latencies and ages are in seconds. Rates are shares. Counts are per minute. Queues are the maximum of a step.
    """
    totals: DataFrame
    """Totals over the whole span with the same columns, one row per series; counters as counts."""
    newest_at: datetime | None
    """Time of the newest measurement; None when there is none."""
    missing: tuple[str, ...] = ()
    """Metrics with unanswered queries: their values are unknown where they have no points."""


class MetricSource(Protocol):
    """A source of the metric history."""

    @property
    def name(self) -> str:
        """Its name on the page."""

    def read(self, span: Span) -> Measured:
        """The metrics of a span. Raises SourceFailed, or SourceUnavailable for our own database."""

    def reservations(self, windows: Sequence[timedelta], now: datetime) -> Mapping[timedelta, Calls]:
        """Answered and requested reservations within each window up to now; raises as read() does."""


def frame(points: Iterable[Point]) -> DataFrame:
    """Points as a frame of COLUMNS; without points an empty frame of the same shape."""
    import pandas as pd

    known = [point for point in points if point[3] is not None and math.isfinite(point[3])]
    made = pd.DataFrame(known, columns=list(COLUMNS))
    return made.astype({"at": "datetime64[us, UTC]", "metric": "str", "series": "str", "value": "float64"})
