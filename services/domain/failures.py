"""Failure classes: what went wrong, as a code that is stored with a release job or a review case.

Retry, requeue, put-back and grouping are decided by the class, never by the message of an error.
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
    """No attempt has failed."""
    BREAKER_OPEN = "BREAKER_OPEN"
    """The circuit breaker kept the attempt from being sent."""
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
    """The attempt was made, and storing its outcome failed."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure class with the HTTP status of the answer, where there was one."""

    failure_class: FailureClass
    status: int | None = None

    @property
    def key(self) -> str:
        """The stored code that groups equal failures: ``CLASS`` or ``CLASS:status``."""
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
"""The first matching type decides, so subclasses stand before their base class."""


def failure_of(error: Exception) -> Failure:
    """The failure that an error of an inventory call stands for."""
    found = next((code for kind, code in _CLASSES if isinstance(error, kind)), FailureClass.UNEXPECTED)
    status = getattr(error, "details", {}).get("status")
    return Failure(found, status if isinstance(status, int) else None)


def stated_code(value: str) -> str:
    """The code that another service stated in a field of its own; empty when the value is no code."""
    return value if _CODE.fullmatch(value) else ""
