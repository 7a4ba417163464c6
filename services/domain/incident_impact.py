"""How failures of the Inventory Service affected an order, derived from its recorded changes. Pure.

An order without failures has no impact. An affected order has at most one impact per kind and inventory call of a step.
Source: requirements 7.3 and 8.2; requirements 11, page Breakers, from an OPEN band to the affected orders.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.domain.calls import INVENTORY_CALLS, SHORT_CIRCUITED, TIMEOUT, Attempts, InventoryCall
from services.domain.orders.changes import CALL, Change, TimelineEntry
from services.domain.orders.model import OrderStatus, ReviewReason

DENIED, FALLBACK, FLAGGED, REFUSED, TIMED_OUT = "denied", "fallback", "flagged", "refused", "timeout"

CONFIRM = "confirm"
"""``call`` of impacts on the confirmation, which is requested by event: rejected or never answered."""

TROUBLE = frozenset({"INVENTORY_UNAVAILABLE", "INVENTORY_TIMEOUT", "RESERVATION_FAILED"})
"""Error codes of technical failures. A shortage of stock is not a technical failure."""

CALL_OF_CASE: Mapping[str, str] = {
    ReviewReason.AVAILABILITY_UNVERIFIED: InventoryCall.CHECK_AVAILABILITY,
    ReviewReason.PENDING_INVENTORY: InventoryCall.RESERVE,
    ReviewReason.RELEASE_FAILED: InventoryCall.RELEASE,
    ReviewReason.INVENTORY_CONFIRMATION_FAILED: CONFIRM,
    ReviewReason.CONFIRMATION_TIMEOUT: CONFIRM,
}

_OF_OUTCOME = {SHORT_CIRCUITED: DENIED, TIMEOUT: TIMED_OUT}


@dataclass(frozen=True, slots=True)
class Impact:
    """One impact of a failure on one order."""

    at: datetime
    """End of a denied or timed-out call; otherwise the time of recording."""
    kind: str
    """denied, fallback, flagged, refused or timeout."""
    call: str
    """check_availability, reserve, release or confirm."""
    reason: str
    """The outcome, error code or review reason that caused the impact."""


def of_change(change: Change, timeline: Sequence[TimelineEntry], opened: Sequence[str], at: datetime) -> list[Impact]:
    """Return the impacts of one change.

    ``timeline`` has the calls before the change, ``opened`` the reasons of the cases that it opened.
    """
    failure, status = change.values.get("failure"), change.values.get("status")
    stopped = [entry for entry in timeline if entry.kind == CALL and entry.details.get("outcome") in _OF_OUTCOME]
    if not (stopped or opened or failure or status == OrderStatus.PENDING_INVENTORY):
        # Almost every change returns here, so computing impacts costs little.
        return []
    found = [
        Impact(
            _ended(entry), _OF_OUTCOME[entry.details["outcome"]], entry.details["operation"], entry.details["outcome"]
        )
        for entry in stopped
        if entry.details["operation"] in INVENTORY_CALLS
    ]
    if failure and failure["code"] in TROUBLE:
        found.append(Impact(at, REFUSED, _last_call(timeline), failure["code"]))
    if status == OrderStatus.PENDING_INVENTORY:
        found.append(Impact(at, FALLBACK, InventoryCall.RESERVE, ReviewReason.PENDING_INVENTORY))
    for reason in opened:
        if reason == ReviewReason.AVAILABILITY_UNVERIFIED:
            found.append(Impact(at, FALLBACK, InventoryCall.CHECK_AVAILABILITY, reason))
        if reason in CALL_OF_CASE:
            found.append(Impact(at, FLAGGED, CALL_OF_CASE[reason], reason))
    return _once_each(found)


def of_attempts(attempts: Attempts) -> list[Impact]:
    """Return the impacts of calls that did not change their order."""
    found = [
        Impact(made.at + timedelta(seconds=made.duration_seconds), _OF_OUTCOME[made.outcome], made.call, made.outcome)
        for made in attempts
        if made.outcome in _OF_OUTCOME and made.call in INVENTORY_CALLS
    ]
    return _once_each(found)


def _last_call(timeline: Sequence[TimelineEntry]) -> str:
    """Return the name of the last inventory call; ``reserve`` if there is none."""
    called = [entry.details["operation"] for entry in timeline if entry.kind == CALL]
    return next((call for call in reversed(called) if call in INVENTORY_CALLS), InventoryCall.RESERVE)


def _ended(call: TimelineEntry) -> datetime:
    return call.at + timedelta(milliseconds=call.details.get("durationMs", 0))


def _once_each(found: Iterable[Impact]) -> list[Impact]:
    """Keep the first impact of each kind and inventory call."""
    return list({(impact.kind, impact.call): impact for impact in reversed(list(found))}.values())[::-1]
