"""Calls to other services: their attempts, the classes of their failures, and the delays between retries. Pure.

A call returns its result together with its attempts. An error that ends a call carries the attempts made until then.
Retrying, requeueing, putting back and grouping depend on the failure class, never on the message of an error.
Source: requirements 7.2 and 8.2; contract 2.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

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

T = TypeVar("T")

SUCCESS = "success"
REJECTED = "rejected"
TIMEOUT = "timeout"
UNAVAILABLE = "unavailable"
INVALID = "invalid"
SHORT_CIRCUITED = "short_circuited"
REFUSED_US = "refused_us"
"""Outcome: the other service refused this service, not the order (401, 403, 404, 405, 407, 421, 425 and similar)."""
THROTTLED = "throttled"
"""Outcome: answered 429, or not sent because the wait after an earlier 429 was too long for this call."""
OUTCOMES = (SUCCESS, REJECTED, TIMEOUT, UNAVAILABLE, INVALID, SHORT_CIRCUITED, REFUSED_US, THROTTLED)


class InventoryCall(StrEnum):
    """A call to the Inventory Service; the values are metric labels and stored strings."""

    CHECK_AVAILABILITY = "check_availability"
    RESERVE = "reserve"
    RELEASE = "release"


INVENTORY_CALLS = tuple(call.value for call in InventoryCall)
"""The inventory calls as plain strings, for keys of JSON objects."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of one call. The timeline shows ``details``, such as status and error."""

    at: datetime
    call: str
    """Value of an InventoryCall, or name of a call to the payment gateway."""
    outcome: str
    duration_seconds: float
    number: int = 1
    details: dict[str, Any] = field(default_factory=dict)


Attempts = tuple[Attempt, ...]
"""The attempts of one or several calls, in the order in which they were made."""

Attempted = tuple[T, Attempts]
"""The result of a call with its attempts."""


def carry(error: BaseException, attempts: Attempts) -> None:
    """Attach to an error the attempts of the call that it ended; attempts_of() returns them."""
    vars(error)["attempts"] = attempts


def attempts_of(error: BaseException) -> Attempts:
    """Return the attempts that an error carries; none for an error that ended no call."""
    return tuple(vars(error).get("attempts", ()))


Randomness = Callable[[], float]
"""Returns a number from 0 (inclusive) to 1 (exclusive)."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with equal jitter, with limits on the attempts and the delay."""

    attempts: int
    """Total number of attempts, including the first; at least 1."""
    base_delay_seconds: float
    """Delay before the second attempt, before jitter."""
    max_delay_seconds: float
    """Upper bound of a delay, except one requested by Retry-After."""

    def delay_seconds(
        self, attempts_made: int, randomness: Randomness, *, retry_after_seconds: float | None = None
    ) -> float | None:
        """Return the seconds until the next attempt, or None when the attempts are used up.

        Half of the exponential delay is random, so that callers that failed at the same time retry at different times.
        """
        if attempts_made >= self.attempts:
            return None
        # The exponent is bounded: 2.0 ** 1100 overflows.
        exponential = self.base_delay_seconds * 2.0 ** min(attempts_made - 1, 60)
        bounded = min(exponential, self.max_delay_seconds)
        jittered = bounded * (0.5 + 0.5 * randomness())
        return max(jittered, retry_after_seconds or 0.0)


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
