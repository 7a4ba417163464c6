"""Assesses the health of the integration: findings, the worst first, and a sentence about them. Pure."""

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
"""Display names of the breakers."""


class Level(IntEnum):
    """How urgent a finding is."""

    GOOD = 0
    ATTENTION = 1
    BROKEN = 2


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem."""

    level: Level
    text: str
    page: str
    """The page of the console that explains the finding."""
    filters: tuple[tuple[str, str], ...] = ()
    """Filters to set on that page."""


@dataclass(frozen=True, slots=True)
class Health:
    """The assessment: level, headline, one sentence and the findings."""

    level: Level
    headline: str
    sentence: str
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Values beyond which a number becomes a finding. Source: requirements 10, alerts."""

    success_rate: float
    queue_depth: int
    latency_seconds: float
    outbox_age_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Facts:
    """The input of the assessment."""

    workers: int
    breakers: tuple[Breaker, ...]
    queues: Mapping[str, int]
    """Counts by queue: reservation, release, failed_releases, reviews, outbox, dead_letters, differences."""
    outbox_age_seconds: float
    reserve_rate: float | None
    check_p95_seconds: float | None
    nats_connected: bool = True
    refused: int = 0
    """Orders that ended within the window without an answer of the Inventory Service about them."""


def assess(facts: Facts, thresholds: Thresholds) -> Health:
    """Assess the facts: the worst finding sets the headline, all findings make the sentence."""
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
        # Breakers and the reservation rate do not show these orders: a failed check comes before the reservation.
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


_FOR_ATTENTION = (
    ("failed_releases", "release", "releases", " failed", "releases", (("job", "FAILED"),)),
    ("reviews", "case waits", "cases wait", " for a person", "reviews", ()),
    ("differences", "difference", "differences", " between orders, stock and money", "conservation", ()),
    ("dead_letters", "dead letter", "dead letters", "", "events", ()),
)
"""Queues that are a finding unless empty: singular and plural of a sentence, its rest, the page and its filters."""


def _of_queues(facts: Facts, thresholds: Thresholds) -> Iterator[Finding]:
    waiting = facts.queues.get("reservation", 0)
    if waiting:
        level = Level.BROKEN if waiting > thresholds.queue_depth else Level.ATTENTION
        text = f"{_count(waiting, 'order waits', 'orders wait')} for inventory"
        yield Finding(level, text, "orders", (("status", "PENDING_INVENTORY"),))
    for queue, one, many, rest, page, filters in _FOR_ATTENTION:
        if number := facts.queues.get(queue, 0):
            yield Finding(Level.ATTENTION, f"{_count(number, one, many)}{rest}", page, filters)
    if facts.outbox_age_seconds > thresholds.outbox_age_seconds:
        text = f"The oldest event has waited {facts.outbox_age_seconds:,.0f} s to be published"
        yield Finding(Level.BROKEN, text, "events", (("view", "Outgoing"),))


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
