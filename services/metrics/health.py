"""One sentence that says how the integration is, and what it rests on.

Pure. Findings are ordered by how much they hurt; the first one is the sentence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

from services.breakers.overview import FORCED_CLOSED, FORCED_OPEN, HALF_OPEN, OPEN, Breaker

NAMES = {
    "inventoryServiceChecker": "Availability check",
    "inventoryServiceReserver": "Reservation",
    "inventoryServiceReleaser": "Release",
}
"""What people call the breakers."""


class Level(IntEnum):
    """How much a finding needs a person."""

    GOOD = 0
    ATTENTION = 1
    BROKEN = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be."""

    level: Level
    text: str
    page: str
    """The page that explains it."""
    filters: tuple[tuple[str, str], ...] = ()
    """Filters to set on that page."""


@dataclass(frozen=True, slots=True)
class Health:
    """The verdict: its level, a headline, one sentence and the findings behind it."""

    level: Level
    headline: str
    sentence: str
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Where a number begins to need a person. Source: seed 10, alerts."""

    success_rate: float
    queue_depth: int
    latency_seconds: float
    outbox_age_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What the verdict rests on."""

    workers: int
    breakers: tuple[Breaker, ...]
    queues: Mapping[str, int]
    """reservation, release, failed_releases, reviews, outbox, dead_letters, differences."""
    outbox_age_seconds: float
    reserve_rate: float | None
    check_p95_seconds: float | None
    nats_connected: bool = True
    refused: int = 0
    """Orders that ended within the window because inventory could not be asked or refused this service."""


def assess(facts: Facts, thresholds: Thresholds) -> Health:
    """The worst finding makes the headline, all of them the sentence."""
    findings = tuple(sorted(_findings(facts, thresholds), key=lambda finding: -finding.level))
    if not findings:
        return Health(Level.GOOD, "Everything is running", _quiet(facts))
    level = findings[0].level
    headline = {Level.ATTENTION: "Needs attention", Level.BROKEN: "Not working as it should"}[level]
    return Health(level, headline, ". ".join(finding.text for finding in findings) + ".", findings)


def _quiet(facts: Facts) -> str:
    parts = []
    if facts.breakers:
        parts.append(f"{_count(len(facts.breakers), 'breaker')} closed")
    if facts.reserve_rate is not None:
        parts.append(f"{facts.reserve_rate * 100:.1f} % of reservations answered")
    return "; ".join([*parts, "nothing waits for a person"]) + "."


def _findings(facts: Facts, thresholds: Thresholds) -> Iterator[Finding]:
    if not facts.workers:
        yield Finding(Level.BROKEN, "No worker is running: orders and events are not handled", "overview")
    elif not facts.nats_connected:
        yield Finding(Level.BROKEN, "The connection to NATS is lost: events wait in the outbox", "overview")
    for breaker in facts.breakers:
        yield from _of_breaker(breaker)
    if facts.refused:
        # No breaker and no rate of reservations shows them: a failed check ends an order before its reservation.
        text = f"{_count(facts.refused, 'order was', 'orders were')} refused because inventory gave no answer"
        yield Finding(Level.BROKEN, text, "orders", (("status", "REJECTED"),))
    yield from _of_queues(facts, thresholds)
    if facts.reserve_rate is not None and facts.reserve_rate < thresholds.success_rate:
        text = f"Only {facts.reserve_rate * 100:.1f} % of reservations were answered"
        yield Finding(Level.BROKEN, text, "breakers")
    if facts.check_p95_seconds is not None and facts.check_p95_seconds > thresholds.latency_seconds:
        text = f"Availability checks take {facts.check_p95_seconds * 1000:,.0f} ms (p95)"
        yield Finding(Level.ATTENTION, text, "breakers")


def _of_breaker(breaker: Breaker) -> Iterator[Finding]:
    name = NAMES.get(breaker.name, breaker.name)
    if breaker.state in (OPEN, FORCED_OPEN):
        word = "open" if breaker.state == OPEN else "forced open"
        yield Finding(Level.BROKEN, f"The breaker of {name.lower()} is {word}", "breakers")
    elif breaker.state == HALF_OPEN:
        yield Finding(Level.ATTENTION, f"The breaker of {name.lower()} is half-open, trying one call", "breakers")
    elif breaker.state == FORCED_CLOSED:
        yield Finding(Level.ATTENTION, f"The breaker of {name.lower()} is forced closed", "breakers")


def _of_queues(facts: Facts, thresholds: Thresholds) -> Iterator[Finding]:
    waiting = facts.queues.get("reservation", 0)
    if waiting:
        level = Level.BROKEN if waiting > thresholds.queue_depth else Level.ATTENTION
        text = f"{_count(waiting, 'order waits', 'orders wait')} for inventory"
        yield Finding(level, text, "orders", (("status", "PENDING_INVENTORY"),))
    if failed := facts.queues.get("failed_releases", 0):
        text = f"{_count(failed, 'release')} failed"
        yield Finding(Level.ATTENTION, text, "releases", (("job", "FAILED"),))
    if reviews := facts.queues.get("reviews", 0):
        text = f"{_count(reviews, 'case waits', 'cases wait')} for a person"
        yield Finding(Level.ATTENTION, text, "reviews")
    if differences := facts.queues.get("differences", 0):
        text = f"{_count(differences, 'difference')} between orders, stock and money"
        yield Finding(Level.ATTENTION, text, "conservation")
    if dead_letters := facts.queues.get("dead_letters", 0):
        yield Finding(Level.ATTENTION, f"{_count(dead_letters, 'dead letter')}", "events")
    if facts.outbox_age_seconds > thresholds.outbox_age_seconds:
        text = f"The oldest event has waited {facts.outbox_age_seconds:,.0f} s to be published"
        yield Finding(Level.BROKEN, text, "events", (("view", "Outgoing"),))


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
