"""The three circuit breakers in front of the Inventory Service."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from services.base.settings import Settings
from services.clients.breaker import AsyncBreaker
from services.clients.rolling_window import BreakerOptions
from services.domain.errors import NotFound

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
