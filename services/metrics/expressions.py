"""Metric expressions: each computes its value from metric data and renders itself as PromQL.

Pure. One definition serves the charts, the Overview page, the alerts of the worker and a Prometheus server.
increase() and quantile() return what Prometheus' increase() and histogram_quantile() return, extrapolation to the
edges of the window included; tests/integration/test_alerts_agree_with_prometheus.py compares them.
Source: Prometheus' documentation of increase() and histogram_quantile().
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Point = tuple[int, float]
"""``(milliseconds since 1970, value)``."""

EDGE_TOLERANCE = 1.1
"""A window counts as covered up to an edge that is closer than this many average distances to a point."""

Labels = tuple[tuple[str, str], ...]
"""Sorted pairs of name and value."""

Vector = dict[Labels, float]
"""One value per set of labels."""

Matchers = Mapping[str, Sequence[str]]
"""Allowed values per label."""

SeriesValue = tuple[Mapping[str, str], float]
"""Labels of a series and its value."""


class MetricData(Protocol):
    """The metrics of one interval of time."""

    def increases(self, metric: str) -> Iterable[SeriesValue]:
        """The growth of every series of a counter; a series without a known growth is left out."""
        ...

    def gauges(self, metric: str) -> Iterable[SeriesValue]:
        """The value of every series of a gauge."""
        ...


class Expression(Protocol):
    """A value per set of labels, computed from metrics."""

    def promql(self, window: str) -> str:
        """The expression in PromQL; ``window`` is a duration such as ``300s``."""
        ...

    def evaluate(self, data: MetricData) -> Vector:
        """A value per set of labels; empty when no value is known."""
        ...


@dataclass(frozen=True, slots=True)
class MaxGauge:
    """The highest value of a gauge over all replicas, per value of the labels ``by``."""

    metric: str
    by: tuple[str, ...] = ()
    matchers: Matchers = field(default_factory=dict)
    is_over_window: bool = False
    """Whether PromQL takes the highest value within the window instead of the current value."""

    def promql(self, window: str) -> str:
        series = f"{self.metric}{_braces(self.matchers)}"
        return f"max{_by(self.by)}({f'max_over_time({series}[{window}])' if self.is_over_window else series})"

    def evaluate(self, data: MetricData) -> Vector:
        return _combined(data.gauges(self.metric), self.matchers, self.by, max)


@dataclass(frozen=True, slots=True)
class Increase:
    """The growth of counters within the window, added over all replicas, per value of the labels ``by``."""

    metric: str
    matchers: Matchers = field(default_factory=dict)
    by: tuple[str, ...] = ()

    def promql(self, window: str) -> str:
        return f"sum{_by(self.by)}(increase({self.metric}{_braces(self.matchers)}[{window}]))"

    def evaluate(self, data: MetricData) -> Vector:
        return _combined(data.increases(self.metric), self.matchers, self.by, operator.add)


@dataclass(frozen=True, slots=True)
class Total:
    """The sum of several increases; no value when one of the increases has none."""

    parts: tuple[Increase, ...]
    by: tuple[str, ...] = ()

    def promql(self, window: str) -> str:
        return f"({' + '.join(part.promql(window) for part in self.parts)})"

    def evaluate(self, data: MetricData) -> Vector:
        values = [part.evaluate(data).get(()) for part in self.parts]
        known = [value for value in values if value is not None]
        return {(): sum(known)} if len(known) == len(values) else {}


@dataclass(frozen=True, slots=True)
class Ratio:
    """An increase divided by another one; no value where ``whole`` is zero.

    The labels of ``whole`` are a subset of the labels of ``part``.
    """

    part: Increase
    whole: Increase | Total

    @property
    def by(self) -> tuple[str, ...]:
        return self.part.by

    def promql(self, window: str) -> str:
        is_same = self.part.by == self.whole.by
        join = "/" if is_same else f"/ on ({', '.join(self.whole.by)}) group_left ()"
        return f"{self.part.promql(window)} {join} {self.whole.promql(window)}"

    def evaluate(self, data: MetricData) -> Vector:
        wholes = self.whole.evaluate(data)
        return {
            labels: value / whole
            for labels, value in self.part.evaluate(data).items()
            if (whole := wholes.get(tuple(pair for pair in labels if pair[0] in self.whole.by)))
        }


@dataclass(frozen=True, slots=True)
class SumOfGauges:
    """The sum of the gauges that have a value; no value when none has one."""

    parts: tuple[MaxGauge, ...]

    def promql(self, window: str) -> str:
        return f"sum({' or '.join(part.promql(window) for part in self.parts)})"

    def evaluate(self, data: MetricData) -> Vector:
        values = [value for part in self.parts for value in part.evaluate(data).values()]
        return {(): sum(values)} if values else {}


@dataclass(frozen=True, slots=True)
class RunOrShare:
    """``run`` when it is at least ``enough``, else ``part`` when it is at least ``share`` of ``whole``, else 0.

    The run detects an outage at any traffic. The share detects an outage that affects every other call.
    """

    run: MaxGauge
    enough: int
    part: Increase
    whole: Total
    share: float

    def promql(self, window: str) -> str:
        part = self.part.promql(window)
        often = f"{part} and {part} / {self.whole.promql(window)} >= {self.share:g}"
        return f"({self.run.promql(window)} >= {self.enough} or ({often}))"

    def evaluate(self, data: MetricData) -> Vector:
        run = self.run.evaluate(data).get(())
        if run is None or run >= self.enough:
            return {} if run is None else {(): run}
        part, whole = self.part.evaluate(data).get(()), self.whole.evaluate(data).get(())
        is_often = part is not None and bool(whole) and part / (whole or 1.0) >= self.share
        return {(): part if is_often and part is not None else 0.0}


@dataclass(frozen=True, slots=True)
class Quantile:
    """A quantile of the growth of a histogram within the window, over all replicas, per value of ``by``."""

    share: float
    metric: str
    """Name of the metric without ``_bucket``."""
    matchers: Matchers = field(default_factory=dict)
    by: tuple[str, ...] = ()

    def promql(self, window: str) -> str:
        buckets = Increase(f"{self.metric}_bucket", self.matchers, (*self.by, "le"))
        return f"histogram_quantile({self.share:g}, {buckets.promql(window)})"

    def evaluate(self, data: MetricData) -> Vector:
        histograms: dict[Labels, dict[float, float]] = {}
        for labels, grown in data.increases(f"{self.metric}_bucket"):
            if _match(labels, self.matchers):
                buckets = histograms.setdefault(_key(labels, self.by), {})
                bound = float(labels["le"])
                buckets[bound] = buckets.get(bound, 0.0) + grown
        found = {labels: quantile(self.share, buckets) for labels, buckets in histograms.items()}
        return {labels: value for labels, value in found.items() if value is not None}


def _combined(
    series: Iterable[SeriesValue], matchers: Matchers, by: tuple[str, ...], combine: Callable[[float, float], float]
) -> Vector:
    """The values of the series that match, combined per value of the labels ``by``."""
    found: Vector = {}
    for labels, value in series:
        if _match(labels, matchers):
            key = _key(labels, by)
            found[key] = combine(found[key], value) if key in found else value
    return found


def _match(labels: Mapping[str, str], matchers: Matchers) -> bool:
    return all(labels.get(name, "") in allowed for name, allowed in matchers.items())


def _key(labels: Mapping[str, str], by: tuple[str, ...]) -> Labels:
    return tuple((name, labels.get(name, "")) for name in sorted(by))


def _by(names: tuple[str, ...]) -> str:
    return f" by ({', '.join(names)}) " if names else ""


def _braces(matchers: Matchers) -> str:
    return f"{{{', '.join(_matcher(name, allowed) for name, allowed in matchers.items())}}}" if matchers else ""


def _matcher(name: str, allowed: Sequence[str]) -> str:
    return f'{name}="{allowed[0]}"' if len(allowed) == 1 else f'{name}=~"{"|".join(allowed)}"'


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
