"""The use cases of a worker, built over one context, and the loops that run them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from services.alerting.actions import AlertActions
from services.base.loops import Loop, full_batches
from services.base.settings import Settings
from services.breakers.overrides import BreakerOverrides
from services.bulk.actions import item_actions
from services.bulk.control import BulkControl
from services.bulk.runner import BulkRunner, breaker_gate, paced_gate
from services.clients.breaker import FORCED_OPEN, OPEN
from services.commands.queue import CommandExecutor
from services.conservation.audit import ConservationAudit
from services.domain.calls import InventoryCall, RetryPolicy
from services.messaging.dead_letters import DeadLetters, UndeliverableEvents
from services.metrics.catalogue import RELEASES
from services.metrics.health import Thresholds
from services.orders.cancellation import OrderCancellation, OrderReturns
from services.orders.fulfilment import FulfilmentPolicy, OrderFulfilment
from services.orders.placement import OrderPlacement
from services.orders.sweeper import BATCH_SIZE, OrderSweeper
from services.releases.jobs import BATCH_SIZE as RELEASES_BATCH_SIZE
from services.releases.jobs import ReleaseJobs
from services.releases.mark_released import ReleaseByProof
from services.reviews.cases import ReviewClaims
from services.reviews.comparison import Reconciliation
from services.reviews.resolution import ReviewResolution
from services.runtime.clients import Clients
from services.runtime.parts import Parts, Seam
from services.sandbox.drills.inventory import InventorySwitches, Shelves, switches_client
from services.sandbox.drills.runner import DrillRunner
from services.unit_of_work import Recorded
from services.use_cases import UseCases
from state import replicas
from state.engine.database import Database

CONSERVATION = "conservation"
"""Name of the lease under which one replica compares orders between the services."""


@dataclass(frozen=True, slots=True)
class WorkerUseCases:
    """The use cases and their background loops."""

    use_cases: UseCases
    loops: list[Loop]
    wake_releases: Callable[[], None]
    """Starts a round of the release jobs now."""


async def build_use_cases(
    parts: Parts, clients: Clients, dead_letters: DeadLetters, stack: AsyncExitStack
) -> WorkerUseCases:
    """Build the use cases; commits of the context that start a release job wake the release loop."""
    settings, context, payments = parts.settings, parts.context, clients.payments
    policy, gate_of = fulfilment_policy(settings), breaker_gate(clients.breakers)
    fulfilment = OrderFulfilment(context, clients.inventory, payments, policy)
    background_fulfilment = OrderFulfilment(context, clients.inventory_once, payments, policy)
    # Lookups have no breaker of their own, so they use that of the availability check, which also only reads.
    reconciliation = Reconciliation(context, clients.lookup, gate=partial(gate_of, InventoryCall.CHECK_AVAILABILITY))
    releases = ReleaseJobs(
        context,
        clients.inventory_once,
        settings.release_retry,
        partial(parts.metrics.count, RELEASES),
        timedelta(seconds=settings.release_claim_seconds),
    )
    conservation = ConservationAudit(context, clients.lookup, payments if settings.payment_service_url else None)
    drills = await _build_drills(parts, conservation, stack)
    use_cases = UseCases(
        placement=OrderPlacement(context, fulfilment, policy.step_deadline),
        cancellation=OrderCancellation(context),
        returns=OrderReturns(context),
        reviews=ReviewResolution(
            context, background_fulfilment, clients.inventory, policy.confirmation_timeout, reconciliation
        ),
        claims=ReviewClaims(context),
        reconciliation=reconciliation,
        releases=releases,
        proofs=ReleaseByProof(context, reconciliation),
        conservation=conservation,
        bulk_control=BulkControl(context),
        dead_letters=dead_letters,
        undeliverable=UndeliverableEvents(parts.database, parts.clock),
        overrides=BreakerOverrides(parts.database, parts.clock, clients.breakers),
        alerts=AlertActions(parts.database, parts.clock, context.new_id),
        gate_of=gate_of,
        drills=drills.runner if drills else None,
    )
    sweeper = _sweeper(parts, clients, background_fulfilment, policy)
    return _with_loops(parts, clients, use_cases, sweeper, drills.loops if drills else ())


def _with_loops(
    parts: Parts, clients: Clients, use_cases: UseCases, sweeper: OrderSweeper, drills: Sequence[Loop]
) -> WorkerUseCases:
    lease = timedelta(seconds=parts.settings.operation_lease_seconds)
    audit = Leader(parts.database, parts.clock, CONSERVATION, parts.replica, lease, use_cases.conservation.compare_next)
    runner = BulkRunner(
        parts.context,
        item_actions(use_cases.releases, use_cases.proofs, use_cases.reviews, use_cases.dead_letters),
        paced_gate(use_cases.gate_of, lambda: clients.pacer.closed_seconds),
        answer_within=timedelta(seconds=parts.settings.confirmation_timeout_seconds),
        name=parts.replica,
        lease=lease,
    )
    releases = Loop("releases", full_batches(use_cases.releases.run_due, RELEASES_BATCH_SIZE), pause_seconds=0.5)

    def after_commit(recorded: Recorded) -> None:
        if recorded.started_release:
            releases.wake()

    parts.context.after_commit.append(after_commit)
    loops = [
        releases,
        Loop("sweeper", full_batches(sweeper.run_due, BATCH_SIZE), pause_seconds=0.5),
        Loop("commands", CommandExecutor(parts.context, use_cases).run_waiting, pause_seconds=0.25),
        Loop("operations", runner.run_due, pause_seconds=0.25),
        Loop("overrides", use_cases.overrides.follow, pause_seconds=1.0),
        Loop("conservation", audit.run_round, pause_seconds=5.0),
        *drills,
    ]
    return WorkerUseCases(use_cases, loops, releases.wake)


def fulfilment_policy(settings: Settings) -> FulfilmentPolicy:
    """Deadlines and delayed retries of the steps of an order."""
    return FulfilmentPolicy(
        step_deadline=timedelta(seconds=settings.step_deadline_seconds),
        payment_deadline=timedelta(seconds=settings.payment_deadline_seconds),
        confirmation_timeout=timedelta(seconds=settings.confirmation_timeout_seconds),
        reservation_retry=settings.reservation_retry,
        payment_retry=RetryPolicy(attempts=8, base_delay_seconds=5.0, max_delay_seconds=300.0),
        reservation_ttl=timedelta(seconds=settings.reservation_ttl_seconds),
    )


def _sweeper(parts: Parts, clients: Clients, fulfilment: OrderFulfilment, policy: FulfilmentPolicy) -> OrderSweeper:
    def reserver_retry_in_seconds() -> float | None:
        snapshot = clients.breakers.reserver.snapshot()
        return snapshot.retry_in_ms / 1000 if snapshot.state in (OPEN, FORCED_OPEN) else None

    refund_retry = RetryPolicy(attempts=12, base_delay_seconds=2.0, max_delay_seconds=300.0)
    return OrderSweeper(parts.context, fulfilment, clients.payments, policy, refund_retry, reserver_retry_in_seconds)


@dataclass(frozen=True, slots=True)
class _Drills:
    """The drills of the sandbox and their loops; exists only with the reference Inventory Service."""

    runner: DrillRunner
    loops: tuple[Loop, ...]


async def _build_drills(parts: Parts, conservation: ConservationAudit, stack: AsyncExitStack) -> _Drills | None:
    settings, database, clock = parts.settings, parts.database, parts.clock
    if not (settings.holdfast_sandbox and settings.inventory_service_url):
        return None
    http = await stack.enter_async_context(switches_client(settings.inventory_service_url))
    switches = parts.border(Seam.SWITCHES, InventorySwitches(http))
    thresholds = Thresholds(
        settings.alert_reservation_success_rate, settings.alert_queue_depth, settings.alert_availability_latency / 1000
    )
    runner = DrillRunner(database, clock, switches, conservation.compare, thresholds)
    shelves = Shelves(database, clock, switches)
    loops = (
        Loop("drills", runner.run_next, pause_seconds=1.0),
        Loop("shelves", shelves.look, pause_seconds=5.0),
    )
    return _Drills(runner, loops)


@dataclass(slots=True)
class Leader:
    """Runs the rounds of a loop on one replica only; the lease of a replica that dies expires."""

    database: Database
    clock: Callable[[], datetime]
    name: str
    replica: str
    lease: timedelta
    """Its duration, which must exceed that of a round."""
    work: Callable[[], Awaitable[bool]]

    async def run_round(self) -> bool:
        """Run one round of a Loop; do nothing while another replica has the lease."""
        now = self.clock()
        is_leader = await self.database.write(
            lambda c: replicas.take_lease(c, self.name, self.replica, now, now + self.lease)
        )
        return await self.work() if is_leader else False
