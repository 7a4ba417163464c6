"""What a circuit breaker adds to an awaited call."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from services.clients.breaker import AsyncBreaker
from services.clients.rolling_window import BreakerOptions

CALLS = 20_000
ROUNDS = 7


async def overhead_microseconds() -> float:
    """Microseconds per call through a closed breaker beyond a bare await; the best of several rounds."""
    breaker = AsyncBreaker("bench", BreakerOptions(), clock=lambda: datetime.now(UTC))
    guarded = await _best(lambda: breaker.acall(_nothing))
    return guarded - await _best(_nothing)


async def _nothing() -> None:
    return


async def _best(call: Callable[[], Awaitable[None]]) -> float:
    return min([await _microseconds(call) for _ in range(ROUNDS)])


async def _microseconds(call: Callable[[], Awaitable[None]]) -> float:
    started = time.perf_counter()
    for _ in range(CALLS):
        await call()
    return (time.perf_counter() - started) / CALLS * 1e6
