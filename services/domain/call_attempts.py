"""The attempts of a call to another service, for timelines and metrics.

A call returns its result together with its attempts. An error that ends a call carries the attempts made until then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

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
