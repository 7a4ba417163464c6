"""Limits the rate of inventory calls after the Inventory Service has answered 429.

Before the first 429 no call waits. A 429 stops all calls for its Retry-After. After that, calls are sent one by one at
the rate at which the service answered before. Reservations and releases are sent before availability checks, because a
check is useless without a reservation. The rate rises again while no 429 arrives, so replicas share a limit without
coordination. Heartbeats carry the pace after a 429 to the other replicas, which then wait too.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from services.base.settings import LONGEST_RETRY_AFTER_SECONDS
from services.domain.calls import InventoryCall
from services.domain.errors import InventoryThrottled
from state.replicas import Replica

OBSERVED_SECONDS = 1.0
"""Interval over which answers are counted to estimate the rate."""

USUAL_PAUSE_SECONDS = 1.0
"""Pause after a 429 without Retry-After."""

SAFETY = 0.95
"""Share of the observed rate that is used; at the exact limit, rounding would cause another 429."""

SMALLEST_RATE = 0.5
"""Lowest rate in calls a second; at a lower rate callers would time out."""

THROTTLE_SECONDS, LONGEST_THROTTLE_SECONDS = 5.0, 40.0
"""Time without a 429 after which the rate is multiplied by RAISE every second, and its upper limit.

A repeated 429 doubles the time.
"""

RAISE = 1.1
FORGET_SECONDS = 120.0
"""Time without a 429 after which the limit is removed."""

MAX_OBSERVED = 5000

FASTEST = 10_000.0
"""Upper limit in calls a second. A larger value in a heartbeat is ignored."""


@dataclass(frozen=True, slots=True)
class Pace:
    """The limit on the calls of one replica after a 429."""

    rate: float
    """Calls a second."""
    closed_seconds: float
    """Seconds from now in which no call is sent; 0.0 after the Retry-After has passed."""


@dataclass(eq=False, slots=True)
class _Waiting:
    place: asyncio.Future[None]


@dataclass(slots=True)
class Pacer:
    """Paces the calls to one service, in one event loop."""

    monotonic: Callable[[], float] = time.monotonic
    _rate: float | None = None
    """Calls a second; None without a limit."""
    _closed_until: float = float("-inf")
    _own_closed_until: float = float("-inf")
    """End of the Retry-After of 429 answers to this replica, without those that other replicas report."""
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
        """Whether calls must wait at present."""
        self._adjust()
        return self._rate is not None

    @property
    def closed_seconds(self) -> float:
        """Seconds until the Retry-After of the last 429 has passed."""
        return max(self._closed_until - self.monotonic(), 0.0)

    def told(self) -> Pace | None:
        """Return the pace after 429 answers to this replica; None without a limit from such an answer."""
        self._adjust()
        if self._rate is None or self._own_closed_until == float("-inf"):
            return None
        return Pace(self._rate, max(self._own_closed_until - self.monotonic(), 0.0))

    def fact(self) -> dict[str, Any]:
        """Return the pace as the heartbeat carries it."""
        told = self.told()
        return {"pace": {"rate": told.rate, "closedMs": round(told.closed_seconds * 1000)} if told else None}

    def hear_others(self, others: Iterable[Replica], now: datetime) -> None:
        """Apply the pace of other replicas; ``now`` is the time of this replica's clock."""
        for other in others:
            if told := _read(other.facts.get("pace"), max((now - other.heartbeat_at).total_seconds(), 0.0)):
                self.hear(told)

    def hear(self, told: Pace) -> None:
        """Apply the pace of another replica.

        If this replica has no limit, its rate becomes its observed rate or the rate of the other replica if higher.
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
        """Wait until the call may be sent. Raises InventoryThrottled when the wait exceeds ``patience_seconds``."""
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
        """Record a 429 answer to a call that was sent at ``sent_at``, in seconds of the pacer's clock."""
        now = self.monotonic()
        pause = USUAL_PAUSE_SECONDS if retry_after_seconds is None else retry_after_seconds
        self._own_closed_until = max(self._own_closed_until, now + pause)
        self._closed_until = max(self._closed_until, self._own_closed_until)
        # Concurrent calls get a 429 at the same time. Only the first of these answers lowers the rate.
        if sent_at > self._refused_at or self._rate is None:
            seen = self._seen_rate(now)
            if self._rate is not None:
                seen = min(self._rate * SAFETY, seen or self._rate / 2)
                self._throttle_seconds = min(2 * self._throttle_seconds, LONGEST_THROTTLE_SECONDS)
            self._rate = max(seen, SMALLEST_RATE)
            self._refused_at = self._raised_at = now
        self._arm()

    def _seen_rate(self, now: float) -> float:
        """Return the rate of answers within OBSERVED_SECONDS, multiplied by SAFETY."""
        return sum(1 for at in self._answered if now - at < OBSERVED_SECONDS) / OBSERVED_SECONDS * SAFETY

    def _adjust(self) -> None:
        """Raise the rate after ``_throttle_seconds`` without a 429, and remove the limit after FORGET_SECONDS."""
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
            # After a late timer one call is sent, not a burst.
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


def _read(said: object, age_seconds: float) -> Pace | None:
    """The pace in a heartbeat of that age; None when another version wrote the pace in another form."""
    if not isinstance(said, dict):
        return None
    rate, closed = _number(said.get("rate")), _number(said.get("closedMs"))
    if rate is None or closed is None:
        return None
    left = min(closed / 1000, LONGEST_RETRY_AFTER_SECONDS) - age_seconds
    return Pace(min(max(rate, 0.0), FASTEST), left)


def _number(said: object) -> float | None:
    return float(said) if isinstance(said, int | float) and math.isfinite(said) else None
