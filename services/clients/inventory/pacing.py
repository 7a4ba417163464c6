"""Calls kept within what the Inventory Service takes, once it has said 429.

Until then nothing waits. A 429 closes the gate for its Retry-After; after that calls pass one by one, at the rate
at which the service was seen to answer, reservations and releases before checks: a check that nobody can follow
up with a reservation sells nothing. The rate rises again while no 429 comes, so replicas that share a limit find
their shares each for itself. What one is told they all hear with its heartbeat: the gate closes for each of them.
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
"""The stretch over which answers are counted to learn a rate."""

USUAL_PAUSE_SECONDS = 1.0
"""After a 429 without Retry-After."""

SAFETY = 0.95
"""Share of the rate seen: at the very limit every rounding is another 429."""

SMALLEST_RATE = 0.5
"""Calls a second; slower is no use to anybody who waits."""

THROTTLE_SECONDS, LONGEST_THROTTLE_SECONDS = 5.0, 40.0
"""Without a 429 for so long the rate is raised, by RAISE a second; each raise that brings a 429 doubles it."""

RAISE = 1.1
FORGET_SECONDS = 120.0
"""Without a 429 for so long nothing is held back any more."""

MAX_OBSERVED = 5000


@dataclass(frozen=True, slots=True)
class Pace:
    """What the service told one replica."""

    rate: float
    """Calls a second."""
    closed_seconds: float
    """For how long the service wants no call, counted from now; 0.0 when that is over."""


@dataclass(eq=False, slots=True)
class _Waiting:
    place: asyncio.Future[None]


@dataclass(slots=True)
class Pacer:
    """Lets calls of one service pass, in one event loop."""

    monotonic: Callable[[], float] = time.monotonic
    _rate: float | None = None
    """Calls a second; None: nothing is held back."""
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
        """How long the service asked for no call at all."""
        return max(self._closed_until - self.monotonic(), 0.0)

    def told(self) -> Pace | None:
        """What this replica knows from the service itself; None when nothing is held back."""
        self._adjust()
        if self._rate is None or self._own_closed_until == float("-inf"):
            return None
        return Pace(self._rate, max(self._own_closed_until - self.monotonic(), 0.0))

    def hear(self, told: Pace) -> None:
        """Another replica was told this just now: the gate closes here as well.

        A replica that was not told yet takes the rate at which it was answered, or the other's if that is more.
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
        """The service took a call: it answered anything but 429."""
        self._answered.append(self.monotonic())

    def refused(self, sent_at: float, retry_after_seconds: float | None) -> None:
        """The service answered 429 to a call sent at that moment of the pacer's clock."""
        now = self.monotonic()
        pause = USUAL_PAUSE_SECONDS if retry_after_seconds is None else retry_after_seconds
        self._own_closed_until = max(self._own_closed_until, now + pause)
        self._closed_until = max(self._closed_until, self._own_closed_until)
        # The calls that were under way together are refused together; the first of them has said it all.
        if sent_at > self._refused_at or self._rate is None:
            seen = self._seen_rate(now)
            if self._rate is not None:
                seen = min(self._rate * SAFETY, seen or self._rate / 2)
                self._throttle_seconds = min(2 * self._throttle_seconds, LONGEST_THROTTLE_SECONDS)
            self._rate = max(seen, SMALLEST_RATE)
            self._refused_at = self._raised_at = now
        self._arm()

    def _seen_rate(self, now: float) -> float:
        """At which the service answered lately, less a little."""
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
        """Have the next waiting call pass at its time."""
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
            # A late timer is made up for by one call, not by a burst.
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
