"""Live state of the integration: workers, breakers, queues, recent trends, and the health derived from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from services.base.settings import Settings
from services.breakers import overview
from services.breakers.overview import Band, Breaker, ReplicaBreaker
from services.console.access import LIVE_TTL, TRENDS_TTL, Access, Topic
from services.console.cache import Reading
from services.domain.commands import LOOKUPS
from services.domain.orders.model import OrderStatus, ReleaseState
from services.metrics.health import Facts, Health, Thresholds, assess
from services.metrics.sample import Known
from services.metrics.trends import CHECK, RESERVE, SPAN, Trends, trends
from state import (
    breakers,
    commands,
    conservation,
    dead_letters,
    order_search,
    orders,
    outbox,
    releases,
    replicas,
    reviews,
    samples,
)
from state.breakers import BreakerOverride, BreakerTransition
from state.commands import Command
from state.replicas import Replica

REMEMBERED = timedelta(days=1)
"""How far back heartbeats are read. The known state of a dead worker's breakers ends at its last heartbeat."""
MAX_CHANGES = 2000
"""Maximum changes of breaker states that are drawn at once."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A replica of the integration service, as of its last heartbeat."""

    replica: str
    version: str
    started_at: datetime
    heartbeat_at: datetime
    is_alive: bool
    nats_connected: bool
    sandbox: bool | None
    breakers: tuple[ReplicaBreaker, ...]


@dataclass(frozen=True, slots=True)
class Live:
    """The present state of the service."""

    workers: tuple[Worker, ...]
    """Live replicas."""
    silent_since: datetime | None
    """The last heartbeat of any replica within REMEMBERED, if none is live."""
    breakers: tuple[Breaker, ...]
    queues: Mapping[str, int]
    """Length by queue: reservation, release, failed_releases, reviews, outbox, dead_letters, differences."""
    outbox_oldest_at: datetime | None
    sandbox: bool

    @property
    def is_running(self) -> bool:
        return bool(self.workers)


@dataclass(frozen=True, slots=True)
class Changes:
    """The latest changes of breaker states and the latest commands."""

    transitions: tuple[BreakerTransition, ...]
    commands: tuple[Command, ...]


class Status(Topic):
    """The topic of the Overview page and of what every page shows."""

    def __init__(self, access: Access, settings: Settings) -> None:
        super().__init__(access)
        self._settings = settings
        self._known = Known()
        """Samples cached by trends(); the reading cache never runs two loads of it at once."""

    @property
    def is_sandbox(self) -> bool:
        """Whether a live worker reports the sandbox; without one, whether the settings are those of the sandbox."""
        reported = self.live().value
        return reported.sandbox if reported else self._settings.is_sandbox

    def live(self) -> Reading[Live]:
        is_sandbox = self._settings.is_sandbox
        return self._access.read("live", LIVE_TTL, lambda c: live(c, self._access.now(), sandbox=is_sandbox))

    def trends(self) -> Reading[Trends]:
        window = timedelta(milliseconds=self._settings.alert_window)
        return self._access.read("trends", TRENDS_TTL, lambda c: recent(c, self._access.now(), window, self._known))

    def changes(self) -> Reading[Changes]:
        return self._access.read("changes", TRENDS_TTL, lambda c: _changes(c, self._access.now()))

    def transitions(self) -> Reading[tuple[BreakerTransition, ...]]:
        """Changes of breaker states in the last day, newest first."""
        return self._access.read("transitions", TRENDS_TTL, lambda c: _transitions(c, self._access.now()))

    def overrides(self) -> Reading[Mapping[str, BreakerOverride]]:
        """The breaker overrides that have not expired, by breaker."""
        return self._access.read("overrides", LIVE_TTL, lambda c: breakers.active_overrides(c, self._access.now()))

    def breaker_commands(self, names: tuple[str, ...]) -> Reading[Mapping[str, Command]]:
        """The last command on each breaker."""
        return self._access.read(("breaker_commands", names), LIVE_TTL, lambda c: commands.latest_of(c, list(names)))

    def health(self, live: Live, recent: Trends | None) -> Health:
        """The health derived from live state and trends; without trends, from states and queues alone."""
        operations = recent.operations if recent else {}
        oldest = live.outbox_oldest_at
        facts = Facts(
            workers=len(live.workers),
            breakers=live.breakers,
            queues=live.queues,
            outbox_age_seconds=(self._access.now() - oldest).total_seconds() if oldest else 0.0,
            reserve_rate=operations[RESERVE].technical.now if RESERVE in operations else None,
            check_p95_seconds=operations[CHECK].p95.now if CHECK in operations else None,
            refused=sum(recent.failures.get(code, 0) for code in order_search.REFUSAL_CODES) if recent else 0,
            nats_connected=all(worker.nats_connected for worker in live.workers),
        )
        thresholds = Thresholds(
            self._settings.alert_reservation_success_rate,
            self._settings.alert_queue_depth,
            self._settings.alert_availability_latency / 1000,
        )
        return assess(facts, thresholds)


