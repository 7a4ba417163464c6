"""Breakers, immediate retries and attempt reports around any InventoryGateway.

Retries stand outside the breaker and each attempt goes through it; the attempt's timeout is inside
the gateway, because seen from outside slowness would look like cancellation.

Source: seed 7.1, 7.2 and 8.2; design 4.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from services.domain.attempts import CHECK_AVAILABILITY, RELEASE, RESERVE, SHORT_CIRCUITED, Attempt
from services.domain.errors import CircuitOpen, DependencyError, ReleaseFailed
from services.domain.order import Line
from services.domain.retry import Randomness, RetryPolicy
from services.inventory.breaker import AsyncBreaker, InventoryBreakers
from services.inventory.exchange import Clock, Stopwatch
from services.inventory.gateway import Availability, InventoryGateway, Reservation

T = TypeVar("T")

Sleep = Callable[[float], Awaitable[None]]
Try = Callable[[list[Attempt]], Awaitable[T]]


def _unobserved(_: Attempt) -> None:
    """Nobody counts."""


@dataclass(frozen=True, slots=True)
class ResilientInventory:
    """InventoryGateway that retries what may pass and sends nothing while a circuit is open.

    Every attempt, the short-circuited included, is numbered, added to the trail and handed to
    ``on_attempt``. Only dependency errors are retried, and never past an open circuit. The error of
    the last attempt is raised; its may_have_run is True if that of any attempt was.
    """

    gateway: InventoryGateway
    breakers: InventoryBreakers
    policy: RetryPolicy
    clock: Clock
    on_attempt: Callable[[Attempt], None] = _unobserved
    deadline_seconds: float | None = None
    """No attempt begins later than this after the call began."""
    sleep: Sleep = asyncio.sleep
    randomness: Randomness = random.random
    stopwatch: Stopwatch = time.perf_counter

    def once(self) -> ResilientInventory:
        """The same, but with one attempt per call, for callers who retry in their own time."""
        return replace(self, policy=replace(self.policy, attempts=1))

    async def check_availability(self, lines: tuple[Line, ...], trail: list[Attempt]) -> Availability:
        async def check(tries: list[Attempt]) -> Availability:
            return await self.gateway.check_availability(lines, tries)

        return await self._call(CHECK_AVAILABILITY, self.breakers.checker, check, trail)

    async def reserve(self, order_id: str, lines: tuple[Line, ...], user_id: str, trail: list[Attempt]) -> Reservation:
        async def reserve(tries: list[Attempt]) -> Reservation:
            return await self.gateway.reserve(order_id, lines, user_id, tries)

        return await self._call(RESERVE, self.breakers.reserver, reserve, trail)

    async def release(self, order_id: str, trail: list[Attempt]) -> bool:
        async def release(tries: list[Attempt]) -> bool:
            return await self.gateway.release(order_id, tries)

        return await self._call(RELEASE, self.breakers.releaser, release, trail)

    async def _call(self, operation: str, breaker: AsyncBreaker, attempt: Try[T], trail: list[Attempt]) -> T:
        started, number, may_have_run = self.stopwatch(), 0, False
        while True:
            number += 1
            try:
                return await self._attempt(operation, breaker, attempt, number, trail)
            except DependencyError as error:
                may_have_run = error.may_have_run = error.may_have_run or may_have_run
                delay = self._delay_seconds(number, error, self.stopwatch() - started)
                if delay is None:
                    raise
            await self.sleep(delay)

    async def _attempt(
        self, operation: str, breaker: AsyncBreaker, attempt: Try[T], number: int, trail: list[Attempt]
    ) -> T:
        tries: list[Attempt] = []
        try:
            return await breaker.acall(attempt, tries)
        except CircuitOpen as error:
            tries.append(Attempt(self.clock(), operation, SHORT_CIRCUITED, 0.0, details={"error": error.message}))
            raise
        finally:
            for made in tries:
                numbered = made if number == made.number else replace(made, number=number)
                trail.append(numbered)
                self.on_attempt(numbered)

    def _delay_seconds(self, attempts_made: int, error: DependencyError, elapsed_seconds: float) -> float | None:
        if isinstance(error, CircuitOpen | ReleaseFailed):
            return None
        wanted = error.retry_after_seconds or 0.0
        delay = self.policy.delay_seconds(attempts_made, self.randomness, retry_after_seconds=wanted)
        # Somebody waits for this call; a service that asks for a longer rest is left to the delayed retries.
        if delay is None or wanted > self.policy.max_delay_seconds:
            return None
        if self.deadline_seconds is not None and elapsed_seconds + delay >= self.deadline_seconds:
            return None
        return delay
