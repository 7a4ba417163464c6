"""The preview of a bulk job: each item is compared with the inventory status, then the selection is frozen. Pure.

The preview looks up the first MAX_ASKED orders. Every other item is compared when the job sends it.
Source: requirements 11.2, 1 and 4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from services.domain.reconciliation import LookupResult, refusal

MAX_ASKED = 50
"""Orders that one preview looks up."""

PATIENCE = timedelta(seconds=10)
"""Longest wait for lookups; then the selection is frozen with the answers that arrived."""


class Agreement(StrEnum):
    """Agreement of an item's inventory status with the action."""

    AGREES = "AGREES"
    REFUSED = "REFUSED"
    """The inventory status contradicts the action: the item is left out."""
    UNANSWERED = "UNANSWERED"
    """No answer arrived; the job compares the item again when it sends it."""
    LATER = "LATER"
    """Not looked up by the preview; the job compares the item when it sends it."""


@dataclass(frozen=True, slots=True)
class ComparedItem:
    """One item with the inventory status of its order."""

    agreement: Agreement
    lookup: LookupResult | None = None
    why: str | None = None
    """Why the item is left out; None when it is not."""


@dataclass(frozen=True, slots=True)
class FrozenSelection:
    """The frozen selection; later answers change neither the items nor their number."""

    at: datetime
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Reasons by id of the items that are left out."""


def compare(
    bulk_action: str, action: str | None, reason: str, order_status: str, lookup: LookupResult | None
) -> ComparedItem:
    """Compare one item with a lookup; without a fresh answer ``lookup`` is None."""
    if lookup is None or lookup.stock is None:
        return ComparedItem(Agreement.UNANSWERED, lookup)
    why = refusal(bulk_action, action, reason, order_status, lookup.stock)
    return ComparedItem(Agreement.REFUSED if why else Agreement.AGREES, lookup, why)


def freeze(
    compared: Mapping[str, ComparedItem], at: datetime, *, is_asking: bool, waited: timedelta
) -> FrozenSelection | None:
    """Freeze the selection; None while lookups are running and PATIENCE has not passed."""
    if is_asking and waited < PATIENCE:
        return None
    return FrozenSelection(at, {item_id: one.why for item_id, one in compared.items() if one.why})


def summary(standings: Iterable[Agreement]) -> str:
    """Number of items by agreement, as one sentence."""
    counts = Counter(standings)
    parts = [
        f"theirs agree: {counts[Agreement.AGREES]:,}",
        f"would be refused: {counts[Agreement.REFUSED]:,}",
        f"not answered: {counts[Agreement.UNANSWERED]:,}",
    ]
    if counts[Agreement.LATER]:
        parts.append(f"{counts[Agreement.LATER]:,} beyond the first {MAX_ASKED} are compared when their turn comes")
    return "; ".join(parts)
