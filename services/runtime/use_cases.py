"""The use cases of orders, reviews, releases, bulk jobs and commands, built over one context."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from services.base.ids import new_id
from services.base.loops import Loop, full_batches
from services.base.settings import Settings
from services.breakers.overrides import BreakerOverrides
from services.bulk.actions import item_actions
from services.bulk.control import BulkControl
from services.bulk.runner import BulkRunner, breaker_gate, paced_gate
from services.clients.breaker import FORCED_OPEN, OPEN
from services.clients.inventory.breakers import InventoryBreakers
from services.conservation.audit import ConservationAudit
from services.domain.call_attempts import InventoryCall
from services.domain.retry import RetryPolicy
from services.messaging.dead_letters import DeadLetters
from services.metrics.catalogue import ORDERS, RELEASES
from services.metrics.registry import Metrics
from services.orders.cancellation import OrderCancellation, OrderReturns
from services.orders.context import OrdersContext
from services.orders.fulfilment import FulfilmentPolicy, OrderFulfilment
from services.orders.placement import OrderPlacement
from services.orders.sweeper import OrderSweeper
from services.releases.jobs import BATCH_SIZE as RELEASES_BATCH_SIZE
from services.releases.jobs import ReleaseJobs
from services.releases.mark_released import ReleaseByProof
from services.reviews.claims import ReviewClaims
from services.reviews.comparison import Reconciliation
from services.reviews.resolution import ReviewResolution
from services.runtime.boundaries import Parts
from services.runtime.clients import Clients
from services.unit_of_work import Recorded

logger = logging.getLogger("holdfast.worker")


def build_context(parts: Parts) -> OrdersContext:
    """Build the context of every use case; its commits are counted."""
    return OrdersContext(
        parts.database,
        parts.clock,
        new_id,
        random.random,
        [partial(_count, parts.metrics)],
        parts.tracer,
        parts.metrics.background_failed,
    )


def _count(metrics: Metrics, recorded: Recorded) -> None:
    for status in recorded.became:
        metrics.count(ORDERS, status)
    for reason in (recorded.failure_code, *recorded.opened):
        if reason:
            metrics.order_failed(reason)
    for reason in recorded.opened:
        # The log notifies the operations team. Source: requirements 7.3, reservation failures.
        logger.warning("order_flagged", extra={"order_id": recorded.order.order_id, "reason": reason})


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


@dataclass(frozen=True, slots=True)
class WorkerUseCases:
    """The use cases that the API, the commands and the loops of a worker call."""

    placement: OrderPlacement
    cancellation: OrderCancellation
    returns: OrderReturns
    reviews: ReviewResolution
    claims: ReviewClaims
    reconciliation: Reconciliation
    releases: ReleaseJobs
    releases_loop: Loop
    """Runs at once after a commit that started a release job."""
    proofs: ReleaseByProof
    conservation: ConservationAudit
    overrides: BreakerOverrides
    bulk_control: BulkControl
    bulk_runner: BulkRunner
    sweeper: OrderSweeper


def build_use_cases(
    parts: Parts, context: OrdersContext, policy: FulfilmentPolicy, clients: Clients, dead_letters: DeadLetters
) -> WorkerUseCases:
    """Build the use cases; commits of ``context`` that start a release job wake the release loop."""
    settings, payments = parts.settings, clients.payments
    fulfilment = OrderFulfilment(context, clients.inventory, payments, policy)
    background_fulfilment = OrderFulfilment(context, clients.inventory_once, payments, policy)
    gate_of = breaker_gate(clients.breakers)
    # Lookups have no breaker of their own, so they use that of the availability check, which also only reads.
    reconciliation = Reconciliation(context, clients.lookup, gate=partial(gate_of, InventoryCall.CHECK_AVAILABILITY))
    reviews = ReviewResolution(
        context, background_fulfilment, clients.inventory, policy.confirmation_timeout, reconciliation
    )
    releases = ReleaseJobs(
        context,
        clients.inventory_once,
        settings.release_retry,
        partial(parts.metrics.count, RELEASES),
        timedelta(seconds=settings.release_claim_seconds),
    )
    releases_loop = Loop("releases", full_batches(releases.run_due, RELEASES_BATCH_SIZE), pause_seconds=0.5)
    context.after_commit.append(partial(_wake_releases, releases_loop.wake))
    proofs = ReleaseByProof(context, reconciliation)
    return WorkerUseCases(
        placement=OrderPlacement(context, fulfilment, policy.step_deadline),
        cancellation=OrderCancellation(context),
        returns=OrderReturns(context),
        reviews=reviews,
        claims=ReviewClaims(context),
        reconciliation=reconciliation,
        releases=releases,
        releases_loop=releases_loop,
        proofs=proofs,
        conservation=ConservationAudit(context, clients.lookup, payments if settings.payment_service_url else None),
        overrides=BreakerOverrides(parts.database, parts.clock, clients.breakers),
        bulk_control=BulkControl(context),
        bulk_runner=BulkRunner(
            context,
            item_actions(releases, proofs, reviews, dead_letters),
            paced_gate(gate_of, lambda: clients.pacer.closed_seconds),
            answer_within=policy.confirmation_timeout,
            name=parts.replica,
            lease=timedelta(seconds=settings.operation_lease_seconds),
        ),
        sweeper=_sweeper(context, background_fulfilment, policy, clients),
    )


def _sweeper(
    context: OrdersContext, fulfilment: OrderFulfilment, policy: FulfilmentPolicy, clients: Clients
) -> OrderSweeper:
    return OrderSweeper(
        context,
        fulfilment,
        clients.payments,
        policy,
        refund_retry=RetryPolicy(attempts=12, base_delay_seconds=2.0, max_delay_seconds=300.0),
        reserver_retry_in_seconds=partial(_retry_in_seconds, clients.breakers),
    )


def _wake_releases(wake: Callable[[], None], recorded: Recorded) -> None:
    if recorded.started_release:
        wake()


def _retry_in_seconds(breakers: InventoryBreakers) -> float | None:
    snapshot = breakers.reserver.snapshot()
    return snapshot.retry_in_ms / 1000 if snapshot.state in (OPEN, FORCED_OPEN) else None