def live(connection: Connection, now: datetime, *, sandbox: bool) -> Live:
    """The present state; ``sandbox`` applies if no live worker reports whether it is a sandbox."""
    known = [_worker(row, now) for row in replicas.known(connection, now - REMEMBERED)]
    living = tuple(worker for worker in known if worker.is_alive)
    by_reason = reviews.count_open_by_reason(connection)
    waiting, oldest_at = outbox.pending(connection)
    said = [worker.sandbox for worker in living if worker.sandbox is not None]
    return Live(
        workers=living,
        silent_since=None if living else max((worker.heartbeat_at for worker in known), default=None),
        breakers=overview.by_name(breaker for worker in living for breaker in worker.breakers),
        queues=_queues(connection) | {"reviews": sum(by_reason.values()), "outbox": waiting},
        outbox_oldest_at=oldest_at,
        sandbox=any(said) if said else sandbox,
    )


def recent(connection: Connection, now: datetime, window: timedelta, known: Known | None = None) -> Trends:
    """Trends of the last half hour.

    ``window`` is the time over which rates are computed; ``known`` caches samples between calls.
    """
    start = now - SPAN - timedelta(minutes=2)
    rows = samples.since(connection, start, known.rows if known else {})
    if known is not None:
        known.rows = {(at, replica): sample for at, replica, sample in rows}
    return trends(rows, bands_since(connection, now, start), now, window, known)


def bands_since(connection: Connection, now: datetime, start: datetime) -> list[Band]:
    """States of each breaker from ``start`` to now, at most the newest MAX_CHANGES changes."""
    known = [_worker(row, now) for row in replicas.known(connection, now - REMEMBERED)]
    present = [
        (breaker, worker.started_at, now if worker.is_alive else worker.heartbeat_at)
        for worker in known
        for breaker in worker.breakers
    ]
    return overview.bands(breakers.transitions_since(connection, start, MAX_CHANGES), present, start)


def _transitions(connection: Connection, now: datetime) -> tuple[BreakerTransition, ...]:
    return tuple(breakers.transitions_since(connection, now - REMEMBERED, 50))


def _changes(connection: Connection, now: datetime) -> Changes:
    found = breakers.transitions_since(connection, now - REMEMBERED, 6)
    return Changes(tuple(found), tuple(recent_commands(connection, None, 6)))


def recent_commands(connection: Connection, target_id: str | None, limit: int) -> list[Command]:
    """The latest commands, except inventory lookups, because they change nothing."""
    given = commands.latest(connection, target_id=target_id, limit=5 * limit)
    return [command for command in given if command.kind not in LOOKUPS][:limit]


def _worker(row: Replica, now: datetime) -> Worker:
    facts = row.facts
    return Worker(
        replica=row.replica,
        version=str(facts.get("version", "")),
        started_at=row.started_at,
        heartbeat_at=row.heartbeat_at,
        is_alive=replicas.is_alive(row, now),
        nats_connected=bool(facts.get("natsConnected", True)),
        sandbox=facts.get("sandbox"),
        breakers=tuple(overview.replica_breaker(row.replica, b, row.heartbeat_at) for b in row.breakers),
    )


def _queues(connection: Connection) -> dict[str, int]:
    jobs = releases.count_by_state(connection)
    return {
        "reservation": orders.count_with_status(connection, OrderStatus.PENDING_INVENTORY),
        "release": jobs.get(ReleaseState.PENDING, 0),
        "failed_releases": jobs.get(ReleaseState.FAILED, 0),
        "dead_letters": dead_letters.count_open(connection),
        "differences": conservation.count_unsettled(connection),
    }
