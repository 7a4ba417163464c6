"""An alert rule: its condition (value, comparison and threshold), its texts and its times.

The service and the rule file for Prometheus use the same definition.

Pure. Source: contract 6.
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
"""Fewest calls within the window for an alert on a rate or a latency to fire."""

LABELS = ("operation", "status", "breaker")
"""Labels that a summary may contain."""

_COMPARE = {">": operator.gt, ">=": operator.ge, "<": operator.lt}


@dataclass(frozen=True, slots=True)
class Rule:
    """The condition, the times and the runbook of one alert."""

    name: str
    severity: Severity
    summary: str
    """Template: ``{label}`` is replaced by the value of the label."""
    runbook: tuple[str, ...]
    """The meaning of the alert, then the steps to take."""
    page: str
    """The page of the console that explains the alert."""
    value: Expression
    comparison: Comparison = ">"
    threshold: float = 0
    unit: Literal["seconds", "share", "count", "state"] = "count"
    for_duration: timedelta = timedelta(0)
    """Time for which the condition must be true before the alert fires: ``for`` in Prometheus."""
    keep_firing_for: timedelta = timedelta(0)
    """Time for which the alert keeps firing once the condition is false, to avoid flapping."""
    enough: Expression | None = None
    """A count that must reach ENOUGH_CALLS for the alert to fire; None for no such limit."""
    filters: Mapping[str, str] = field(default_factory=dict)
    """Filters of ``page``, by URL parameter."""
    more_pages: tuple[str, ...] = ()
    """Further pages on which an operator can repair a cause of the alert."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that distinguish the alerts of this rule."""
        return tuple(getattr(self.value, "by", ()))

    def summary_for(self, labels: Mapping[str, str]) -> str:
        """The summary of an alert with these labels."""
        return self.summary.format_map({name: labels.get(name, name) for name in LABELS})

    def promql(self, window: str) -> str:
        """The condition in PromQL."""
        condition = f"{self.value.promql(window)} {self.comparison} {self.threshold:g}"
        return f"{condition} and {self.enough.promql(window)} >= {ENOUGH_CALLS}" if self.enough else condition

    def active(self, data: MetricData) -> Vector:
        """The values for which the condition is true, by set of labels."""
        if self.enough and self.enough.evaluate(data).get((), 0.0) < ENOUGH_CALLS:
            return {}
        is_beyond = _COMPARE[self.comparison]
        return {
            labels: value for labels, value in self.value.evaluate(data).items() if is_beyond(value, self.threshold)
        }

    def worst_value(self, data: MetricData) -> float | None:
        """The worst value over all labels; None when no value is known."""
        values = self.value.evaluate(data).values()
        worst = min if self.comparison == "<" else max
        return worst(values, default=None)
