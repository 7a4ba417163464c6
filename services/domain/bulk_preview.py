"""A bulk operation compared with the other side before it begins, and the moment at which its items are frozen.

Pure. Only the first MAX_ASKED things are asked about beforehand; each of the others is compared when its turn
comes. Source: console, "what none of them has" 1 and 4.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from services.domain.reconciliation import LookupResult, refusal

MAX_ASKED = 50
"""Orders that one preview asks about."""

PATIENCE = timedelta(seconds=10)
"""A preview waits so long for the answers; then it is frozen with those that came."""


class Agreement(StrEnum):
    """How one item stands between both sides."""

    AGREES = "AGREES"
    REFUSED = "REFUSED"
    """What they say makes the action wrong: the item is left out."""
    UNANSWERED = "UNANSWERED"
    """They have not said; our side alone decides until its turn comes."""
    LATER = "LATER"
    """Beyond those asked about: compared when its turn comes."""


@dataclass(frozen=True, slots=True)
class ComparedItem:
    """One item with what they say of its order."""

    agreement: Agreement
    lookup: LookupResult | None = None
    why: str | None = None
    """Why it is left out."""


@dataclass(frozen=True, slots=True)
class FrozenSelection:
    """What is acted on, fixed once: answers that come later change neither the items nor their number."""

    at: datetime
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Ids of items that are not acted on, each with the reason."""


def compare(
    bulk_action: str, action: str | None, reason: str, order_status: str, lookup: LookupResult | None
) -> ComparedItem:
    """One item that was asked about; ``lookup`` None: there is no answer that still counts."""
    if lookup is None or lookup.stock is None:
        return ComparedItem(Agreement.UNANSWERED, lookup)
    why = refusal(bulk_action, action, reason, order_status, lookup.stock)
    return ComparedItem(Agreement.REFUSED if why else Agreement.AGREES, lookup, why)


def freeze(
    compared: Mapping[str, ComparedItem], at: datetime, *, is_asking: bool, waited: timedelta
) -> FrozenSelection | None:
    """What is acted on; None while answers are still to come."""
    if is_asking and waited < PATIENCE:
        return None
    return FrozenSelection(at, {item_id: one.why for item_id, one in compared.items() if one.why})


def summary(standings: Iterable[Agreement]) -> str:
    """How many agree, would be refused, were not answered, and wait for their turn."""
    counts = Counter(standings)
    parts = [
        f"theirs agree: {counts[Agreement.AGREES]:,}",
        f"would be refused: {counts[Agreement.REFUSED]:,}",
        f"not answered: {counts[Agreement.UNANSWERED]:,}",
    ]
    if counts[Agreement.LATER]:
        parts.append(f"{counts[Agreement.LATER]:,} beyond the first {MAX_ASKED} are compared when their turn comes")
    return "; ".join(parts)
