"""A half hour in the life of the service as OpenMetrics, the way a scrape every fifteen seconds would have seen it."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import Any

from services.domain.calls import Attempt
from services.metrics.catalogue import ORDERS
from services.metrics.expressions import SeriesValue
from services.metrics.registry import Metrics

BREAKERS = ("inventoryServiceChecker", "inventoryServiceReserver", "inventoryServiceReleaser")
SCRAPE = timedelta(seconds=15)
LENGTH = timedelta(minutes=30)
OUTAGE = (timedelta(minutes=18), timedelta(minutes=21))
"""After the start: reservations fail, and the breaker is open."""


Sample = tuple[datetime, dict[str, Any]]


@cache
def half_hour(start: datetime) -> tuple[str, list[Sample]]:
    """The exposition texts of a registry that lives through it, and the samples that a worker would store."""
    metrics = Metrics(BREAKERS)
    families: dict[str, list[str]] = {}
    heads: dict[str, list[str]] = {}
    samples: list[Sample] = []
    for number in range(LENGTH // SCRAPE + 1):
        at = start + number * SCRAPE
        during_outage = OUTAGE[0] <= at - start < OUTAGE[1]
        _live(metrics, number, at, during_outage=during_outage)
        _collect(metrics.exposition().decode(), at.timestamp(), heads, families)
        samples.append((at, metrics.sample() | _gauges(number, during_outage=during_outage)))
    text = "".join("\n".join([*heads[name], *families[name]]) + "\n" for name in families) + "# EOF\n"
    return text, samples


def _gauges(number: int, *, during_outage: bool) -> dict[str, Any]:
    waiting = 7 if during_outage else 0
    return {
        "queues": {"reservation": waiting, "release": 1, "outbox": number % 3, "reviews": waiting, "deadLetters": 0},
        "outboxOldestAgeSeconds": 0.0,
        "breakers": {name: "open" if during_outage and name == BREAKERS[1] else "closed" for name in BREAKERS},
    }


def _live(metrics: Metrics, number: int, at: datetime, *, during_outage: bool) -> None:
    for call in range(10 + number % 4):
        seconds = 0.02 + 0.01 * (call % 7)
        metrics.attempt(
            Attempt(
                at,
                "check_availability",
                "timeout" if during_outage and call % 3 == 0 else "success",
                1.7 if during_outage else seconds,
            )
        )
        metrics.attempt(
            Attempt(
                at, "reserve", "short_circuited" if during_outage else "success", 0.0 if during_outage else 2 * seconds
            )
        )
        metrics.count(ORDERS, "PENDING_INVENTORY" if during_outage else "PLACED")
        if during_outage:
            metrics.order_failed("PENDING_INVENTORY")
    metrics.breaker_is(BREAKERS[1], "open" if during_outage else "closed")
    waiting = 7 if during_outage else 0
    queues = {
        "reservation_queue_depth": waiting,
        "release_queue_depth": 1,
        "outbox_pending": number % 3,
        "outbox_oldest_age_seconds": 0,
        "dead_letters": 0,
    }
    gauges: dict[str, list[SeriesValue]] = {name: [({}, float(value))] for name, value in queues.items()}
    metrics.queues(gauges | {"manual_reviews_open": [({"reason": "PENDING_INVENTORY"}, float(waiting))]})


def _collect(text: str, at: float, heads: dict[str, list[str]], families: dict[str, list[str]]) -> None:
    name = ""
    for line, following in pairwise([*text.splitlines(), ""]):
        if line.startswith("# HELP"):
            # OpenMetrics names a family without the suffix of its samples.
            name = line.split()[2].removesuffix("_total")
            kind = following.split()[3]
            heads[name] = [f"# TYPE {name} {kind}"]
            families.setdefault(name, [])
        elif not line.startswith("#") and line:
            families[name].append(f"{line} {at:.3f}")
