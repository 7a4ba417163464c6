"""The rolling window of a circuit breaker, and the storage that pybreaker uses with it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from pybreaker import STATE_CLOSED, STATE_HALF_OPEN, STATE_OPEN, CircuitBreakerStorage

NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class BreakerOptions:
    """Thresholds and times of a circuit breaker."""

    threshold_percentage: int = 50
    """Percentage of failed calls at which the circuit opens."""
    window_ms: int = 10_000
    buckets: int = 10
    reset_timeout_ms: int = 30_000
    """Time after which an open circuit allows one trial call."""
    volume_threshold: int = 5
    """Fewest calls in the window at which the circuit may open."""
    trial_timeout_ms: int = 30_000
    """Time after which a trial call without a result is replaced by another trial call."""
    strict: bool = False
    """Whether to compute exactly as the library opossum: the circuit opens strictly above the threshold, rejected and
    running calls are part of the total, and closing the circuit keeps the window."""


@dataclass(slots=True)
class Counts:
    """Numbers of calls by result, in one bucket or in the whole window."""

    fires: int = 0
    successes: int = 0
    failures: int = 0
    rejects: int = 0
    throttled: int = 0
    """Calls answered 429, which count as neither success nor failure."""

    @property
    def completed(self) -> int:
        return self.successes + self.failures


class RollingWindow:
    """Counts in the last few buckets. Every method takes the present time, so that no timer is needed."""

    def __init__(self, window_ms: int, buckets: int, now_ns: int) -> None:
        self._epoch_ns = now_ns
        self._width_ns = window_ms * NS_PER_MS // buckets
        self._size = buckets
        self._tick = 0
        self._buckets: deque[Counts] = deque()
        self.clear()

    def clear(self) -> None:
        self._buckets = deque((Counts() for _ in range(self._size)), maxlen=self._size)

    def current(self, now_ns: int) -> Counts:
        """Return the bucket of the present time."""
        self._rotate(now_ns)
        return self._buckets[-1]

    def buckets(self, now_ns: int) -> tuple[Counts, ...]:
        self._rotate(now_ns)
        return tuple(self._buckets)

    def total(self, now_ns: int) -> Counts:
        total = Counts()
        for bucket in self.buckets(now_ns):
            total.fires += bucket.fires
            total.successes += bucket.successes
            total.failures += bucket.failures
            total.rejects += bucket.rejects
            total.throttled += bucket.throttled
        return total

    def _rotate(self, now_ns: int) -> None:
        tick = (now_ns - self._epoch_ns) // self._width_ns
        for _ in range(min(tick - self._tick, self._size)):
            self._buckets.append(Counts())
        self._tick = max(tick, self._tick)


class RollingStorage(CircuitBreakerStorage):
    """pybreaker's storage over a rolling window and a monotonic clock.

    An open circuit turns half-open at the first read after the reset timeout.
    """

    def __init__(self, options: BreakerOptions, monotonic_ns: Callable[[], int]) -> None:
        super().__init__("rolling")
        self._options = options
        self._monotonic_ns = monotonic_ns
        self._state = STATE_CLOSED
        self.changed_ns = monotonic_ns()
        self.generation = 0
        self.trial_ns: int | None = None
        """Start of the running trial call; None when no trial call is running."""
        self.window = RollingWindow(options.window_ms, options.buckets, self.changed_ns)

    @property
    def state(self) -> str:
        if self._state == STATE_OPEN and self._monotonic_ns() >= self.reset_ns:
            self._enter(STATE_HALF_OPEN, self.reset_ns)
        return self._state

    @state.setter
    def state(self, state: str) -> None:
        self._enter(state, self._monotonic_ns())
        if state == STATE_CLOSED and not self._options.strict:
            self.window.clear()

    @property
    def reset_ns(self) -> int:
        """Monotonic time at which an open circuit turns half-open."""
        return self.changed_ns + self._options.reset_timeout_ms * NS_PER_MS

    def begin_trial(self) -> bool:
        """Begin a trial call if none is running or its timeout has passed; returns whether the caller may make it."""
        now = self._monotonic_ns()
        if self.trial_ns is not None and now - self.trial_ns < self._options.trial_timeout_ms * NS_PER_MS:
            return False
        self.void_permits()
        self.trial_ns = now
        return True

    def void_permits(self) -> None:
        """Make the breaker ignore the results of all calls admitted so far."""
        self.generation += 1
        self.trial_ns = None

    def must_open(self) -> bool:
        """Whether the failures in the window reach the threshold."""
        total = self.window.total(self._monotonic_ns())
        percentage = self._options.threshold_percentage
        if self._options.strict:
            return total.fires >= self._options.volume_threshold and total.failures * 100 > percentage * total.fires
        # Answers 429 count as failures only if the window has no success.
        busy = 0 if total.successes else total.throttled
        failures, completed = total.failures + busy, total.completed + busy
        enough = completed >= max(self._options.volume_threshold, 1)
        return enough and failures * 100 >= percentage * completed

    @property
    def counter(self) -> int:
        return self.window.total(self._monotonic_ns()).failures

    @property
    def success_counter(self) -> int:
        return self.window.total(self._monotonic_ns()).successes

    @property
    def opened_at(self) -> datetime | None:
        """Always None. ``reset_ns`` measures the reset timeout, because wall clocks jump."""
        return None

    @opened_at.setter
    def opened_at(self, _: datetime) -> None: ...

    def _enter(self, state: str, at_ns: int) -> None:
        self._state = state
        self.changed_ns = at_ns
        self.void_permits()
