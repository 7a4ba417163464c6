"""Kinds of drills: the fault of each, its allowed levels, and the texts the console shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from services.domain.errors import ValidationFailed
from services.sandbox.drills.state_machine import MAX_SECONDS, MIN_SECONDS

WHOLE = ("latencyMs", "requestsPerSecond")
"""Faults whose level is a whole number."""


@dataclass(frozen=True, slots=True)
class Level:
    """The range of a fault's strength, if it has one."""

    label: str
    low: float
    high: float
    usual: float
    unit: str


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of drill."""

    title: str
    what: str
    expected: str
    """The expected behaviour of the service."""
    field: str
    """Name of the fault in the Inventory Service's settings."""
    level: Level | None = None

    def faults(self, level: float | None) -> dict[str, Any]:
        """The fault settings for a level. Raises ValidationFailed with field, value and allowed range."""
        if self.level is None:
            return {self.field: True}
        chosen = self.level.usual if level is None else level
        if not self.level.low <= chosen <= self.level.high:
            allowed = f"{self.level.low:g} to {self.level.high:g}"
            raise ValidationFailed(f"level: {chosen!r} is not valid; allowed: {allowed} {self.level.unit}.")
        return {self.field: int(chosen) if self.field in WHOLE else chosen}


KINDS: dict[str, Kind] = {
    "outage": Kind(
        "Outage",
        "Every call to the Inventory Service is answered with 503.",
        "The breakers open within a few calls; standard customers are told to come back, urgent orders wait and are "
        "reserved afterwards.",
        "outage",
    ),
    "latency": Kind(
        "Latency",
        "Every call waits before it is carried out.",
        "Above the timeout, calls count as failures and the breakers open; what was carried out unseen is released.",
        "latencyMs",
        Level("Delay", 100, 60_000, 5000, "ms"),
    ),
    "error_rate": Kind(
        "Error rate",
        "A share of the calls is answered with 500.",
        "Retries hide a small share; from about half on the breakers open.",
        "errorRate",
        Level("Share of calls", 0.05, 1.0, 0.5, "of calls"),
    ),
    "sold_out": Kind(
        "Sold out",
        "Nothing can be reserved, as if the shelves were empty.",
        "Orders are refused as short of stock, no breaker opens, nobody is charged.",
        "soldOut",
    ),
    "credentials_expired": Kind(
        "Credentials expired",
        "Every call to the Inventory Service is answered with 401, as if our token were not valid any more.",
        "No order is rejected for it: the breakers open, standard customers are told to come back, urgent orders wait, "
        "and an alert names the refusal.",
        "credentialsExpired",
    ),
    "too_many_requests": Kind(
        "Too many requests",
        "Calls above a number a second are answered with 429.",
        "Calls wait for their turn, as many orders as possible are placed, the others are told to come back; no "
        "breaker opens.",
        "requestsPerSecond",
        Level("Calls taken", 1, 1000, 2, "a second"),
    ),
    "other_form": Kind(
        "Answers in another form",
        'Every answer means the same and is written differently: 5.0 or "5" for 5, UUIDs in capitals, no quantities, '
        "unknown fields, a byte order mark.",
        "Nobody notices: orders are placed and confirmed as before, no breaker opens.",
        "otherForm",
    ),
    "silent_confirmations": Kind(
        "Silent confirmations",
        "Stock is deducted, but no confirmation is sent.",
        "Orders stay placed until the confirmation is asked for again, some minutes after they were placed.",
        "silentConfirmations",
    ),
}


def shown_kind(name: str) -> Kind:
    """The kind of a stored drill; an unknown kind gets its name as title."""
    return KINDS.get(name) or Kind(name, "", "", "")


def kind_of(name: str) -> Kind:
    """Raises ValidationFailed for an unknown kind."""
    if name not in KINDS:
        raise ValidationFailed(f"kind: {name!r} is not valid; allowed: {', '.join(KINDS)}.")
    return KINDS[name]


def checked_seconds(seconds: int) -> int:
    """Raises ValidationFailed for a length that is not allowed."""
    if not MIN_SECONDS <= seconds <= MAX_SECONDS:
        raise ValidationFailed(f"seconds: {seconds} is not valid; allowed: {MIN_SECONDS} to {MAX_SECONDS}.")
    return seconds
