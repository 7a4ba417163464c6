"""Everything the pages may know and do: the one module between them and the state.

Reads are shared between all open pages for a second and outlive a database that is away (Reading).
Writes only store a command under an idempotency key; a worker executes it and notes the outcome.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from services.base.settings import Settings
from services.breakers.overview import OPERATIONS, Band, Breaker, ReplicaBreaker, interruptions
from services.console import overrides, queries
from services.console.access import Access
from services.console.alerts import ALERT_KINDS, Alerts
from services.console.audit import Audit
from services.console.background_cache import PATIENCE_SECONDS
from services.console.bulk import Operations
from services.console.bulk_preview import Previews
from services.console.cache import Reading, Readings
from services.console.csv_files import MAX_ROWS, csv_text
from services.console.events import KINDS as EVENT_KINDS
from services.console.events import Events, Outgoing, Received
from services.console.handover import Handover
from services.console.incidents import Incidents
from services.console.metric_history import Metrics
from services.console.overrides import Overrides
from services.console.paging import NEWEST, Place
from services.console.permissions import NotPermitted, People
from services.console.queries import (
    CANCEL_ORDER,
    CLAIM_REVIEW,
    COMPENSATE,
    PAGE_SIZE,
    QUESTIONS,
    RELEASE_CLAIM,
    RESOLVE_REVIEW,
    RETRY_RELEASE,
)
from services.console.releases import ReleaseRow, Releases
from services.console.reviews import ReviewDesk
from services.console.sandbox import COMMAND_KINDS as SANDBOX_KINDS
from services.console.sandbox import Sandbox
from services.console.stock import Stock
from services.console.texts import storable, storable_text
from services.console.traces import Traces
from services.console.undo import Held
from services.console.views import (
    COUNT_LIMIT,
    Changes,
    ConservationPage,
    DifferenceRow,
    Live,
    OrderFilter,
    OrderRow,
    OrdersPage,
    OrderView,
    ReviewCase,
    Worker,
)
from services.domain.conservation import COMPENSATIONS
from services.domain.orders.lifecycle import TimelineEntry
from services.domain.orders.model import InventoryStatus, Line, Order, OrderStatus, PaymentStatus, ReviewReason
from services.domain.reviews import ReviewAction
from services.metrics.health import NAMES, Facts, Finding, Health, Level, Thresholds, assess
from services.metrics.math import Known
from services.metrics.trends import BIN, CHECK, RELEASE, RESERVE, OperationTrend, Trend, Trends
from state import commands, refused_orders
from state.commands import Command
from state.conservation import KnownDifference
from state.engine.source import Source, SourceUnavailable
from state.releases import STATES as RELEASE_STATES
from state.releases import Release
from state.replicas import BreakerTransition
from state.reviews import Review

__all__ = [
    "BIN",
    "CHECK",
    "COMMAND_KINDS",
    "COMPENSATIONS",
    "COUNT_LIMIT",
    "INVENTORY_STATUSES",
    "MAX_ROWS",
    "NAMES",
    "OPERATIONS",
    "ORDER_STATUSES",
    "PAGE_SIZE",
    "PAYMENT_STATUSES",
    "RELEASE",
    "RELEASE_STATES",
    "RESERVE",
    "REVIEW_REASONS",
    "Band",
    "Breaker",
    "BreakerTransition",
    "Changes",
    "Command",
    "ConservationPage",
    "Console",
    "DifferenceRow",
    "Finding",
    "Health",
    "KnownDifference",
    "Level",
    "Line",
    "Live",
    "NotPermitted",
    "OperationTrend",
    "Order",
    "OrderFilter",
    "OrderRow",
    "OrderView",
    "OrdersPage",
    "Outgoing",
    "Reading",
    "Received",
    "Release",
    "ReleaseRow",
    "ReplicaBreaker",
    "Review",
    "ReviewAction",
    "ReviewCase",
    "ReviewDesk",
    "SourceUnavailable",
    "TimelineEntry",
    "Trend",
    "Trends",
    "Worker",
    "console",
    "install",
    "interruptions",
    "new_key",
    "same_sight_key",
]  # fmt: skip

ORDER_STATUSES = tuple(OrderStatus)
INVENTORY_STATUSES = tuple(InventoryStatus)
PAYMENT_STATUSES = tuple(PaymentStatus)
REVIEW_REASONS = tuple(ReviewReason)
MARK_RELEASED, STEER_OPERATION = "mark_released", "steer_operation"
RETURN_ITEMS = "return_items"
COMMAND_KINDS = (
    RETRY_RELEASE, RESOLVE_REVIEW, CANCEL_ORDER, COMPENSATE, RETURN_ITEMS, MARK_RELEASED, STEER_OPERATION,
    CLAIM_REVIEW, RELEASE_CLAIM, *QUESTIONS,
    *overrides.KINDS, *ALERT_KINDS, *EVENT_KINDS, *SANDBOX_KINDS,
)  # fmt: skip
LIVE_TTL, TRENDS_TTL = 1.0, 2.5
"""Seconds for which a reading serves everybody who looks."""


@dataclass
class Console:
    """The facade of one console process."""

    settings: Settings
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    monotonic: Callable[[], float] = time.monotonic
    patience_seconds: float = PATIENCE_SECONDS
    """How long a look waits for what is read in the background."""
    people: People = field(init=False)
    desk: ReviewDesk = field(init=False)
    _readings: Readings = field(init=False)
    _source: Source = field(init=False)
    traces: Traces = field(init=False)
    operations: Operations = field(init=False)
    releases: Releases = field(init=False)
    _known: Known = field(init=False, default_factory=Known)
    """Of trends(), whose loads come one after another."""
    metrics: Metrics = field(init=False)
    incidents: Incidents = field(init=False)
    overrides: Overrides = field(init=False)
    alerts: Alerts = field(init=False)
    events: Events = field(init=False)
    stock: Stock = field(init=False)
    audit: Audit = field(init=False)
    drills: Sandbox = field(init=False)
    handover: Handover = field(init=False)
    previews: Previews = field(init=False)
    held: Held = field(init=False)

    def __post_init__(self) -> None:
        self._readings = Readings(self.clock, self.monotonic)
        self._source = Source(self.settings.database, self.settings.database_pooler)
        self.traces = Traces(self.settings.trace_url_template)
        self.operations = Operations(self._source, self._readings, self.clock, self._write)
        self.releases = Releases(self._source, self._readings, self.clock)
        self.metrics = Metrics(
            self.settings, self._source, self.clock, self.monotonic, patience_seconds=self.patience_seconds,
            away=lambda: self.live().problem,
        )  # fmt: skip
        self.incidents = Incidents(self._readings, self._source, self.clock)
        self.overrides = Overrides(self._readings, self._source, self.clock, self.store_command)
        self.alerts = Alerts(self.settings, self.clock, self._read, self.store_command)
        access = Access(self._read, self._source.read, self._write, self.store_command, self.now)
        self.events = Events(access)
        self.stock = Stock(access)
        self.audit = Audit(access)
        self.drills = Sandbox(access)
        self.handover = Handover(access)
        self.previews = Previews(access)
        self.people = People(self.settings.console_role, dict(self.settings.console_people))
        self.held = Held(access)
        self.desk = ReviewDesk(self._read, self._source.read, self.store_command, self.now)

    def close(self) -> None:
        self.metrics.close()
        self._source.close()

    def now(self) -> datetime:
        """The console's time, aware UTC."""
        return self.clock()

    def expire(self) -> None:
        """Ask the database again at the next look."""
        self._readings.expire()

    # -- reading -------------------------------------------------------------------------------

    def live(self) -> Reading[Live]:
        sandbox = self.settings.is_sandbox
        return self._read("live", LIVE_TTL, lambda c: queries.live(c, self.now(), sandbox=sandbox))

    def trends(self) -> Reading[Trends]:
        window = timedelta(milliseconds=self.settings.alert_window)
        return self._read("trends", TRENDS_TTL, lambda c: queries.recent(c, self.now(), window, self._known))

    def changes(self) -> Reading[Changes]:
        return self._read("changes", TRENDS_TTL, lambda c: queries.changes(c, self.now()))

    def transitions(self) -> Reading[tuple[BreakerTransition, ...]]:
        """Changes of breaker states in the last day, newest first."""
        return self._read("transitions", TRENDS_TTL, lambda c: queries.transitions(c, self.now()))

    def orders(self, wanted: OrderFilter, place: Place = NEWEST) -> Reading[OrdersPage]:
        """The page of orders at a place."""
        return self._read(("orders", wanted, place), LIVE_TTL, lambda c: queries.orders_page(c, wanted, place))

    def orders_csv(self, wanted: OrderFilter) -> str:
        """The matching orders, newest first, at most MAX_ROWS; raises SourceUnavailable."""
        return csv_text(queries.ORDER_COLUMNS, self._source.read(lambda c: queries.order_rows(c, wanted, MAX_ROWS)))

    def order(self, order_id: str) -> Reading[OrderView]:
        """The order; no value although there is an as_of means that it does not exist."""
        return self._read(("order", order_id), LIVE_TTL, lambda c: queries.order_view(c, order_id))

    def conservation(self, page: int = 1) -> Reading[ConservationPage]:
        """One page of what does not add up between the services, and how much was compared."""
        return self._read(("conservation", page), LIVE_TTL, lambda c: queries.conservation_page(c, page))

    def _read(self, key: Any, ttl_seconds: float, query: Callable[[Any], Any]) -> Reading[Any]:
        return self._readings.get(key, ttl_seconds, lambda: self._source.read(query))

    def health(self, live: Live, recent: Trends | None) -> Health:
        """The verdict over what is known; without trends it rests on states and queues alone."""
        operations = recent.operations if recent else {}
        oldest = live.outbox_oldest_at
        facts = Facts(
            workers=len(live.workers),
            breakers=live.breakers,
            queues=live.queues,
            outbox_age_seconds=(self.now() - oldest).total_seconds() if oldest else 0.0,
            reserve_rate=operations[RESERVE].technical.now if RESERVE in operations else None,
            check_p95_seconds=operations[CHECK].p95.now if CHECK in operations else None,
            refused=sum(recent.failures.get(code, 0) for code in refused_orders.CODES) if recent else 0,
            nats_connected=all(worker.nats_connected for worker in live.workers),
        )
        return assess(facts, self._thresholds)

    @property
    def sandbox(self) -> bool:
        """What the settings say; a live worker knows better."""
        return self.settings.is_sandbox

    @property
    def _thresholds(self) -> Thresholds:
        return Thresholds(
            self.settings.alert_reservation_success_rate,
            self.settings.alert_queue_depth,
            self.settings.alert_availability_latency / 1000,
        )

    # -- writing -------------------------------------------------------------------------------

    def store_command(
        self,
        kind: str,
        target_id: str,
        arguments: Mapping[str, Any],
        *,
        actor: str,
        command_id: str,
        held_for: timedelta | None = None,
    ) -> Command:
        """Store what a person asked for; under a known ``command_id`` nothing is stored again.

        ``held_for`` is how long it can be taken back before a worker runs it. Returns the command as it is
        stored. Raises NotPermitted or SourceUnavailable, and then nothing was stored.
        """
        if kind not in COMMAND_KINDS:
            raise ValueError(f"unknown command {kind!r}")
        role = self.people.role_of(actor)
        now = self.now()
        wanted = Command(
            command_id,
            kind,
            storable_text(target_id),
            storable(arguments),
            actor,
            commands.STORED,
            now,
            not_before=now + held_for if held_for else None,
            role=role,
        )

        def store(connection: Any) -> Command:
            commands.store(connection, wanted)
            return commands.get(connection, command_id) or wanted

        stored: Command = self._write(actor, store)
        return stored

    def _write(self, actor: str, transaction: Callable[[Any], Any]) -> Any:
        """Write in the name of a person who may; raises NotPermitted or SourceUnavailable."""
        self.people.require(actor)
        written = self._source.write(transaction)
        self.expire()
        return written

    def retry_release(self, row: ReleaseRow, *, actor: str, command_id: str) -> Command:
        return self.store_command(RETRY_RELEASE, row.release.order_id, {}, actor=actor, command_id=command_id)

    def mark_released(self, row: ReleaseRow, proof: str, *, actor: str, command_id: str) -> Command:
        """Close a failed job as the person saw it, on their proof that nothing is held."""
        arguments = {"proof": proof, "version": row.release.version}
        return self.store_command(MARK_RELEASED, row.release.order_id, arguments, actor=actor, command_id=command_id)

    def steer_operation(self, operation_id: str, move: str, *, actor: str, command_id: str) -> Command:
        """Pause a bulk operation, let it go on, or cancel what is left of it."""
        return self.store_command(STEER_OPERATION, operation_id, {"move": move}, actor=actor, command_id=command_id)

    def cancel_order(self, order_id: str, reason: str, *, actor: str, command_id: str) -> Command:
        """Cancel an order; it is held for a while, in which it can be taken back."""
        return self.store_command(
            CANCEL_ORDER,
            order_id,
            {"reason": reason},
            actor=actor,
            command_id=command_id,
            held_for=self.held.CANCEL_FOR,
        )

    def return_items(
        self, order_id: str, lines: Sequence[Line], *, reason: str, restockable: bool, actor: str, command_id: str
    ) -> Command:
        """Record what a customer has sent back; the command's id is the return's."""
        arguments = {"items": [line.wire() for line in lines], "reason": reason, "restockable": restockable}
        return self.store_command(RETURN_ITEMS, order_id, arguments, actor=actor, command_id=command_id)

    def compensate(self, difference: KnownDifference, reason: str, *, actor: str, command_id: str) -> Command:
        """Apply the compensation that is offered for a difference."""
        arguments = {"orderId": difference.order_id, "kind": difference.kind, "reason": reason}
        target = f"{difference.order_id}/{difference.kind}"
        return self.store_command(COMPENSATE, target, arguments, actor=actor, command_id=command_id)


# -- keys and the process-wide facade ----------------------------------------------------------


def new_key() -> str:
    """An idempotency key for a dialog: made when it opens, so that three clicks in it are one command."""
    return str(uuid.uuid4())


def same_sight_key(kind: str, target_id: str, version: int, last: Command | None) -> str:
    """An idempotency key for a button without a dialog: the same for everybody who sees the same.

    It changes when the target changes or the last command on it has ended, so that the same thing
    can be asked for again then, and not before.
    """
    sight = f"{kind}/{target_id}/{version}/{last.command_id if last else '-'}"
    return str(uuid.uuid5(uuid.NAMESPACE_OID, sight))


_lock = threading.Lock()
_console: Console | None = None


def console() -> Console:
    """The facade of this process, made at the first call from the settings in the environment."""
    global _console  # noqa: PLW0603 - a process has one console; pages have no composition root of their own
    with _lock:
        if _console is None:
            _console = Console(Settings.load())
        return _console


def install(made: Console | None) -> None:
    """Put another facade in the place of this process's, which is closed; None has the next call make one."""
    global _console  # noqa: PLW0603 - see console()
    with _lock:
        if _console is not None:
            _console.close()
        _console = made
