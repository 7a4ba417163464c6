"""Records the state of this replica in the database: heartbeat, breaker states, metric samples; refreshes gauges."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from services.base.loops import Loop
from services.clients.breaker import AsyncBreaker, BreakerSnapshot
from services.clients.inventory.resilient import InventoryBreakers
from services.domain.orders.events import timestamp
from services.metrics.gauges import GaugeValues, read_gauges, stored_queues
from services.metrics.registry import Metrics
from state import breakers, replicas, samples
from state.breakers import BreakerTransition
from state.engine.database import Database
from state.replicas import Replica

REPLICA_FORGOTTEN_AFTER = timedelta(minutes=10)
MAX_UNSAVED_TRANSITIONS = 1000
GAUGES_PATIENCE_SECONDS = 2.0
"""How long a scrape waits for the database. By default, Prometheus ends a scrape after ten seconds."""

logger = logging.getLogger("holdfast.recorder")


class Recorder:
    """Updates the rows of one replica."""

    def __init__(
        self,
        database: Database,
        clock: Callable[[], datetime],
        replica: str,
        breakers: InventoryBreakers,
        metrics: Metrics,
        facts: Callable[[], dict[str, Any]],
        on_others: Callable[[Sequence[Replica], datetime], object] = lambda _others, _now: None,
    ) -> None:
        """``on_others`` is called at each heartbeat with the other live replicas and the time."""
        self._database = database
        self._clock = clock
        self._replica = replica
        self._breakers = breakers
        self._metrics = metrics
        self._facts = facts
        self._on_others = on_others
        self._started_at = clock()
        self._gauges_at = self._started_at
        self._refreshing: asyncio.Future[Exception | None] | None = None
        self.heartbeat = Loop("heartbeat", self.beat, pause_seconds=1.0)
        """Stores the state of this replica every second, and at once when a breaker changes."""
        self._transitions: deque[BreakerTransition] = deque(maxlen=MAX_UNSAVED_TRANSITIONS)

    def breaker_changed(self, breaker: AsyncBreaker, before: str, after: str, at: datetime) -> None:
        """Count a state change of a breaker and store it at once; a listener of the breakers."""
        self._metrics.breaker_changed(breaker.label, after)
        self._metrics.breaker_is(breaker.label, after)
        self._transitions.append(BreakerTransition(self._replica, breaker.label, before, after, at))
        self.heartbeat.wake()

    def present(self) -> Replica:
        """The current state of this replica, from memory."""
        breakers = [_breaker(breaker.snapshot()) for breaker in self._breakers]
        return Replica(self._replica, self._started_at, self._clock(), breakers, self._facts())

    async def beat(self) -> bool:
        """Store a heartbeat with breaker states; one round of a Loop."""
        now = self.present()
        at = now.heartbeat_at
        moved = [self._transitions.popleft() for _ in range(len(self._transitions))]

        def transaction(connection: Connection) -> list[Replica]:
            replicas.beat(connection, now)
            breakers.add_transitions(connection, moved)
            replicas.forget(connection, at - REPLICA_FORGOTTEN_AFTER)
            return replicas.alive(connection, at)

        try:
            living = await self._database.write(transaction)
        except Exception:
            self._transitions.extendleft(reversed(moved))
            raise
        self._on_others([other for other in living if other.replica != self._replica], self._clock())
        return False

    async def sample(self) -> bool:
        """Store one metric sample; one round of a Loop."""
        at = self._clock()
        gauges = await self._database.read(lambda c: read_gauges(c, at))
        self._set_gauges(gauges, at)
        queues = stored_queues(gauges)
        age = queues.pop("outboxAge")
        sample = self._metrics.sample() | {
            "queues": {name: round(value) for name, value in queues.items()},
            # A counter is compared with samples of the same process start only, because replica names are reused.
            "startedAt": timestamp(self._started_at),
            "outboxOldestAgeSeconds": age,
            "breakers": {breaker.label: breaker.effective_state for breaker in self._breakers},
        }
        await self._database.write(lambda c: samples.add(c, at, self._replica, sample))
        return False

    async def refresh_gauges(self) -> None:
        """Refresh the gauges before a scrape; never raises.

        While the database is unavailable, the gauges keep their last values; ``gauges_age_seconds`` is their age.
        Concurrent scrapes share one read, so that reads of a slow database do not queue up.
        """
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.ensure_future(self._read_gauges())
        done, _ = await asyncio.wait([self._refreshing], timeout=GAUGES_PATIENCE_SECONDS)
        problem = self._refreshing.result() if done else TimeoutError("the database does not answer")
        if problem is not None:
            logger.warning("gauges_not_refreshed", extra={"error": repr(problem)})
            self._set_breakers()
        self._metrics.gauges_are(self._clock() - self._gauges_at)

    async def _read_gauges(self) -> Exception | None:
        try:
            now = self._clock()
            self._set_gauges(await self._database.read(lambda c: read_gauges(c, now)), now)
        except Exception as error:  # noqa: BLE001 - a boundary: counters are served after any database error
            return error
        return None

    async def sign_off(self) -> None:
        """Remove the row of this replica when it stops in order."""
        await self._database.write(lambda c: replicas.remove(c, self._replica))

    def _set_gauges(self, gauges: GaugeValues, now: datetime) -> None:
        self._set_breakers()
        self._gauges_at = now
        self._metrics.queues(gauges)

    def _set_breakers(self) -> None:
        for breaker in self._breakers:
            self._metrics.breaker_is(breaker.label, breaker.effective_state)


def _breaker(snapshot: BreakerSnapshot) -> dict[str, Any]:
    return {
        "name": snapshot.name,
        "state": snapshot.state,
        "since": timestamp(snapshot.since),
        "retryInMs": snapshot.retry_in_ms,
        "calls": snapshot.calls,
        "failures": snapshot.failures,
        "failureRate": snapshot.failures / snapshot.calls if snapshot.calls else None,
        "thresholdPercentage": snapshot.threshold_percentage,
        "volumeThreshold": snapshot.volume_threshold,
        "denied": snapshot.denied,
        "buckets": [list(bucket) for bucket in snapshot.buckets],
    }
