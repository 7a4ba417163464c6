"""The use cases and facts that the API serves; the composition root builds it."""

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
    """The use cases behind the API and the console's commands."""

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
    """Stores this replica's breaker states."""
    refresh_gauges: Callable[[], Awaitable[None]]
    """Updates the gauges before a scrape."""
    readiness: Callable[[], Awaitable[dict[str, bool | str]]]
    """Whether each dependency can be reached, by its name; texts give reasons."""
