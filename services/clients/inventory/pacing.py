"""Limits the rate of inventory calls after the Inventory Service has answered 429.

Before the first 429 no call waits. A 429 blocks all calls for its Retry-After. After that, calls pass one by one at the
rate at which the service answered before; reservations and releases pass before availability checks, which are useless
without a reservation. The rate rises again while no 429 comes, so that replicas share a limit without coordination.
Heartbeats publish a 429 to the other replicas, which then wait too.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from services.domain.call_attempts import InventoryCall
from services.domain.errors import InventoryThrottled

OBSERVED_SECONDS = 1.0
"""Interval over which answers are counted to estimate the rate."""

USUAL_PAUSE_SECONDS = 1.0
"""After a 429 without Retry-After."""

SAFETY = 0.95
"""Share of the observed rate; at the exact limit rounding would cause another 429."""

SMALLEST_RATE = 0.5
"""Calls a second; at a slower rate callers would time out."""

THROTTLE_SECONDS, LONGEST_THROTTLE_SECONDS = 5.0, 40.0
"""After this long without a 429 the rate is raised by RAISE every second; a 429 after a raise doubles the time."""

RAISE = 1.1
FORGET_SECONDS = 120.0
"""After this long without a 429 the limit is removed."""

MAX_OBSERVED = 5000


@dataclass(frozen=True, slots=True)
class Pace:
    """The limit that a 429 set for one replica."""

    rate: float
    """Calls a second."""
    closed_seconds: float
    """Seconds from now without any call; 0.0 when they have passed."""


@dataclass(eq=False, slots=True)
class _Waiting:
    place: asyncio.Future[None]


@dataclass(slots=True)
class Pacer:
    """Admits calls to one service, in one event loop."""

    monotonic: Callable[[], float] = time.monotonic
    _rate: float | None = None
    """Calls a second; None without a limit."""
    _closed_until: float = float("-inf")
    _own_closed_until: float = float("-inf")
    """Set only by 429 answers to this replica, not by those that other replicas report."""
    _refused_at: float = float("-inf")
    _raised_at: float = float("-inf")
    _throttle_seconds: float = THROTTLE_SECONDS
    _next_at: float = float("-inf")
    _answered: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_OBSERVED))
    _urgent: deque[_Waiting] = field(default_factory=deque)
    _checks: deque[_Waiting] = field(default_factory=deque)
    _timer: asyncio.TimerHandle | None = None

    @property
    def is_throttled(self) -> bool:
        """Whether calls have to wait at present."""
        self._adjust()
        return self._rate is not None

    @property
    def closed_seconds(self) -> float:
        """Seconds until the Retry-After of the last 429 has passed."""
        return max(self._closed_until - self.monotonic(), 0.0)

    def told(self) -> Pace | None:
        """The limit from 429 answers to this replica; None without one."""
        self._adjust()
        if self._rate is None or self._own_closed_until == float("-inf"):
            return None
        return Pace(self._rate, max(self._own_closed_until - self.monotonic(), 0.0))

    def hear(self, told: Pace) -> None:
        """Apply the limit of another replica.

        Without a limit of its own, this replica takes the rate at which it was answered, or the other's if higher.
        """
        if told.closed_seconds <= 0:
            return
        now = self.monotonic()
        self._closed_until = max(self._closed_until, now + told.closed_seconds)
        if self._rate is None:
            self._rate = max(self._seen_rate(now), told.rate, SMALLEST_RATE)
            self._raised_at = now
        self._arm()

    async def admit(self, call: str, patience_seconds: float) -> None:
        """Return when a call may be made; raises InventoryThrottled when that would take longer than ``patience``."""
        if not self.is_throttled:
            return
        is_check = call == InventoryCall.CHECK_AVAILABILITY
        expected = self._expected_wait(is_check=is_check)
        if expected > patience_seconds:
            raise _not_sent(expected)
        waiting = _Waiting(asyncio.get_running_loop().create_future())
        queue = self._checks if is_check else self._urgent
        queue.append(waiting)
        self._arm()
        try:
            async with asyncio.timeout(patience_seconds):
                await waiting.place
        except TimeoutError:
            raise _not_sent(self._expected_wait(is_check=is_check)) from None
        finally:
            if waiting in queue:
                queue.remove(waiting)

    def answered(self) -> None:
        """Count an answer other than 429."""
        self._answered.append(self.monotonic())

    def refused(self, sent_at: float, retry_after_seconds: float | None) -> None:
        """The service answered 429 to a call sent at that moment of the pacer's clock."""
        now = self.monotonic()
        pause = USUAL_PAUSE_SECONDS if retry_after_seconds is None else retry_after_seconds
        self._own_closed_until = max(self._own_closed_until, now + pause)
        self._closed_until = max(self._closed_until, self._own_closed_until)
        # Calls that were running together are answered 429 together; only the first lowers the rate.
        if sent_at > self._refused_at or self._rate is None:
            seen = self._seen_rate(now)
            if self._rate is not None:
                seen = min(self._rate * SAFETY, seen or self._rate / 2)
                self._throttle_seconds = min(2 * self._throttle_seconds, LONGEST_THROTTLE_SECONDS)
            self._rate = max(seen, SMALLEST_RATE)
            self._refused_at = self._raised_at = now
        self._arm()

    def _seen_rate(self, now: float) -> float:
        """Rate of answers within OBSERVED_SECONDS, reduced by SAFETY."""
        return sum(1 for at in self._answered if now - at < OBSERVED_SECONDS) / OBSERVED_SECONDS * SAFETY

    def _adjust(self) -> None:
        """Raise the rate, or forget it, when no 429 has come for a while."""
        if self._rate is None:
            return
        now = self.monotonic()
        calm = now - max(self._refused_at, self._closed_until)
        if calm >= FORGET_SECONDS:
            self._rate, self._throttle_seconds, self._own_closed_until = None, THROTTLE_SECONDS, float("-inf")
            self._arm()
        elif calm >= self._throttle_seconds and now - self._raised_at >= 1.0:
            self._rate *= RAISE
            self._raised_at = now

    def _expected_wait(self, *, is_check: bool) -> float:
        before = len(self._urgent) + (len(self._checks) if is_check else 0)
        begins = max(self._closed_until, self._next_at, self.monotonic()) - self.monotonic()
        return begins + (before / self._rate if self._rate else 0.0)

    def _arm(self) -> None:
        """Schedule the next waiting call."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._urgent or self._checks:
            delay = max(self._closed_until, self._next_at) - self.monotonic()
            self._timer = asyncio.get_running_loop().call_later(max(delay, 0.0), self._pass_next)

    def _pass_next(self) -> None:
        self._timer = None
        now = self.monotonic()
        if now >= max(self._closed_until, self._next_at):
            interval = 1.0 / self._rate if self._rate else 0.0
            # After a late timer one call passes, not a burst.
            self._next_at = max(self._next_at, now - interval) + interval
            self._let_one_pass()
        self._adjust()
        self._arm()

    def _let_one_pass(self) -> None:
        queue = self._urgent or self._checks
        while queue:
            place = queue.popleft().place
            if not place.done():
                place.set_result(None)
                return


def _not_sent(wait_seconds: float) -> InventoryThrottled:
    return InventoryThrottled(
        "The Inventory Service takes fewer calls a second than there are; this one was not sent.",
        was_sent=False,
        retry_after_seconds=max(wait_seconds, USUAL_PAUSE_SECONDS),
    )
