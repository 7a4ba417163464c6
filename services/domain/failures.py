"""Failure classes: codes of what failed, stored with a release job or a review case.

Retrying, requeueing, putting back and grouping depend on the class, never on the message of an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from services.domain.errors import (
    CircuitOpen,
    InsufficientInventory,
    InventoryRefusesUs,
    InventoryThrottled,
    InventoryTimeout,
    InventoryUnavailable,
    ReleaseFailed,
    ReservationFailed,
)

MAX_CODE = 40
"""Characters of a stored code."""

_CODE = re.compile(r"[A-Z][A-Z_]{0,39}")


class FailureClass(StrEnum):
    """Why the last attempt failed. The values are stored."""

    NOT_TRIED = "NOT_TRIED"
    """No attempt has failed yet."""
    BREAKER_OPEN = "BREAKER_OPEN"
    """The circuit breaker denied the attempt, so nothing was sent."""
    THROTTLED = "INVENTORY_THROTTLED"
    CALLER_REFUSED = "INVENTORY_REFUSES_CALLER"
    """The Inventory Service refused the caller: wrong credentials, address or protocol."""
    TIMEOUT = "INVENTORY_TIMEOUT"
    UNAVAILABLE = "INVENTORY_UNAVAILABLE"
    RELEASE_REFUSED = "RELEASE_REFUSED"
    RESERVATION_REFUSED = "RESERVATION_FAILED"
    SHORT_OF_STOCK = "INSUFFICIENT_INVENTORY"
    UNEXPECTED = "UNEXPECTED_ERROR"
    NOT_RECORDED = "OUTCOME_NOT_RECORDED"
    """The attempt was made, but storing its outcome failed."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure class with the HTTP status of the answer; None without an answer."""

    failure_class: FailureClass
    status: int | None = None

    @property
    def key(self) -> str:
        """The stored code by which equal failures are grouped: ``CLASS`` or ``CLASS:status``."""
        return self.failure_class if self.status is None else f"{self.failure_class}:{self.status}"


NOT_TRIED = Failure(FailureClass.NOT_TRIED)

_CLASSES: tuple[tuple[type[Exception], FailureClass], ...] = (
    (CircuitOpen, FailureClass.BREAKER_OPEN),
    (InventoryThrottled, FailureClass.THROTTLED),
    (InventoryRefusesUs, FailureClass.CALLER_REFUSED),
    (InventoryTimeout, FailureClass.TIMEOUT),
    (InventoryUnavailable, FailureClass.UNAVAILABLE),
    (ReleaseFailed, FailureClass.RELEASE_REFUSED),
    (ReservationFailed, FailureClass.RESERVATION_REFUSED),
    (InsufficientInventory, FailureClass.SHORT_OF_STOCK),
)
"""The first matching type decides, so subclasses come before their base classes."""


def failure_of(error: Exception) -> Failure:
    """Return the failure of an error of an inventory call."""
    found = next((code for kind, code in _CLASSES if isinstance(error, kind)), FailureClass.UNEXPECTED)
    status = getattr(error, "details", {}).get("status")
    return Failure(found, status if isinstance(status, int) else None)


def stated_code(value: str) -> str:
    """Return the value if it is a valid error code of another service, else an empty string."""
    return value if _CODE.fullmatch(value) else ""
