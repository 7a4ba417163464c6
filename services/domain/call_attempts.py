"""The record of one call to another service, for timelines and metrics."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

SUCCESS = "success"
REJECTED = "rejected"
TIMEOUT = "timeout"
UNAVAILABLE = "unavailable"
INVALID = "invalid"
SHORT_CIRCUITED = "short_circuited"
REFUSED_US = "refused_us"
"""The other service refused the caller, not the order: 401, 403, 404, 405, 407, 421, 425 and the like."""
THROTTLED = "throttled"
"""429, or not sent at all because an earlier 429 asked to wait longer than this call may."""
OUTCOMES = (SUCCESS, REJECTED, TIMEOUT, UNAVAILABLE, INVALID, SHORT_CIRCUITED, REFUSED_US, THROTTLED)

CHECK_AVAILABILITY = "check_availability"
RESERVE = "reserve"
RELEASE = "release"
OPERATIONS = (CHECK_AVAILABILITY, RESERVE, RELEASE)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of one operation; details hold what the timeline shows (status, error)."""

    at: datetime
    operation: str
    outcome: str
    duration_seconds: float
    number: int = 1
    details: dict[str, Any] = field(default_factory=dict)
