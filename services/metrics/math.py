"""The arithmetic of metrics: increase of a counter, quantile of a histogram, start of a step. Pure.

increase() and quantile() return what Prometheus' increase() and histogram_quantile() return, extrapolation to the
edges of the window included; tests/integration/test_alerts_agree_with_prometheus.py compares them.
Source: Prometheus' documentation of increase() and histogram_quantile().
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Point = tuple[int, float]
"""``(milliseconds since 1970, value)``."""

EDGE_TOLERANCE = 1.1
"""A window counts as covered up to an edge that is closer than this many average distances to a point."""


def floor(at: datetime, step: timedelta) -> datetime:
    """The start of the step that contains ``at``."""
    return EPOCH + (at - EPOCH) // step * step


def increase(points: Sequence[Point], start_ms: int, end_ms: int) -> float | None:
    """How much a counter grew from ``start_ms`` to ``end_ms``, both included; None with fewer than two points.

    A lower value than before means a restart of the counter. The growth within the window is extrapolated to its
    edges.
    """
    inside = [point for point in points if start_ms <= point[0] <= end_ms]
    if len(inside) < 2:
        return None
    (first_ms, first), (last_ms, last) = inside[0], inside[-1]
    grown = last - first
    for (_, before), (_, after) in itertools.pairwise(inside):
        if after < before:
            grown += before
    covered = (last_ms - first_ms) / 1000
    usual = covered / (len(inside) - 1)
    to_start, to_end = (first_ms - start_ms) / 1000, (end_ms - last_ms) / 1000
    if grown > 0 and first >= 0:
        # A counter does not start below zero.
        to_start = min(to_start, covered * (first / grown))
    reach = covered
    for edge in (to_start, to_end):
        reach += edge if edge < usual * EDGE_TOLERANCE else usual / 2
    return grown * (reach / covered)


def quantile(share: float, buckets: Mapping[float, float]) -> float | None:
    """The quantile of cumulative ``buckets`` by upper bound, the last bound infinite; None for an empty histogram.

    The value is interpolated within its bucket. A value beyond the last finite bound is returned as that bound.
    """
    bounds = sorted(buckets)
    counts: list[float] = []
    for bound in bounds:
        # After rounding, a larger bucket may have a smaller count than the bucket before it.
        counts.append(max(buckets[bound], counts[-1] if counts else 0.0))
    if len(bounds) < 2 or counts[-1] == 0:
        return None
    rank = share * counts[-1]
    place = next((number for number, count in enumerate(counts[:-1]) if count >= rank), len(bounds) - 1)
    if place == len(bounds) - 1:
        return bounds[-2]
    lower, below = (bounds[place - 1], counts[place - 1]) if place else (0.0, 0.0)
    return lower + (bounds[place] - lower) * ((rank - below) / (counts[place] - below))
