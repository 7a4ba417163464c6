"""The use cases that the API and the commands of the console call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from services.alerting.actions import AlertActions
from services.breakers.overrides import BreakerOverrides
from services.bulk.control import BulkControl
from services.bulk.runner import GateOf
from services.conservation.audit import ConservationAudit
from services.messaging.dead_letters import DeadLetters, UndeliverableEvents
from services.orders.cancellation import OrderCancellation, OrderReturns
from services.orders.placement import OrderPlacement
from services.releases.jobs import ReleaseJobs
from services.releases.mark_released import ReleaseByProof
from services.reviews.cases import ReviewClaims
from services.reviews.comparison import Reconciliation
from services.reviews.resolution import ReviewResolution


class Drills(Protocol):
    """Port: the drills of the sandbox."""

    async def start(
        self, kind: str, *, seconds: int, level: float | None, reason: str, actor: str, drill_id: str
    ) -> Any: ...

    async def stop(self, drill_id: str, *, actor: str) -> object: ...

    async def set_traffic(self, orders_per_second: float, *, actor: str) -> None: ...


@dataclass(frozen=True, slots=True)
class UseCases:
    """One object for each topic; the runtime builds them."""

    placement: OrderPlacement
    cancellation: OrderCancellation
    returns: OrderReturns
    reviews: ReviewResolution
    claims: ReviewClaims
    reconciliation: Reconciliation
    releases: ReleaseJobs
    proofs: ReleaseByProof
    conservation: ConservationAudit
    bulk_control: BulkControl
    dead_letters: DeadLetters
    undeliverable: UndeliverableEvents
    overrides: BreakerOverrides
    alerts: AlertActions
    gate_of: GateOf
    """Returns the gate of an inventory call."""
    drills: Drills | None = None
    """None when a real Inventory Service is in use."""
