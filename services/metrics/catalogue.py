"""The counters that samples store, and every metric that the charts and the Overview page draw. Pure.

Each drawn metric is one expression: evaluated over our own samples and rollups, and queried from Prometheus as PromQL.
Source: requirements 9.1; contract 6.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

from services.domain.calls import INVENTORY_CALLS, OUTCOMES, REJECTED, SHORT_CIRCUITED, SUCCESS, InventoryCall
from services.domain.orders.model import OrderStatus, ReviewReason
from services.metrics.expressions import Expression, Increase, MaxGauge, MetricData, Quantile, Ratio, SumOfGauges

LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 3.25, 5.0)
"""Upper bounds in seconds; a last bucket without a bound follows.

The threshold of the latency alert (1 s) and the timeout of a call (3 s) are bounds. A call that times out lasts a
little longer than the timeout: without the narrow bucket above 3 s, quantiles would be read as 5 s.
"""

DURATION = "inventory_request_duration_seconds"
"""The histogram of latencies, per inventory call."""


@dataclass(frozen=True, slots=True)
class CounterFamily:
    """A counter of the registry that every sample and rollup stores."""

    stored: str
    """Its key in stored samples and rollups."""
    name: str
    help: str
    labels: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]
    """Every set of label values; all of them exist from the start."""


FAILURE_REASONS = (
    "INVENTORY_UNAVAILABLE",
    "INSUFFICIENT_INVENTORY",
    "INVENTORY_TIMEOUT",
    "RESERVATION_FAILED",
    "RELEASE_FAILED",
    *(reason.value for reason in ReviewReason if reason != ReviewReason.RELEASE_FAILED),
)
REFUSAL_STATUSES = ("400", "401", "403", "404", "405", "407", "421", "425", "other")
"""HTTP statuses with which the Inventory Service refuses this service and not an order. Source: contract 4."""

REQUESTS = CounterFamily(
    "requests",
    "inventory_requests_total",
    "Attempts by outcome.",
    ("operation", "outcome"),
    tuple(product(INVENTORY_CALLS, OUTCOMES)),
)
REFUSALS = CounterFamily(
    "refusals",
    "inventory_refusals_total",
    "Calls in which this service was refused, not an order.",
    ("operation", "status"),
    tuple(product(INVENTORY_CALLS, REFUSAL_STATUSES)),
)
ORDERS = CounterFamily(
    "orders", "orders_total", "Orders that reached a status.", ("status",), tuple((s.value,) for s in OrderStatus)
)
FAILURES = CounterFamily(
    "failures",
    "inventory_order_failures_total",
    "Orders failing due to inventory.",
    ("reason",),
    tuple((reason,) for reason in FAILURE_REASONS),
)
RELEASES = CounterFamily(
    "releases",
    "inventory_releases_total",
    "Release attempts by outcome.",
    ("outcome",),
    (("released",), ("retried",), ("failed",)),
)
COUNTERS = (REQUESTS, REFUSALS, ORDERS, FAILURES, RELEASES)

ANSWERED = (SUCCESS, REJECTED)
"""Outcomes that count as technical success; a refused order is an answer, not a fault."""


@dataclass(frozen=True, slots=True)
class DrawnMetric:
    """One metric of a chart or a tile; metrics with the same name are drawn in one chart."""

    name: str
    expression: Expression
    label: str = ""
    """The label whose value names the series."""
    series: str = ""
    """The name of the series when ``label`` is empty."""

    def series_name(self, labels: Mapping[str, str]) -> str:
        return labels.get(self.label, self.series) if self.label else self.series

    def evaluate(self, data: MetricData) -> dict[str, float]:
        """The value by series; a series without a known value is left out."""
        return {self.series_name(dict(labels)): value for labels, value in self.expression.evaluate(data).items()}


def _requests(*outcomes: str) -> Increase:
    return Increase(REQUESTS.name, {"outcome": outcomes} if outcomes else {}, ("operation",))


def _highest(metric: str) -> MaxGauge:
    return MaxGauge(metric, is_over_window=True)


LATENCY = {
    share: DrawnMetric(f"latency_p{share * 100:.0f}", Quantile(share, DURATION, by=("operation",)), "operation")
    for share in (0.5, 0.95, 0.99)
}
SUCCESS_RATE = DrawnMetric("success_rate", Ratio(_requests(*ANSWERED), _requests()), "operation")
"""Answered calls over all calls, including calls that an open breaker denied."""
BUSINESS_RATE = DrawnMetric("business_rate", Ratio(_requests(SUCCESS), _requests(*ANSWERED)), "operation")
"""Successful calls over answered calls."""
CALLS = DrawnMetric("calls", _requests(), "operation")
ORDERS_BY_STATUS = DrawnMetric("orders", Increase(ORDERS.name, by=("status",)), "status")
FAILURES_BY_REASON = DrawnMetric("failures", Increase(FAILURES.name, by=("reason",)), "reason")

COUNTED_METRICS = (
    CALLS,
    DrawnMetric("denied", _requests(SHORT_CIRCUITED), "operation"),
    FAILURES_BY_REASON,
    ORDERS_BY_STATUS,
    DrawnMetric("releases", Increase(RELEASES.name, by=("outcome",)), "outcome"),
)
"""Metrics drawn per minute; their totals are counts."""

DRAWN_METRICS = (
    *LATENCY.values(),
    SUCCESS_RATE,
    BUSINESS_RATE,
    *COUNTED_METRICS,
    DrawnMetric("queues", _highest("reservation_queue_depth"), series="reservation"),
    DrawnMetric("queues", _highest("release_queue_depth"), series="release"),
    DrawnMetric("queues", _highest("outbox_pending"), series="outbox"),
    DrawnMetric(
        "queues",
        SumOfGauges((MaxGauge("manual_reviews_open", ("reason",), is_over_window=True),)),
        series="reviews",
    ),
    DrawnMetric("queues", _highest("dead_letters"), series="deadLetters"),
    DrawnMetric("outbox_age", _highest("outbox_oldest_age_seconds"), series="outbox"),
    DrawnMetric(
        "breaker_open",
        MaxGauge(
            "inventory_circuit_breaker_state", ("breaker",), {"state": ("open", "forced_open")}, is_over_window=True
        ),
        "breaker",
    ),
)
"""Every metric of the Metrics page."""

COUNTED = frozenset(metric.name for metric in COUNTED_METRICS)

_RESERVE = {"operation": (InventoryCall.RESERVE.value,)}
RESERVATIONS = Increase(REQUESTS.name, _RESERVE)
ANSWERED_RESERVATIONS = Increase(REQUESTS.name, _RESERVE | {"outcome": ANSWERED})
