"""The console of one process: every topic the pages read and write, over one database and one cache.

Reads are shared by all open pages and survive a database that is down (Reading). Writes only store a command
under an idempotency key; a worker executes it and records the outcome.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from services.base.settings import Settings
from services.console.access import Access, People
from services.console.alerts import Alerts
from services.console.audit import Audit
from services.console.bulk import BulkJobs, Previews
from services.console.cache import PATIENCE_SECONDS, ReadingCache
from services.console.conservation import Conservation
from services.console.events import Events
from services.console.handover import Handover
from services.console.incidents import Incidents
from services.console.metric_history import Metrics
from services.console.orders import Orders
from services.console.releases import Releases
from services.console.reviews import Reviews
from services.console.sandbox import Sandbox
from services.console.status import Status
from services.console.stock import Stock
from state.commands import Command
from state.engine.source import Source


@dataclass
class Console:
    """One attribute per topic."""

    settings: Settings
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    """The console's time, aware UTC."""
    monotonic: Callable[[], float] = time.monotonic
    patience_seconds: float = PATIENCE_SECONDS
    """How long a page waits for a reading that is loaded in the background."""
    people: People = field(init=False)
    status: Status = field(init=False)
    orders: Orders = field(init=False)
    reviews: Reviews = field(init=False)
    releases: Releases = field(init=False)
    bulk: BulkJobs = field(init=False)
    previews: Previews = field(init=False)
    conservation: Conservation = field(init=False)
    incidents: Incidents = field(init=False)
    alerts: Alerts = field(init=False)
    metrics: Metrics = field(init=False)
    events: Events = field(init=False)
    stock: Stock = field(init=False)
    audit: Audit = field(init=False)
    handover: Handover = field(init=False)
    sandbox: Sandbox = field(init=False)

    def __post_init__(self) -> None:
        settings = self.settings
        self._source = Source(settings.database, settings.database_pooler)
        self._cache = ReadingCache(self.now, self.monotonic)
        self.people = People(settings.console_role, dict(settings.console_people))
        self.access = access = Access(self._source, self._cache, self.people, self.now)
        self.status = Status(access, settings)
        self.orders = Orders(access, settings.trace_url_template)
        self.reviews = Reviews(access)
        self.releases = Releases(access)
        self.bulk = BulkJobs(access)
        self.previews = Previews(access)
        self.conservation = Conservation(access)
        self.incidents = Incidents(access)
        self.alerts = Alerts(access, settings)
        self.metrics = Metrics(
            settings, self._source, self.now, self.monotonic, patience_seconds=self.patience_seconds,
            away=lambda: self.status.live().problem,
        )  # fmt: skip
        self.events = Events(access)
        self.stock = Stock(access)
        self.audit = Audit(access)
        self.handover = Handover(access)
        self.sandbox = Sandbox(access)

    def close(self) -> None:
        self.metrics.close()
        self._source.close()

    def expire(self) -> None:
        """Expire every cached reading, so that its next use reads the database."""
        self._cache.expire()


def new_key() -> str:
    """An idempotency key for a dialog: made when it opens, so that three clicks in it are one command."""
    return str(uuid.uuid4())


def same_sight_key(kind: str, target_id: str, version: int, last: Command | None) -> str:
    """An idempotency key for a button without a dialog: the same on every page that shows the same state.

    The key changes with the target's version and with each new command on the target. The action can be repeated
    only after such a change.
    """
    sight = f"{kind}/{target_id}/{version}/{last.command_id if last else '-'}"
    return str(uuid.uuid5(uuid.NAMESPACE_OID, sight))


_lock = threading.Lock()
_console: Console | None = None


def console() -> Console:
    """The console of this process, made at the first call from the settings in the environment."""
    global _console  # noqa: PLW0603 - a process has one console; pages have no composition root of their own
    with _lock:
        if _console is None:
            _console = Console(Settings.load())
        return _console


def install(made: Console | None) -> None:
    """Close the console of this process and use another one; with None the next call of console() makes one."""
    global _console  # noqa: PLW0603 - see console()
    with _lock:
        if _console is not None:
            _console.close()
        _console = made
