"""Every course that the Metrics page draws: how it is asked of Prometheus, and how it is read off our own rows.

The two stand side by side because they must mean the same. Source: seed 9.1; contract section 6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from services.domain.call_attempts import INVENTORY_CALLS
from services.domain.orders.model import OrderStatus
from services.metrics.registry import FAILURE_REASONS, RELEASE_OUTCOMES
from services.metrics.rollup import Rollup

Values = Mapping[str, float | None]
"""By series; None: nothing is known."""

LATENCY = {0.5: "latency_p50", 0.95: "latency_p95", 0.99: "latency_p99"}
SUCCESS, BUSINESS, CALLS, DENIED = "success_rate", "business_rate", "calls", "denied"
FAILURES, ORDERS, RELEASES = "failures", "orders", "releases"
QUEUES, OUTBOX_AGE, BREAKER_OPEN = "queues", "outbox_age", "breaker_open"

COUNTED = (CALLS, DENIED, FAILURES, ORDERS, RELEASES)
"""Their courses are per minute, their totals are counts."""

ANSWERED = 'outcome=~"success|rejected"'


@dataclass(frozen=True, slots=True)
class Query:
    """One expression in PromQL; ``$w`` stands for the window and every result becomes a series."""

    metric: str
    expression: str
    label: str = ""
    """The label whose value names the series."""
    series: str = ""
    """The name of the series where there is no label."""

    def over(self, seconds: float) -> str:
        """The expression for a window of so many seconds."""
        return self.expression.replace("$w", f"{max(1, round(seconds))}s")

    def named(self, labels: Mapping[str, str]) -> str:
        """The series that a result with these labels is."""
        return labels.get(self.label, self.series) if self.label else self.series


def _quantile(quantile: float) -> str:
    rates = "sum by (operation, le) (rate(inventory_request_duration_seconds_bucket[$w]))"
    return f"histogram_quantile({quantile}, {rates})"


def _ratio(part: str, whole: str) -> str:
    requests = "sum by (operation) (rate(inventory_requests_total{{{}}}[$w]))".format
    return f"{requests(part)} / {requests(whole)}"


def _increase(counter: str, label: str) -> str:
    return f"sum by ({label}) (increase({counter}[$w]))"


RATES = (
    *(Query(name, _quantile(quantile), "operation") for quantile, name in LATENCY.items()),
    Query(SUCCESS, _ratio(ANSWERED, ""), "operation"),
    Query(BUSINESS, _ratio('outcome="success"', ANSWERED), "operation"),
)
COUNTS = (
    Query(CALLS, _increase("inventory_requests_total", "operation"), "operation"),
    Query(DENIED, _increase('inventory_requests_total{outcome="short_circuited"}', "operation"), "operation"),
    Query(FAILURES, _increase("inventory_order_failures_total", "reason"), "reason"),
    Query(ORDERS, _increase("orders_total", "status"), "status"),
    Query(RELEASES, _increase("inventory_releases_total", "outcome"), "outcome"),
)
GAUGES = (
    Query(QUEUES, "max(max_over_time(reservation_queue_depth[$w]))", series="reservation"),
    Query(QUEUES, "max(max_over_time(release_queue_depth[$w]))", series="release"),
    Query(QUEUES, "max(max_over_time(outbox_pending[$w]))", series="outbox"),
    Query(QUEUES, "sum(max by (reason) (max_over_time(manual_reviews_open[$w])))", series="reviews"),
    Query(QUEUES, "max(max_over_time(dead_letters[$w]))", series="deadLetters"),
    Query(OUTBOX_AGE, "max(max_over_time(outbox_oldest_age_seconds[$w]))", series="outbox"),
    Query(
        BREAKER_OPEN,
        'max by (breaker) (max_over_time(inventory_circuit_breaker_state{state=~"open|forced_open"}[$w]))',
        "breaker",
    ),
)
ATTEMPTS = 'sum(increase(inventory_requests_total{{operation="{}"{}}}[$w]))'


def attempts(operation: str, *, answered: bool) -> Query:
    """Calls of one operation, all or those that were answered."""
    only = f",{ANSWERED}" if answered else ""
    return Query("good" if answered else "total", ATTEMPTS.format(operation, only), series=operation)


def _latency(quantile: float) -> Callable[[Rollup], Values]:
    return lambda rollup: {name: rollup.counted.latency_seconds(name, quantile) for name in INVENTORY_CALLS}


def _denied(rollup: Rollup) -> Values:
    return {name: rollup.counted.requests[name, "short_circuited"] for name in INVENTORY_CALLS}


NOT_QUEUES = ("outboxAge", "differences", "undeliverable")
"""Gauges of samples that the chart of queues does not draw."""


def _queues(rollup: Rollup) -> Values:
    return {name: value for name, value in rollup.highest.items() if name not in NOT_QUEUES}


def _outbox_age(rollup: Rollup) -> Values:
    return {"outbox": rollup.highest["outboxAge"]} if "outboxAge" in rollup.highest else {}


READERS: Mapping[str, Callable[[Rollup], Values]] = {
    **{name: _latency(quantile) for quantile, name in LATENCY.items()},
    SUCCESS: lambda rollup: {name: rollup.counted.technical_rate(name) for name in INVENTORY_CALLS},
    BUSINESS: lambda rollup: {name: rollup.counted.business_rate(name) for name in INVENTORY_CALLS},
    CALLS: lambda rollup: {name: rollup.counted.calls(name) for name in INVENTORY_CALLS},
    DENIED: _denied,
    FAILURES: lambda rollup: {reason: rollup.counted.failures[reason] for reason in FAILURE_REASONS},
    ORDERS: lambda rollup: {status: rollup.counted.orders[status] for status in OrderStatus},
    RELEASES: lambda rollup: {outcome: rollup.counted.releases[outcome] for outcome in RELEASE_OUTCOMES},
    QUEUES: _queues,
    OUTBOX_AGE: _outbox_age,
    BREAKER_OPEN: lambda rollup: {
        name: float(state in ("open", "forced_open")) for name, state in rollup.breakers.items()
    },
}
"""By metric: its series within one step; a counted one as a count, at 0 too, as in Prometheus."""
