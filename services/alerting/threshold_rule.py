"""What an alert is: its condition, its texts and its times, said once for the service itself and for Prometheus.

Pure. Source: contract section 6.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from services.metrics.expressions import Expression, MetricData, Vector

Severity = Literal["critical", "warning"]
Comparison = Literal[">", ">=", "<"]

ENOUGH_CALLS = 5
"""Rates and latencies of fewer calls within the window alarm nobody."""

LABELS = ("operation", "status", "breaker")
"""That a summary may name."""

_COMPARE = {">": operator.gt, ">=": operator.ge, "<": operator.lt}


@dataclass(frozen=True, slots=True)
class Rule:
    """When an alert fires, and what to do then."""

    name: str
    severity: Severity
    summary: str
    """May hold names of labels in braces, whose values stand there in an alert."""
    runbook: tuple[str, ...]
    """What it means, then what to do, step by step."""
    page: str
    """The console's page that explains it."""
    value: Expression
    comparison: Comparison
    threshold: float
    unit: Literal["seconds", "share", "count", "state"]
    for_duration: timedelta = timedelta(0)
    """How long it must be true before the alert fires: Prometheus' ``for``."""
    keep_firing_for: timedelta = timedelta(0)
    """How long the alert goes on after that, so that it does not flap: Prometheus' ``keep_firing_for``."""
    enough: Expression | None = None
    """A count that must reach ENOUGH_CALLS as well."""
    filters: Mapping[str, str] = field(default_factory=dict)
    """Filters to set on the page, by the name they have in its address."""
    more_pages: tuple[str, ...] = ()
    """Further pages of the console on which one of its causes is mended."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that tell alerts of this rule apart."""
        return tuple(getattr(self.value, "by", ()))

    def said(self, labels: Mapping[str, str]) -> str:
        """The summary about an alert with these labels."""
        return self.summary.format_map({name: labels.get(name, name) for name in LABELS})

    def promql(self, window: str) -> str:
        """The condition in PromQL."""
        condition = f"{self.value.promql(window)} {self.comparison} {self.threshold:g}"
        return f"{condition} and {self.enough.promql(window)} >= {ENOUGH_CALLS}" if self.enough else condition

    def active(self, data: MetricData) -> Vector:
        """For which labels the condition holds, with the value; ``{}`` when for none."""
        if self.enough and self.enough.evaluate(data).get((), 0.0) < ENOUGH_CALLS:
            return {}
        holds = _COMPARE[self.comparison]
        return {labels: value for labels, value in self.value.evaluate(data).items() if holds(value, self.threshold)}

    def present(self, data: MetricData) -> float | None:
        """The value that comes nearest to the threshold, or is farthest beyond it; None when nothing is known."""
        values = self.value.evaluate(data).values()
        worst = min if self.comparison == "<" else max
        return worst(values, default=None)
