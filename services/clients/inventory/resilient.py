"""The breakers, immediate retries and attempt reports in front of any InventoryGateway.

Every attempt passes through the breaker. The gateway applies the timeout of an attempt, because the breaker would count
a timeout from outside as a cancelled call.

Source: requirements 7.1, 7.2 and 8.2; docs/adr/0005.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import TypeVar

from services.base.settings import Settings
from services.clients.breaker import FORCED_OPEN, OPEN, AsyncBreaker
from services.clients.http.exchange import Clock, Stopwatch
from services.clients.inventory.pacing import Pacer
from services.clients.inventory.port import Availability, InventoryGateway, Reservation
from services.clients.rolling_window import BreakerOptions
from services.domain.calls import (
    SHORT_CIRCUITED,
    THROTTLED,
    Attempt,
    Attempted,
    Attempts,
    InventoryCall,
    Randomness,
    RetryPolicy,
    attempts_of,
    carry,
)
from services.domain.errors import (
    BusinessError,
    CircuitOpen,
    DependencyError,
    InventoryRefusesUs,
    InventoryThrottled,
    NotFound,
    ReleaseFailed,
)
from services.domain.orders.model import Line

T = TypeVar("T")

Sleep = Callable[[float], Awaitable[None]]
Send = Callable[[], Awaitable[Attempted[T]]]


PATIENCE_SECONDS, SHORT_PATIENCE_SECONDS = 5.0, 1.0
"""Longest wait after a 429 of a call without a deadline, and of a call with a single attempt."""

CHECK_PATIENCE = 0.5
"""Share of the deadline for which a check may wait; the reservation needs the rest."""


NAMES = ("inventoryServiceChecker", "inventoryServiceReserver", "inventoryServiceReleaser")


@dataclass(frozen=True, slots=True)
class InventoryBreakers:
    """One breaker per inventory call, so that slow reservations do not stop availability checks."""

    checker: AsyncBreaker
    reserver: AsyncBreaker
    releaser: AsyncBreaker

    def __iter__(self) -> Iterator[AsyncBreaker]:
        return iter((self.checker, self.reserver, self.releaser))

    def named(self, name: str) -> AsyncBreaker:
        """Return the breaker of this name. Raises NotFound."""
        for breaker in self:
            if breaker.name == name:
                return breaker
        raise NotFound("breaker", name)


def inventory_breakers(
    settings: Settings,
    *,
    clock: Callable[[], datetime],
    monotonic_ns: Callable[[], int] = time.monotonic_ns,
) -> InventoryBreakers:
    """Return the three breakers of requirements 7.1, with the configured options."""
    options = BreakerOptions(
        threshold_percentage=settings.breaker_error_threshold_percentage,
        window_ms=settings.breaker_rolling_count_timeout,
        buckets=settings.breaker_rolling_count_buckets,
        reset_timeout_ms=settings.breaker_reset_timeout,
        volume_threshold=settings.breaker_volume_threshold,
        trial_timeout_ms=max(settings.breaker_reset_timeout, 2 * settings.inventory_service_timeout),
    )
    checker, reserver, releaser = (
        AsyncBreaker(name, options, clock=clock, monotonic_ns=monotonic_ns) for name in NAMES
    )
    return InventoryBreakers(checker, reserver, releaser)


def _unobserved(_: Attempt) -> None:
    """Default of ``on_attempt``, for clients without metrics."""


@dataclass(frozen=True, slots=True)
class ResilientInventory:
    """InventoryGateway that retries temporary failures and sends no call while a breaker is open.

    Every attempt is numbered, returned and passed to ``on_attempt``; this includes short-circuited attempts.
    Only dependency errors are retried. CircuitOpen, ReleaseFailed and InventoryRefusesUs are not retried. After a 429
    calls wait for the pacer, and InventoryThrottled is raised when the wait would be too long. The error of the last
    attempt is raised; it carries all attempts, and its may_have_run is True if any attempt may have run.
    """

    gateway: InventoryGateway
    breakers: InventoryBreakers
    policy: RetryPolicy
    clock: Clock
    on_attempt: Callable[[Attempt], None] = _unobserved
    deadline_seconds: float | None = None
    """Seconds after the start of the call at which no further attempt begins."""
    sleep: Sleep = asyncio.sleep
    randomness: Randomness = random.random
    stopwatch: Stopwatch = time.perf_counter
    pacer: Pacer = field(default_factory=Pacer)
    patience_seconds: float | None = None
    """Longest wait for the pacer; None: derived from the deadline, or PATIENCE_SECONDS without a deadline."""

    def once(self) -> ResilientInventory:
        """Return a copy with one attempt per call and a short wait, for background work that retries later."""
        return replace(self, policy=replace(self.policy, attempts=1), patience_seconds=SHORT_PATIENCE_SECONDS)

    async def check_availability(self, lines: tuple[Line, ...]) -> Attempted[Availability]:
        send = partial(self.gateway.check_availability, lines)
        return await self._call(InventoryCall.CHECK_AVAILABILITY, self.breakers.checker, send)

    async def reserve(self, order_id: str, lines: tuple[Line, ...], user_id: str) -> Attempted[Reservation]:
        send = partial(self.gateway.reserve, order_id, lines, user_id)
        return await self._call(InventoryCall.RESERVE, self.breakers.reserver, send)

    async def release(self, order_id: str) -> Attempted[bool]:
        send = partial(self.gateway.release, order_id)
        return await self._call(InventoryCall.RELEASE, self.breakers.releaser, send)

    async def _call(self, call: InventoryCall, breaker: AsyncBreaker, send: Send[T]) -> Attempted[T]:
        started, number, may_have_run = self.stopwatch(), 0, False
        attempts: Attempts = ()
        while True:
            number += 1
            delay = None
            try:
                # An open circuit sends nothing, so the call need not wait for the pacer.
                if self.pacer.is_throttled and breaker.effective_state not in (OPEN, FORCED_OPEN):
                    await self._wait_for_turn(call, self.stopwatch() - started)
                sent_at = self.pacer.monotonic()
                result, made = await breaker.acall(send)
            except Exception as error:
                attempts += self._reported(self._attempts_of(error, call), number)
                carry(error, attempts)
                if isinstance(error, BusinessError):
                    self.pacer.answered()
                elif isinstance(error, DependencyError):
                    if isinstance(error, InventoryThrottled) and error.was_sent:
                        self.pacer.refused(sent_at, error.retry_after_seconds)
                    may_have_run = error.may_have_run = error.may_have_run or may_have_run
                    delay = self._delay_seconds(number, error, self.stopwatch() - started)
                if delay is None:
                    raise
            else:
                self.pacer.answered()
                return result, attempts + self._reported(made, number)
            await self.sleep(delay)

    def _attempts_of(self, error: Exception, call: InventoryCall) -> Attempts:
        """Return the attempts that an error carries; a call that was not sent counts as an attempt as well."""
        if isinstance(error, CircuitOpen) or (isinstance(error, InventoryThrottled) and not error.was_sent):
            outcome = SHORT_CIRCUITED if isinstance(error, CircuitOpen) else THROTTLED
            return (Attempt(self.clock(), call, outcome, 0.0, details={"error": error.message}),)
        return attempts_of(error)

    def _reported(self, made: Attempts, number: int) -> Attempts:
        """Pass the attempts of one try, with its number, to ``on_attempt`` and return them."""
        numbered = made if number == 1 else tuple(replace(attempt, number=number) for attempt in made)
        for attempt in numbered:
            self.on_attempt(attempt)
        return numbered

    async def _wait_for_turn(self, call: InventoryCall, elapsed_seconds: float) -> None:
        """Wait until the pacer admits the call. Raises InventoryThrottled when the wait is too long."""
        patience = PATIENCE_SECONDS if self.patience_seconds is None else self.patience_seconds
        if self.patience_seconds is None and self.deadline_seconds is not None:
            share = CHECK_PATIENCE if call == InventoryCall.CHECK_AVAILABILITY else 1.0
            patience = max(self.deadline_seconds * share - elapsed_seconds, 0.0)
        await self.pacer.admit(call, patience)

    def _delay_seconds(self, attempts_made: int, error: DependencyError, elapsed_seconds: float) -> float | None:
        if isinstance(error, CircuitOpen | ReleaseFailed | InventoryRefusesUs):
            return None
        if isinstance(error, InventoryThrottled):
            # The pacer delays the next attempt, or raises when the wait would be too long.
            return 0.0 if error.was_sent and attempts_made < self.policy.attempts else None
        wanted = error.retry_after_seconds or 0.0
        delay = self.policy.delay_seconds(attempts_made, self.randomness, retry_after_seconds=wanted)
        # A customer waits for this call, so delayed retries handle a longer Retry-After.
        if delay is None or wanted > self.policy.max_delay_seconds:
            return None
        if self.deadline_seconds is not None and elapsed_seconds + delay >= self.deadline_seconds:
            return None
        return delay
