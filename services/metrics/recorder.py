"""What a worker says about itself in the database: heartbeat, breaker states, metric history, gauges."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from services.clients.breaker import AsyncBreaker, BreakerSnapshot, InventoryBreakers
from services.domain.orders.events import timestamp
from services.domain.orders.model import OrderStatus
from services.metrics.registry import Metrics
from state import (
    alerts,
    conservation,
    dead_letters,
    notifications,
    orders,
    outbox,
    refused_orders,
    releases,
    replicas,
    reviews,
    samples,
)
from state.engine.database import Database
from state.replicas import BreakerTransition, Replica

REPLICA_FORGOTTEN_AFTER = timedelta(minutes=10)
MAX_UNSAVED_TRANSITIONS = 1000
GAUGES_PATIENCE_SECONDS = 2.0
"""How long a scrape waits for the database; Prometheus itself gives up after ten seconds by default."""

logger = logging.getLogger("holdfast.recorder")


@dataclass(frozen=True, slots=True)
class Queues:
    """What waits, as the database knows it."""

    reservation: int
    release: int
    outbox: int
    outbox_oldest_at: datetime | None
    undeliverable: int
    reviews: dict[str, int]
    reviews_oldest_at: datetime | None
    dead_letters: int
    differences: int
    refused_in_a_row: int
    firing: int
    notifications: int


class Recorder:
    """Keeps the rows about one replica up to date."""

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
        """``on_others`` is called at each heartbeat with the other replicas that live, and the time."""
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
        self.on_change: Callable[[], object] = lambda: None
        """Called when a breaker has changed its state: whoever runs beat() then does so at once."""
        self._transitions: deque[BreakerTransition] = deque(maxlen=MAX_UNSAVED_TRANSITIONS)

    def breaker_changed(self, breaker: AsyncBreaker, before: str, after: str, at: datetime) -> None:
        """Listener of the breakers: counted, and stored, at once."""
        self._metrics.breaker_changed(breaker.label, after)
        self._metrics.breaker_is(breaker.label, after)
        self._transitions.append(BreakerTransition(self._replica, breaker.label, before, after, at))
        self.on_change()

    def present(self) -> Replica:
        """This replica as it is now, from memory."""
        breakers = [_breaker(breaker.snapshot()) for breaker in self._breakers]
        return Replica(self._replica, self._started_at, self._clock(), breakers, self._facts())

    async def beat(self) -> bool:
        """Say that this replica lives; one round of a Loop."""
        now = self.present()
        at = now.heartbeat_at
        moved = [self._transitions.popleft() for _ in range(len(self._transitions))]

        def transaction(connection: Connection) -> list[Replica]:
            replicas.beat(
                connection,
                self._replica,
                started_at=now.started_at,
                at=at,
                breakers=now.breakers,
                facts=now.facts,
            )
            replicas.add_transitions(connection, moved)
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
        """Write one row of metric history; one round of a Loop."""
        at = self._clock()
        queues = await self._database.read(_queues)
        self._set_gauges(queues, at)
        sample = self._metrics.sample() | {
            "queues": {
                "reservation": queues.reservation,
                "release": queues.release,
                "outbox": queues.outbox,
                "undeliverable": queues.undeliverable,
                "reviews": sum(queues.reviews.values()),
                "deadLetters": queues.dead_letters,
                "differences": queues.differences,
            },
            # A counter is compared with the last sample of the same start: names of replicas come back.
            "startedAt": timestamp(self._started_at),
            "outboxOldestAgeSeconds": _age(queues.outbox_oldest_at, at),
            "breakers": {breaker.label: breaker.effective_state for breaker in self._breakers},
        }
        await self._database.write(lambda c: samples.add(c, at, self._replica, sample))
        return False

    async def refresh_gauges(self) -> None:
        """Bring the gauges up to date before a scrape; never raises.

        While the database is away the last known gauges stay, and ``gauges_age_seconds`` says how old they are.
        Scrapes share one question: those of a slow database must not queue up behind each other.
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
            self._set_gauges(await self._database.read(_queues), self._clock())
        except Exception as error:  # noqa: BLE001 - a boundary: whatever keeps the database from answering, counters are served
            return error
        return None

    async def sign_off(self) -> None:
        """Take this replica's row along when it stops in good order."""
        await self._database.write(lambda c: replicas.remove(c, self._replica))

    def _set_gauges(self, queues: Queues, now: datetime) -> None:
        self._set_breakers()
        self._gauges_at = now
        self._metrics.queues(
            reservation=queues.reservation,
            release=queues.release,
            outbox=queues.outbox,
            outbox_oldest_at=queues.outbox_oldest_at,
            undeliverable=queues.undeliverable,
            now=now,
            reviews=queues.reviews,
            reviews_oldest_at=queues.reviews_oldest_at,
            dead_letters=queues.dead_letters,
            differences=queues.differences,
            refused_in_a_row=queues.refused_in_a_row,
        )
        self._metrics.alerting(firing=queues.firing, pending_notifications=queues.notifications)

    def _set_breakers(self) -> None:
        for breaker in self._breakers:
            self._metrics.breaker_is(breaker.label, breaker.effective_state)


def _queues(connection: Connection) -> Queues:
    waiting, oldest = outbox.pending(connection)
    return Queues(
        reservation=orders.count_with_status(connection, OrderStatus.PENDING_INVENTORY),
        release=releases.count_by_state(connection).get(releases.PENDING, 0),
        outbox=waiting,
        outbox_oldest_at=oldest,
        undeliverable=outbox.count_undeliverable(connection),
        reviews=reviews.count_open_by_reason(connection),
        reviews_oldest_at=reviews.oldest_open_at(connection),
        dead_letters=dead_letters.count_open(connection),
        differences=conservation.count_unsettled(connection),
        refused_in_a_row=refused_orders.in_a_row(connection),
        firing=alerts.count_by_state(connection).get(alerts.FIRING, 0),
        notifications=notifications.count_pending(connection),
    )


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


def _age(oldest: datetime | None, now: datetime) -> float:
    return max(0.0, (now - oldest).total_seconds()) if oldest else 0.0
