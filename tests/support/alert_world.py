"""A recorded stretch of time in which everything that alerts look at goes up and down: the same series for us,
as samples of replicas, and for promtool, as input series."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from services.alerting.rules import rules
from services.alerting.state_machine import evaluate_rules
from services.base.settings import Settings
from services.metrics.catalogue import LATENCY_BUCKETS
from services.metrics.expressions import SeriesValue
from services.metrics.gauges import GaugeValues, breaker_gauges
from services.metrics.sample import SampleWindow, counters, parse
from state.alerts import FIRING, PENDING, Alert
from state.replicas import Replica

SETTINGS = Settings(alert_window=60_000, alert_queue_depth=20, alert_outbox_age=40_000, alert_review_age=50_000)
WINDOW = timedelta(milliseconds=SETTINGS.alert_window)
INTERVAL = timedelta(seconds=5)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
OPERATIONS = ("check_availability", "reserve", "release")
OUTCOMES = ("success", "rejected", "timeout", "unavailable", "invalid", "short_circuited", "refused_us", "throttled")
BREAKERS = ("inventoryServiceChecker", "inventoryServiceReserver", "inventoryServiceReleaser")
CALM, OUTAGE, SLOW = "calm", "outage", "slow"


@dataclass
class RecordedReplica:
    """One worker: its counters, and the states of its breakers."""

    name: str
    chance: random.Random
    sample: dict[str, Any] = field(default_factory=dict)
    breakers: dict[str, str] = field(default_factory=lambda: dict.fromkeys(BREAKERS, "closed"))

    def restart(self) -> None:
        self.sample = {
            "failures": {"INVENTORY_UNAVAILABLE": 0, "INSUFFICIENT_INVENTORY": 0, "PENDING_INVENTORY": 0},
            "orders": {"PAYING": 0},
            "refusals": {operation: {"401": 0, "404": 0} for operation in OPERATIONS},
            "requests": {operation: dict.fromkeys(OUTCOMES, 0) for operation in OPERATIONS},
            "latency": {o: {"buckets": [0] * (len(LATENCY_BUCKETS) + 1), "sum": 0.0, "count": 0} for o in OPERATIONS},
            "releases": {"released": 0, "retried": 0, "failed": 0},
        }
        self.breakers = dict.fromkeys(BREAKERS, "closed")

    def live(self, mood: str) -> None:
        for operation in OPERATIONS:
            for _ in range(self.chance.choice((0, 0, 1, 3, 7))):
                self._call(operation, mood)
        for _ in range(self.chance.choice((0, 1, 2))):
            self._order(mood)
        failing = mood == OUTAGE and self.chance.random() < 0.4
        outcome = self.chance.choice(("retried", "failed")) if failing else "released"
        self.sample["releases"][outcome] += self.chance.random() < 0.5
        for name in BREAKERS:
            if self.chance.random() < 0.2:
                bad = ("open", "half_open", "forced_open") if mood == OUTAGE else ("closed", "half_open")
                self.breakers[name] = self.chance.choice(bad)

    def _order(self, mood: str) -> None:
        if mood == OUTAGE and self.chance.random() < 0.6:
            self.sample["failures"][self.chance.choice(("INVENTORY_UNAVAILABLE", "PENDING_INVENTORY"))] += 1
        elif self.chance.random() < 0.2:
            self.sample["failures"]["INSUFFICIENT_INVENTORY"] += 1
        else:
            self.sample["orders"]["PAYING"] += 1

    def _call(self, operation: str, mood: str) -> None:
        bad = self.chance.random() < (0.6 if mood == OUTAGE else 0.01)
        outcome = self.chance.choice(OUTCOMES[2:] if bad else ("success", "success", "rejected"))
        self.sample["requests"][operation][outcome] += 1
        if outcome == "refused_us":
            self.sample["refusals"][operation][self.chance.choice(("401", "404"))] += 1
        seconds = self.chance.uniform(0.8, 3.5) if mood == SLOW else self.chance.uniform(0.004, 0.3)
        latency = self.sample["latency"][operation]
        latency["count"] += 1
        latency["buckets"] = [
            count + (seconds <= bound)
            for count, bound in zip(latency["buckets"], (*LATENCY_BUCKETS, float("inf")), strict=True)
        ]


@dataclass(frozen=True)
class Instant:
    """Everything that is known at one time."""

    at: datetime
    samples: list[tuple[datetime, str, dict[str, Any]]]
    """Of this instant, of the replicas that sampled."""
    gauges: GaugeValues


def recorded(seed: int, steps: int, interval: timedelta) -> list[Instant]:
    """``steps`` instants from the beginning of time on."""
    chance = random.Random(seed)
    replicas = [RecordedReplica(name, chance) for name in ("a", "b")]
    for replica in replicas:
        replica.restart()
    waiting, dead_letters, oldest_event, oldest_case, broken, mood = 0, 0, None, None, 0, CALM
    found = []
    for number in range(steps):
        at = EPOCH + number * interval
        if number % 12 == 0:
            mood = chance.choice((CALM, OUTAGE, SLOW))
        for replica in replicas:
            if chance.random() < 0.03:
                replica.restart()
            replica.live(mood)
        waiting = max(0, waiting + (chance.randint(0, 9) if mood == OUTAGE else -chance.randint(0, 8)))
        dead_letters = chance.choice((dead_letters, dead_letters, 0, 2))
        in_a_row = chance.randint(0, 5) if mood == OUTAGE else 0
        broken = chance.choice((broken, broken, broken, 0, 1))
        oldest_event = _began(oldest_event, at, chance)
        oldest_case = _began(oldest_case, at, chance)
        # A replica misses a sample now and then.
        samples = [(at, r.name, _copy(r.sample)) for r in replicas if number == 0 or chance.random() < 0.93]
        values = {
            "reservation_queue_depth": waiting,
            "outbox_oldest_age_seconds": _age(oldest_event, at),
            "dead_letters": dead_letters,
            "manual_reviews_oldest_age_seconds": _age(oldest_case, at),
            "orders_refused_in_a_row": in_a_row,
            "outbox_undeliverable": broken // 2,
        }
        gauges: dict[str, list[SeriesValue]] = {name: [({}, float(value))] for name, value in values.items()}
        gauges["manual_reviews_open"] = [({"reason": "STEP_FAILED"}, float(broken))]
        found.append(Instant(at, samples, {**gauges, **breaker_gauges(_reported(r, at) for r in replicas)}))
    return found


def _age(since: datetime | None, at: datetime) -> float:
    return (at - since).total_seconds() if since else 0.0


def _began(since: datetime | None, at: datetime, chance: random.Random) -> datetime | None:
    if since is None:
        return at if chance.random() < 0.3 else None
    return None if chance.random() < 0.08 else since


def _copy(sample: dict[str, Any]) -> dict[str, Any]:
    return {
        "requests": {name: dict(counts) for name, counts in sample["requests"].items()},
        "latency": {name: dict(latency) for name, latency in sample["latency"].items()},
        "releases": dict(sample["releases"]),
        "failures": dict(sample["failures"]),
        "orders": dict(sample["orders"]),
        "refusals": {name: dict(counts) for name, counts in sample["refusals"].items()},
    }


def _reported(replica: RecordedReplica, at: datetime) -> Replica:
    breakers = [{"name": name, "state": state} for name, state in replica.breakers.items()]
    return Replica(replica.name, EPOCH, at, breakers, {})


def input_series(instants: list[Instant]) -> dict[str, list[str]]:
    """Per series, the value of each instant in promtool's notation."""
    found: dict[str, list[str]] = {}
    for number, instant in enumerate(instants):
        now: dict[str, float] = {}
        for _, replica, sample in instant.samples:
            for name, labels, value in counters(parse((instant.at, replica, sample))):
                now[written(name, dict(labels) | {"instance": replica})] = value
        for name, values in instant.gauges.items():
            for labels, value in values:
                now[written(name, labels)] = value
        for series, value in now.items():
            found.setdefault(series, ["_"] * number).append(f"{value:g}")
        for series, values in found.items():
            if series not in now:
                values.append("_")
    return found


def written(name: str, labels: dict[str, str]) -> str:
    """A series in Prometheus' notation."""
    inside = ", ".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    return f"{name}{{{inside}}}"


def evaluated_here(instants: list[Instant], interval: timedelta) -> list[list[Alert]]:
    """The alerts that stand after each evaluation."""
    window, known, found = SampleWindow(WINDOW), {}, []
    for instant in instants:
        window.feed(instant.samples)
        if (instant.at - EPOCH) % interval:
            continue
        data = window.at(instant.at, instant.gauges)
        change = evaluate_rules(
            rules(SETTINGS), data, list(known.values()), instant.at, outage=WINDOW, link="http://here"
        )
        known |= {alert.alert_id: alert for alert in change.put}
        for alert_id in change.remove:
            del known[alert_id]
        found.append([alert for alert in known.values() if alert.state in (FIRING, PENDING)])
    return found
