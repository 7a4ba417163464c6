"""The recent samples of all replicas in memory: the metric data of the alerts.

Source: services/metrics/recorder.py writes the samples; the names are those of contract 6.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.metrics.catalogue import COUNTERS, DURATION
from services.metrics.expressions import SeriesValue
from services.metrics.gauges import GaugeValues
from services.metrics.math import Point, increase
from services.metrics.sample import MetricSample, SampleRow, parse

MOST_POINTS = 720
"""Maximum of points of one series; a longer window keeps points with more time between them."""

SeriesKey = tuple[str, tuple[tuple[str, str], ...]]
"""Metric and labels."""

COUNTER_NAMES = (*(family.name for family in COUNTERS), f"{DURATION}_count", f"{DURATION}_bucket")


@dataclass(frozen=True, slots=True)
class Series:
    """One metric with one set of labels of one process, oldest point first."""

    labels: Mapping[str, str]
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class MetricWindow:
    """The metrics of the window that ends at one instant; MetricData for expressions."""

    at_ms: int
    window_ms: int
    counters: Mapping[str, Sequence[Series]] = field(default_factory=dict)
    """Series by metric; points outside of the window are ignored."""
    present: GaugeValues = field(default_factory=dict)
    """Current values of the gauges."""

    def increases(self, metric: str) -> Iterator[SeriesValue]:
        for series in self.counters.get(metric, ()):
            grown = increase(series.points, self.at_ms - self.window_ms, self.at_ms)
            if grown is not None:
                yield series.labels, grown

    def gauges(self, metric: str) -> Iterable[SeriesValue]:
        return self.present.get(metric, ())


class SampleWindow:
    """Stores the counters of all replicas within the window."""

    def __init__(self, window: timedelta) -> None:
        self._window_ms = window // timedelta(milliseconds=1)
        self._spacing_ms = max(self._window_ms // MOST_POINTS, 1)
        self._points: dict[SeriesKey, deque[Point]] = {}
        self._fed_ms: dict[str, int] = {}

    def feed(self, rows: Iterable[SampleRow]) -> None:
        """Add samples ``(at, replica, sample)``, oldest first; samples added before are skipped."""
        for row in rows:
            at_ms, replica = _milliseconds(row[0]), row[1]
            if replica in self._fed_ms and at_ms < self._fed_ms[replica] + self._spacing_ms:
                continue
            self._fed_ms[replica] = at_ms
            for name, labels, value in counters(parse(row)):
                key = (name, (*labels.items(), ("instance", replica)))
                self._points.setdefault(key, deque()).append((at_ms, value))

    def at(self, now: datetime, gauges: GaugeValues) -> MetricWindow:
        """The metrics of the window that ends now; points before the window are dropped."""
        at_ms = _milliseconds(now)
        self._drop(at_ms - self._window_ms)
        found: dict[str, list[Series]] = {}
        for (name, labels), points in self._points.items():
            found.setdefault(name, []).append(Series(dict(labels), points))
        return MetricWindow(at_ms, self._window_ms, found, gauges)

    def _drop(self, before_ms: int) -> None:
        for key, points in list(self._points.items()):
            while points and points[0][0] < before_ms:
                points.popleft()
            if not points:
                del self._points[key]
        self._fed_ms = {replica: at_ms for replica, at_ms in self._fed_ms.items() if at_ms >= before_ms}


def counters(sample: MetricSample) -> Iterator[tuple[str, Mapping[str, str], float]]:
    """``(metric, labels, value)`` of every counter of a sample; empty for a sample with an unknown structure."""
    if sample.counts is not None:
        for name in COUNTER_NAMES:
            for labels, value in sample.counts.increases(name):
                yield name, labels, value


def _milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)
