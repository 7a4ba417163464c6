"""The one interface of metric sources and the one shape of what they give."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from services.console.metric_history.model import Span
from services.metrics.objective import Calls

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = ("at", "metric", "series", "value")

Point = tuple[datetime, str, str, float | None]
"""``(at, metric, series, value)``; points without a value are left out of frames."""


class SourceFailed(Exception):
    """The source could not answer; the message is a sentence for a person."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a source knows of a span."""

    time_series: DataFrame
    """Columns COLUMNS: ``at`` (aware UTC, the start of a step), ``metric``, ``series``, ``value`` (float).

    Latencies and ages in seconds, rates as shares, what is counted per minute, queues as the highest of a step.
    """
    totals: DataFrame
    """The same columns over the whole span, one row per series; what is counted as a count."""
    newest_at: datetime | None
    """Time of the newest measurement; None when there is none."""
    missing: tuple[str, ...] = ()
    """Metrics of which the source did not tell everything in time: nothing is known where they have no points."""


class MetricSource(Protocol):
    """Where the history comes from."""

    @property
    def name(self) -> str:
        """What people call it."""

    def read(self, span: Span) -> Measured:
        """Raises SourceFailed, or SourceUnavailable for our own database."""

    def reservations(self, windows: Sequence[timedelta], now: datetime) -> Mapping[timedelta, Calls]:
        """Reservations answered and asked for within each window up to now; raises as read() does."""


def frame(points: Iterable[Point]) -> DataFrame:
    """Points as a frame of COLUMNS; of no points an empty one of the same shape."""
    import pandas as pd

    known = [point for point in points if point[3] is not None and math.isfinite(point[3])]
    made = pd.DataFrame(known, columns=list(COLUMNS))
    return made.astype({"at": "datetime64[us, UTC]", "metric": "str", "series": "str", "value": "float64"})
