"""The preview of a bulk job: compares items with the inventory status, then freezes the selection. Pure.

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
"""Most orders that one preview looks up."""

PATIENCE = timedelta(seconds=10)
"""Longest wait for lookups. After it, the selection is frozen with the answers so far."""


class Agreement(StrEnum):
    """Whether the inventory status of an item permits the action."""

    AGREES = "AGREES"
    REFUSED = "REFUSED"
    """The inventory status forbids the action, so the item is left out."""
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
    """Why the item is left out; None for an included item."""


@dataclass(frozen=True, slots=True)
class FrozenSelection:
    """The frozen selection. Later answers do not change it."""

    at: datetime
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Reasons by id of the items that are left out."""


def compare(
    bulk_action: str, action: str | None, reason: str, order_status: str, lookup: LookupResult | None
) -> ComparedItem:
    """Compare one item with its lookup. ``lookup`` is None when there is no fresh answer."""
    if lookup is None or lookup.stock is None:
        return ComparedItem(Agreement.UNANSWERED, lookup)
    why = refusal(bulk_action, action, reason, order_status, lookup.stock)
    return ComparedItem(Agreement.REFUSED if why else Agreement.AGREES, lookup, why)


def freeze(
    compared: Mapping[str, ComparedItem], at: datetime, *, is_asking: bool, waited: timedelta
) -> FrozenSelection | None:
    """Freeze the selection. Returns None while lookups are running and PATIENCE has not passed."""
    if is_asking and waited < PATIENCE:
        return None
    return FrozenSelection(at, {item_id: one.why for item_id, one in compared.items() if one.why})


def summary(standings: Iterable[Agreement]) -> str:
    """Return the number of items by agreement, as one sentence."""
    counts = Counter(standings)
    parts = [
        f"agreed: {counts[Agreement.AGREES]:,}",
        f"would be refused: {counts[Agreement.REFUSED]:,}",
        f"not answered: {counts[Agreement.UNANSWERED]:,}",
    ]
    if counts[Agreement.LATER]:
        parts.append(f"{counts[Agreement.LATER]:,} beyond the first {MAX_ASKED} are compared when their turn comes")
    return "; ".join(parts)
