"""What the pages are shown: frozen values, ready to be drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from services.breakers.overview import Breaker, ReplicaBreaker
from services.console.paging import Paged
from services.domain.orders.lifecycle import RETURNABLE, TimelineEntry
from services.domain.orders.model import Order
from services.domain.orders.value import OrderValue, order_value
from services.domain.reviews import CANCELLABLE, ReviewAction
from state.commands import Command
from state.conservation import KnownDifference
from state.inbox import Received
from state.order_search import OrderQuery
from state.outbox import Outgoing
from state.releases import Release
from state.replicas import BreakerTransition
from state.reviews import Review

COUNT_LIMIT = 1000
"""Matching orders are counted no further than this."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A replica of the integration service, as it last spoke of itself."""

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
    """How things stand right now."""

    workers: tuple[Worker, ...]
    """Those that live."""
    silent_since: datetime | None
    """The last heartbeat of any worker, when none lives and one is remembered."""
    breakers: tuple[Breaker, ...]
    queues: Mapping[str, int]
    """reservation, release, failed_releases, reviews, outbox, dead_letters, differences."""
    reviews_by_reason: Mapping[str, int]
    outbox_oldest_at: datetime | None
    sandbox: bool

    @property
    def is_running(self) -> bool:
        return bool(self.workers)


OrderFilter = OrderQuery


@dataclass(frozen=True, slots=True)
class OrderRow:
    """An order in a list."""

    order: Order
    open_reviews: tuple[str, ...]
    """Reasons of its open cases."""


@dataclass(frozen=True, slots=True)
class OrdersPage:
    """One page of orders, newest first."""

    rows: Paged[OrderRow]
    count: int
    """Matching orders, counted up to COUNT_LIMIT."""
    is_count_capped: bool
    """Whether there may be more."""


@dataclass(frozen=True, slots=True)
class ReviewCase:
    """A case with what a person needs to decide it."""

    review: Review
    order: Order
    actions: tuple[ReviewAction, ...]
    command: Command | None
    """The last command that was to resolve the case."""
    claim: Command | None = None
    """The last command that was to claim it or to hand it back."""

    @property
    def order_value(self) -> OrderValue:
        return order_value(self.order)


@dataclass(frozen=True, slots=True)
class DifferenceRow:
    """One difference with what was last asked about it."""

    difference: KnownDifference
    command: Command | None


@dataclass(frozen=True, slots=True)
class ConservationPage:
    """What does not add up, the longest known first."""

    rows: tuple[DifferenceRow, ...]
    """One page of them."""
    count: int
    """All that are not settled."""
    compared: int
    """Orders compared so far, each as often as it changed."""


@dataclass(frozen=True, slots=True)
class OrderView:
    """One order with all that belongs to it."""

    order: Order
    cases: tuple[ReviewCase, ...]
    release: Release | None
    timeline: tuple[TimelineEntry, ...]
    commands: tuple[Command, ...]
    """Newest first: those on the order and on its cases."""
    sent: tuple[Outgoing, ...] = ()
    """Its last events out, newest first; kept for two weeks."""
    received: tuple[Received, ...] = ()
    """Its last events in, newest first; kept for a month."""

    @property
    def can_return(self) -> bool:
        return self.order.status in RETURNABLE and any(line.quantity > line.returned for line in self.order.lines)

    @property
    def can_cancel(self) -> bool:
        return self.order.status in CANCELLABLE and self.order.cancel_reason is None


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened last."""

    transitions: tuple[BreakerTransition, ...]
    commands: tuple[Command, ...]
