"""The use cases and data sources behind the API. The composition root builds them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.alerting.actions import AlertActions
from services.alerting.receiver import AlertReceiver
from services.alerting.threshold_rule import Rule
from services.breakers.overrides import BreakerOverrides
from services.conservation.audit import ConservationAudit
from services.messaging.dead_letters import DeadLetters
from services.metrics.registry import Metrics
from services.orders.cancellation import OrderCancellation, OrderReturns
from services.orders.placement import OrderPlacement
from services.releases.jobs import ReleaseJobs
from services.reviews.claims import ReviewClaims
from services.reviews.resolution import ReviewResolution
from state.engine.database import Database
from state.replicas import Replica


@dataclass(frozen=True, slots=True)
class OrderService:
    """The use cases behind the API and behind the commands of the console."""

    database: Database
    clock: Callable[[], datetime]
    placement: OrderPlacement
    cancellation: OrderCancellation
    returns: OrderReturns
    reviews: ReviewResolution
    claims: ReviewClaims
    releases: ReleaseJobs
    dead_letters: DeadLetters
    metrics: Metrics
    overrides: BreakerOverrides
    conservation: ConservationAudit
    alert_rules: Sequence[Rule]
    alert_actions: AlertActions
    alert_receiver: AlertReceiver
    wake_releases: Callable[[], None]
    present: Callable[[], Replica]
    """Returns this replica with the current states of its breakers."""
    beat: Callable[[], Awaitable[object]]
    """Stores a heartbeat with the breaker states of this replica."""
    refresh_gauges: Callable[[], Awaitable[None]]
    """Updates the gauges; called before each scrape."""
    readiness: Callable[[], Awaitable[dict[str, bool | str]]]
    """Returns by name whether each dependency is reachable; text values are reasons."""
