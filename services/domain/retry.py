"""Delays between retries. Pure.

Source: requirements 7.2 and 8.2; contract 2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
