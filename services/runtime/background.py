"""The background loops of one worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from services.alerting.composition import Alerting
from services.base.loops import Loop, full_batches, kept_running
from services.bulk.runner import breaker_gate
from services.commands.handlers import UseCases
from services.commands.queue import CommandExecutor
from services.conservation.audit import ConservationAudit
from services.messaging.outbox_relay import OutboxRelay
from services.messaging.undeliverable import UndeliverableEvents
from services.metrics.health import Thresholds
from services.metrics.recorder import Recorder
from services.metrics.registry import Metrics
from services.metrics.rollup import MetricRollups
from services.orders.context import OrdersContext
from services.orders.sweeper import BATCH_SIZE
from services.runtime.boundaries import Parts, Seam
from services.runtime.clients import Clients
from services.runtime.clock_skew import ClockSkewRepair
from services.runtime.event_consumers import EventConsumers
from services.runtime.messaging import Messaging
from services.runtime.retention import Retention
from services.runtime.use_cases import WorkerUseCases
from services.sandbox.drills.inventory import InventorySwitches, Shelves, switches_client
from services.sandbox.drills.runner import DrillRunner
from state import leases
from state.database_watch import DatabaseWatch
from state.engine.database import LARGE_LOG_BYTES, Database

logger = logging.getLogger("holdfast.worker")

CONSERVATION = "conservation"
"""Name of the lease under which one replica compares orders between the services."""


class Leader:
    """Runs the rounds of a loop on one replica only; the lease of a replica that dies expires."""

    def __init__(
        self,
        database: Database,
        clock: Callable[[], datetime],
        name: str,
        replica: str,
        lease: timedelta,
        run_round: Callable[[], Awaitable[bool]],
    ) -> None:
        """``lease``: its duration, which must exceed that of a round."""
        self._database = database
        self._clock = clock
        self._name = name
        self._replica = replica
        self._lease = lease
        self._run_round = run_round

    async def run_round(self) -> bool:
        """Run one round of a Loop; do nothing while another replica has the lease."""
        now = self._clock()
        is_leader = await self._database.write(
            lambda c: leases.take(c, self._name, self._replica, now, now + self._lease)
        )
        return await self._run_round() if is_leader else False


@dataclass(frozen=True, slots=True)
class Drills:
    """The loops of the sandbox; exists only with the reference Inventory Service."""

    runner: DrillRunner
    shelves: Shelves


async def build_drills(parts: Parts, conservation: ConservationAudit, stack: AsyncExitStack) -> Drills | None:
    """Build the drills of the sandbox; None outside the sandbox."""
    settings = parts.settings
    if not (settings.holdfast_sandbox and settings.inventory_service_url):
        return None
    http = await stack.enter_async_context(switches_client(settings.inventory_service_url))
    switches = parts.border(Seam.SWITCHES, InventorySwitches(http))
    thresholds = Thresholds(
        settings.alert_reservation_success_rate, settings.alert_queue_depth, settings.alert_availability_latency / 1000
    )
    runner = DrillRunner(parts.database, parts.clock, switches, conservation.compare, thresholds)
    return Drills(runner, Shelves(parts.database, parts.clock, switches))


def build_executor(
    parts: Parts,
    context: OrdersContext,
    use_cases: WorkerUseCases,
    messaging: Messaging,
    alerts: Alerting,
    clients: Clients,
    drills: Drills | None,
) -> CommandExecutor:
    """Build the executor for the commands of every topic."""
    return CommandExecutor(
        context,
        UseCases(
            cancellation=use_cases.cancellation,
            returns=use_cases.returns,
            reviews=use_cases.reviews,
            claims=use_cases.claims,
            reconciliation=use_cases.reconciliation,
            releases=use_cases.releases,
            proofs=use_cases.proofs,
            conservation=use_cases.conservation,
            bulk_control=use_cases.bulk_control,
            dead_letters=messaging.dead_letters,
            undeliverable=UndeliverableEvents(parts.database, parts.clock),
            overrides=use_cases.overrides,
            alerts=alerts.actions,
            gate_of=breaker_gate(clients.breakers),
            drills=drills.runner if drills else None,
        ),
    )


def build_loops(
    parts: Parts,
    context: OrdersContext,
    use_cases: WorkerUseCases,
    executor: CommandExecutor,
    messaging: Messaging,
    recorder: Recorder,
    watch: DatabaseWatch,
    alerts: Alerting,
    drills: Drills | None,
) -> list[Loop]:
    """Build every loop except the relay and the consumers, which run until they are stopped."""
    loops = [
        use_cases.releases_loop,
        messaging.consumers.parked,
        Loop("sweeper", full_batches(use_cases.sweeper.run_due, BATCH_SIZE), pause_seconds=0.5),
        Loop("commands", executor.run_waiting, pause_seconds=0.25),
        Loop("operations", use_cases.bulk_runner.run_due, pause_seconds=0.25),
        _heartbeat(recorder),
        Loop("overrides", use_cases.overrides.follow, pause_seconds=1.0),
        Loop("samples", recorder.sample, pause_seconds=parts.settings.alert_interval_seconds),
        *alerts.loops(),
        Loop("topology", messaging.topology.watch, pause_seconds=1.0),
        Loop("consumer_lag", messaging.status.sample, pause_seconds=5.0),
        *_maintenance(parts, context, use_cases.conservation, watch),
    ]
    if drills is not None:
        loops.append(Loop("drills", drills.runner.run_next, pause_seconds=1.0))
        loops.append(Loop("shelves", drills.shelves.look, pause_seconds=5.0))
    return loops


def _maintenance(
    parts: Parts, context: OrdersContext, conservation: ConservationAudit, watch: DatabaseWatch
) -> list[Loop]:
    database, clock = parts.database, parts.clock
    lease = timedelta(seconds=parts.settings.operation_lease_seconds)
    audit = Leader(database, clock, CONSERVATION, parts.replica, lease, conservation.compare_next)
    clock_skew = ClockSkewRepair(context, timedelta(seconds=parts.settings.longest_wait_seconds), lease)
    retention = Retention(database, clock, partial(parts.metrics.background_failed, "retention"))
    return [
        Loop("database", watch.look, pause_seconds=1.0),
        Loop("conservation", audit.run_round, pause_seconds=5.0),
        Loop("rollups", MetricRollups(database, clock).run, pause_seconds=30.0),
        Loop("timekeeping", clock_skew.run_round, pause_seconds=30.0),
        Loop("retention", retention.prune, pause_seconds=60.0),
        Loop("log_length", partial(_shorten_log, database), pause_seconds=10.0),
    ]


def counted(
    metrics: Metrics, relay: OutboxRelay, consumers: EventConsumers, loops: list[Loop]
) -> dict[str, Callable[[], Awaitable[None]]]:
    """All background work by name; a failure is counted under that name."""
    continuous = {"relay": relay.run, "consuming": consumers.run}
    metrics.background([*continuous, *(loop.name for loop in loops)])
    runs: dict[str, Callable[..., Awaitable[None]]] = {loop.name: loop.run for loop in loops}
    runs |= {name: partial(kept_running, name, run) for name, run in continuous.items()}
    return {name: partial(run, on_failure=partial(metrics.background_failed, name)) for name, run in runs.items()}


def _heartbeat(recorder: Recorder) -> Loop:
    """Stores the state of this replica: every second, and at once when a breaker changes."""
    loop = Loop("heartbeat", recorder.beat, pause_seconds=1.0)
    recorder.on_change = loop.wake
    return loop


async def _shorten_log(database: Database) -> bool:
    """Shorten the write-ahead log; one round of a Loop."""
    left = await asyncio.to_thread(database.shorten_log)
    if left > LARGE_LOG_BYTES:
        logger.warning("database_log_large", extra={"bytes": left, "reason": "a reader keeps old pages of it"})
    return False
