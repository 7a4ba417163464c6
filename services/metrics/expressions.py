"""What an alert looks at: each expression both computes itself and writes itself in PromQL.

Pure. That is what makes one definition serve the service and Prometheus.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from services.metrics.series import Matchers, Vector, View, increase, quantile


class Expression(Protocol):
    """A question about recorded series."""

    def promql(self, window: str) -> str:
        """The question in PromQL; ``window`` is a duration such as ``300s``."""
        ...

    def evaluate(self, view: View) -> Vector:
        """The answer: a value per set of labels, none where there is nothing to tell."""
        ...


@dataclass(frozen=True, slots=True)
class Highest:
    """The highest present value of a gauge over all replicas, per value of the labels ``by``."""

    metric: str
    by: tuple[str, ...] = ()
    matchers: Matchers = field(default_factory=dict)

    def promql(self, window: str) -> str:
        by = f" by ({', '.join(self.by)}) " if self.by else ""
        return f"max{by}({self.metric}{_braces(self.matchers)})"

    def evaluate(self, view: View) -> Vector:
        found: Vector = {}
        for labels, value in view.gauges.get(self.metric, ()):
            if all(labels.get(name, "") in allowed for name, allowed in self.matchers.items()):
                key = tuple(sorted((name, labels.get(name, "")) for name in self.by))
                found[key] = max(value, found.get(key, value))
        return found


@dataclass(frozen=True, slots=True)
class Increase:
    """How much counters grew within the window, added over all replicas."""

    metric: str
    matchers: Matchers = field(default_factory=dict)

    def promql(self, window: str) -> str:
        return f"sum(increase({self.metric}{_braces(self.matchers)}[{window}]))"

    def evaluate(self, view: View) -> Vector:
        grown = [
            increase(series.points, view.at_ms - view.window_ms, view.at_ms)
            for series in view.counters.get(self.metric, ())
            if series.fits(self.matchers)
        ]
        known = [value for value in grown if value is not None]
        return {(): sum(known)} if known else {}


@dataclass(frozen=True, slots=True)
class Share:
    """One increase as a part of another; nothing when the whole is nothing."""

    part: Increase
    whole: Increase | Total

    def promql(self, window: str) -> str:
        return f"{self.part.promql(window)} / {self.whole.promql(window)}"

    def evaluate(self, view: View) -> Vector:
        part, whole = self.part.evaluate(view).get(()), self.whole.evaluate(view).get(())
        return {(): part / whole} if part is not None and whole else {}


@dataclass(frozen=True, slots=True)
class Total:
    """The sum of several increases; no value when one of them has none."""

    parts: tuple[Increase, ...]

    def promql(self, window: str) -> str:
        return f"({' + '.join(part.promql(window) for part in self.parts)})"

    def evaluate(self, view: View) -> Vector:
        values = [part.evaluate(view).get(()) for part in self.parts]
        known = [value for value in values if value is not None]
        return {(): sum(known)} if len(known) == len(values) else {}


@dataclass(frozen=True, slots=True)
class SumOfKnown:
    """The sum of the gauges that have a value; no value when none has one."""

    parts: tuple[Highest, ...]

    def promql(self, window: str) -> str:
        return f"sum({' or '.join(part.promql(window) for part in self.parts)})"

    def evaluate(self, view: View) -> Vector:
        values = [value for part in self.parts for value in part.evaluate(view).values()]
        return {(): sum(values)} if values else {}


@dataclass(frozen=True, slots=True)
class InARow:
    """``row`` when it is at least ``enough``, else ``part`` when it is at least ``share`` of ``whole``.

    The first shows an outage at any traffic, the second one that hits every other call.
    """

    row: Highest
    enough: int
    part: Increase
    whole: Total
    share: float

    def promql(self, window: str) -> str:
        part = self.part.promql(window)
        often = f"{part} and {part} / {self.whole.promql(window)} >= {self.share:g}"
        return f"({self.row.promql(window)} >= {self.enough} or ({often}))"

    def evaluate(self, view: View) -> Vector:
        row = self.row.evaluate(view).get(())
        if row is None or row >= self.enough:
            return {} if row is None else {(): row}
        part, whole = self.part.evaluate(view).get(()), self.whole.evaluate(view).get(())
        is_often = part is not None and bool(whole) and part / (whole or 1.0) >= self.share
        return {(): part if is_often and part is not None else 0.0}


@dataclass(frozen=True, slots=True)
class ShareBy:
    """Increases per set of the labels ``by``, each as a part of all of the same value of the first of them."""

    part: str
    whole: str
    by: tuple[str, ...]

    def promql(self, window: str) -> str:
        parts = f"sum by ({', '.join(self.by)}) (increase({self.part}[{window}]))"
        whole = f"sum by ({self.by[0]}) (increase({self.whole}[{window}]))"
        return f"{parts} / on ({self.by[0]}) group_left () {whole}"

    def evaluate(self, view: View) -> Vector:
        wholes = self._grown(self.whole, self.by[:1], view)
        parts = self._grown(self.part, self.by, view)
        return {
            labels: value / wholes[key]
            for labels, value in parts.items()
            if wholes.get(key := tuple(pair for pair in labels if pair[0] == self.by[0]))
        }

    @staticmethod
    def _grown(metric: str, by: tuple[str, ...], view: View) -> Vector:
        found: Vector = {}
        for series in view.counters.get(metric, ()):
            grown = increase(series.points, view.at_ms - view.window_ms, view.at_ms)
            if grown is not None:
                key = tuple(sorted((name, series.labels.get(name, "")) for name in by))
                found[key] = found.get(key, 0.0) + grown
        return found


@dataclass(frozen=True, slots=True)
class Quantile:
    """A quantile of what a histogram gained within the window, over all replicas."""

    share: float
    metric: str
    """Without ``_bucket``."""
    matchers: Matchers = field(default_factory=dict)

    def promql(self, window: str) -> str:
        counts = f"sum by (le) (increase({self.metric}_bucket{_braces(self.matchers)}[{window}]))"
        return f"histogram_quantile({self.share:g}, {counts})"

    def evaluate(self, view: View) -> Vector:
        buckets: dict[float, float] = {}
        for series in view.counters.get(f"{self.metric}_bucket", ()):
            if series.fits(self.matchers):
                grown = increase(series.points, view.at_ms - view.window_ms, view.at_ms)
                if grown is not None:
                    bound = float(series.labels["le"])
                    buckets[bound] = buckets.get(bound, 0.0) + grown
        found = quantile(self.share, buckets)
        return {} if found is None else {(): found}


def _braces(matchers: Mapping[str, object]) -> str:
    return f"{{{', '.join(_matcher(name, allowed) for name, allowed in matchers.items())}}}" if matchers else ""


def _matcher(name: str, allowed: object) -> str:
    values = list(allowed) if isinstance(allowed, (tuple, list)) else [str(allowed)]
    return f'{name}="{values[0]}"' if len(values) == 1 else f'{name}=~"{"|".join(values)}"'
