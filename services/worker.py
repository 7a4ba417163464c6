"""The integration service as one process: the composition root of API, consumers, relay and retries.

Everything is built here, passed in by constructor and closed in reverse order.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Self

import httpx

from services.alerting.composition import Alerting, alerting, policy_of
from services.alerting.database_alert import DatabaseOutage, store_in
from services.api.app import create_app
from services.api.auth import Authenticator
from services.api.service import OrderService
from services.base.addresses import without_credentials
from services.base.clock import utc_now
from services.base.file_descriptors import Budget
from services.base.ids import new_id, replica_name
from services.base.loops import Loop, kept_running
from services.base.proxy import requests_session
from services.base.settings import Settings
from services.base.version import VERSION
from services.breakers.overrides import BreakerOverrides
from services.bulk.actions import item_actions
from services.bulk.control import BulkControl
from services.bulk.runner import BulkRunner, breaker_gate, paced_gate
from services.clients.breaker import InventoryBreakers, inventory_breakers
from services.clients.http.transport import AiohttpTransport, client_session
from services.commands.handlers import UseCases
from services.commands.queue import CommandExecutor
from services.conservation.audit import ConservationAudit
from services.domain.call_attempts import InventoryCall
from services.domain.retry import RetryPolicy
from services.http_server.process import listen, serving
from services.messaging.dead_letters import DeadLetters
from services.messaging.jetstream import Connection as NatsConnection
from services.messaging.outbox_relay import OutboxRelay, Publisher
from services.messaging.publish_problem import worst_kind
from services.messaging.publisher import JetStreamPublisher
from services.messaging.topology import Topology
from services.messaging.traced import TracedPublisher, traced_handler
from services.messaging.undeliverable import UndeliverableEvents
from services.metrics.health import Thresholds
from services.metrics.recorder import Recorder
from services.metrics.registry import Metrics
from services.metrics.rollup import MetricRollups
from services.orders.cancellation import OrderCancellation, OrderReturns
from services.orders.context import OrdersContext
from services.orders.fulfilment import FulfilmentPolicy, OrderFulfilment
from services.orders.inventory_events import InventoryEvents
from services.orders.placement import OrderPlacement
from services.orders.sweeper import AT_ONCE, OrderSweeper
from services.orders.traced import told_after_commit
from services.releases.jobs import ReleaseJobs
from services.releases.mark_released import ReleaseByProof
from services.reviews.claims import ReviewClaims
from services.reviews.comparison import Reconciliation
from services.reviews.resolution import ReviewResolution
from services.runtime.boundaries import Border, Seam, as_it_is
from services.runtime.clients import inventory_client, inventory_lookup, payment_client, webhook_client
from services.runtime.clock_skew import ClockSkewRepair
from services.runtime.leader import CONSERVATION, Leader
from services.runtime.messaging import Consuming, LostEvents, MessagingFacts, SqlOutbox
from services.runtime.retention import Retention
from services.runtime.shared_pace import hear_others, pace_fact
from services.runtime.startup import database_when_ready
from services.runtime.wakes import Wakes
from services.sandbox.drills.inventory import InventorySwitches, Shelves, switches_client
from services.sandbox.drills.runner import DrillParts, DrillRunner
from services.tracing.port import Tracer
from state import leases, orders, releases
from state.database_watch import DatabaseWatch
from state.engine.database import LARGE_LOG_BYTES, Database
from state.engine.transactions import DatabaseReplaced

logger = logging.getLogger("holdfast.worker")

Clock = Callable[[], datetime]

DRAIN_SECONDS = 2.0
"""How long orders in flight may take once the worker was told to stop; the sweeper has the rest."""

STOP_SECONDS = 3.0
"""After this long whatever still hangs is cut short: it is settled at the next start like after a crash."""

FAREWELL_SECONDS = 0.25
"""What the last words to a database have at least, and how long one that hangs is waited for in the end."""

RESTORED_SECONDS = 1.0
"""A file that has not changed for so long is complete."""

CLASSIFIED_AT_ONCE = 500
"""Release jobs of one transaction that get their cause."""


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Run the service until ``stop`` is set.

    Raises OSError when the API's address is taken; nothing has been started by then.
    """
    listener = listen(settings.api_host, settings.api_port)
    database = await database_when_ready(settings, listener, stop)
    if database is None:
        listener.close()
        return
    async with AsyncExitStack() as stack:
        stack.callback(database.close, FAREWELL_SECONDS)
        worker = await build(settings, database, stack)
        async with worker.running() as running:
            async with serving(worker.application, listener):
                # What exists now lives as long as the process: collections need not look at it again.
                gc.collect()
                gc.freeze()
                place = without_credentials(settings.database)
                logger.info(
                    "worker_started",
                    extra={"replica": worker.replica, "api": _address(listener), "database": place},
                )
                await _stopped_or_replaced(database, stop)
                # Nothing new is begun while requests under way have their grace.
                running.wind_down()
            await worker.service.placement.drain(running.seconds_left(DRAIN_SECONDS))
        await _say_farewell(worker, running.seconds_left(STOP_SECONDS))
        logger.info("worker_stopped", extra={"replica": worker.replica})
    if database.files is not None and database.files.problem is not None:
        raise DatabaseReplaced(
            f"{database.files.problem}: the worker ends, so that its next start uses the present file"
        )


async def _stopped_or_replaced(database: Database, stop: asyncio.Event) -> None:
    """Wait for the end, or until another database file lies, complete, where the one in use was.

    Going on in it needs a start: its schema may be older, and what this process remembers is not what is in it.
    """
    before = None
    while not stop.is_set():
        if database.files is not None and database.files.problem is not None:
            now = database.files.restored()
            if now is not None and now == before:
                database.files.set_log_aside()
                return
            before = now
        with suppress(TimeoutError):
            async with asyncio.timeout(RESTORED_SECONDS):
                await stop.wait()


async def _say_farewell(worker: Worker, seconds: float) -> None:
    """Let others go on at once; whoever cannot be told finds out by leases that run out."""

    async def say(word: Callable[[], Awaitable[None]]) -> None:
        try:
            async with asyncio.timeout(max(seconds, FAREWELL_SECONDS)):
                await word()
        except Exception as error:  # noqa: BLE001 - a boundary: whatever the database does, the process ends
            logger.warning("farewell_not_said", extra={"to": word.__qualname__, "error": repr(error)})

    await asyncio.gather(*map(say, (*worker.alerting.hand_overs(), worker.recorder.sign_off)))


@dataclass(frozen=True, slots=True)
class Worker:
    """A service that is built and not yet running."""

    replica: str
    application: Any
    service: OrderService
    recorder: Recorder
    alerting: Alerting
    background: Mapping[str, Callable[[], Awaitable[None]]]
    """All work that is done without anybody asking, by its name."""
    stops: list[Callable[[], None]]
    loops: Sequence[Loop]
    last_stop: Callable[[], None]
    """Of what has to go on until the last order in flight is at rest: the relay of its events."""

    def running(self) -> _Running:
        """The background work, for as long as the block lasts."""
        return _Running(self)


class _Running:
    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._tasks: list[asyncio.Future[None]] = []
        self._stopping_since: float | None = None

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.ensure_future(task()) for task in self._worker.background.values()]
        return self

    def wind_down(self) -> None:
        """Finish what is under way; the time that an orderly end may take runs from here."""
        if self._stopping_since is None:
            self._stopping_since = time.monotonic()
            for stop in self._worker.stops:
                stop()

    def seconds_left(self, seconds: float) -> float:
        """Of so many since the end began."""
        since = time.monotonic() if self._stopping_since is None else self._stopping_since
        return max(since + seconds - time.monotonic(), 0.0)

    async def __aexit__(self, *_: object) -> None:
        self.wind_down()
        self._worker.last_stop()
        late = (await asyncio.wait(self._tasks, timeout=self.seconds_left(STOP_SECONDS)))[1]
        for task in late:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def build(settings: Settings, database: Database, stack: AsyncExitStack, border: Border = as_it_is) -> Worker:
    """Everything of one replica, connected and not yet running; ``stack`` closes it.

    ``border``: what stands between the replica and the other services, the broker and the clock.
    """
    clock = border(Seam.CLOCK, utc_now)
    replica = replica_name()
    tracer = _tracer(settings, replica, stack)
    breakers = inventory_breakers(settings, clock=clock)
    metrics = Metrics([breaker.label for breaker in breakers])
    transport = AiohttpTransport(client_session(connections=Budget.of_process().outgoing), proxy=settings.proxy)
    stack.push_async_callback(transport.aclose)
    client = inventory_client(settings, transport, breakers, metrics, tracer)
    inventory, once = border(Seam.INVENTORY, client), border(Seam.INVENTORY, client.once())
    payments = border(Seam.PAYMENTS, payment_client(settings, transport, tracer))
    wakes = Wakes(metrics)
    after_commit = told_after_commit(tracer, wakes.after_commit) if tracer else wakes.after_commit
    context = OrdersContext(database, clock, new_id, random.random, after_commit, tracer, metrics.background_failed)

    nats = border(Seam.BROKER, NatsConnection(settings.nats_servers, name=replica, on_change=wakes.nats_changed))
    stack.push_async_callback(nats.close)
    messaging = MessagingFacts(clock)
    recorder = Recorder(
        database,
        clock,
        replica,
        breakers,
        metrics,
        lambda: {**_facts(settings, nats), **messaging.facts(), **pace_fact(client.pacer)},
        on_others=partial(hear_others, client.pacer),
    )
    for breaker in breakers:
        breaker.on_transition(recorder.breaker_changed)

    policy = FulfilmentPolicy(
        step_deadline=timedelta(seconds=settings.step_deadline_seconds),
        payment_deadline=timedelta(seconds=settings.payment_deadline_seconds),
        confirmation_timeout=timedelta(seconds=settings.confirmation_timeout_seconds),
        reservation_retry=settings.reservation_retry,
        payment_retry=RetryPolicy(attempts=8, base_delay_seconds=5.0, max_delay_seconds=300.0),
        hold=timedelta(seconds=settings.reservation_ttl_seconds),
    )
    fulfilment = OrderFulfilment(context, inventory, payments, policy)
    background_fulfilment = OrderFulfilment(context, once, payments, policy)
    inbound = InventoryEvents(context)
    overrides = BreakerOverrides(database, clock, breakers)
    lookup = border(Seam.LOOKUP, inventory_lookup(settings, transport, client.pacer))
    conservation = ConservationAudit(context, lookup, payments if settings.payment_service_url else None)
    # Its questions have no breaker of their own; availability is what else is only read over there.
    reconciliation = Reconciliation(
        context, lookup, gate=partial(breaker_gate(breakers), InventoryCall.CHECK_AVAILABILITY)
    )
    proofs = ReleaseByProof(context, reconciliation)
    # Connections of its own: a webhook that hangs must not take those of orders.
    webhook = border(Seam.WEBHOOK, await stack.enter_async_context(webhook_client(settings.proxy)))
    alarms = alerting(
        settings,
        database,
        clock,
        new_id,
        replica,
        webhook,
        random.random,
        on_notification=metrics.notification,
        on_failure=metrics.alerting_failed,
    )
    watch = _watch(settings, database, replica, metrics, webhook, clock)
    service = OrderService(
        database=database,
        clock=clock,
        placement=OrderPlacement(context, fulfilment, policy.step_deadline),
        cancellation=OrderCancellation(context),
        returns=OrderReturns(context),
        reviews=ReviewResolution(
            context, background_fulfilment, inventory, policy.confirmation_timeout, reconciliation
        ),
        claims=ReviewClaims(context),
        releases=ReleaseJobs(
            context,
            once,
            settings.release_retry,
            metrics.release,
            timedelta(seconds=settings.release_claim_seconds),
        ),
        dead_letters=DeadLetters(database, clock, new_id, inbound.handle),
        metrics=metrics,
        overrides=overrides,
        conservation=conservation,
        alert_rules=alarms.rules,
        alert_actions=alarms.actions,
        alert_receiver=alarms.receiver,
        wake_releases=wakes.wake_releases,
        present=recorder.present,
        beat=recorder.beat,
        refresh_gauges=recorder.refresh_gauges,
        readiness=partial(_readiness, watch, nats, messaging),
    )
    sweeper = OrderSweeper(
        context,
        background_fulfilment,
        payments,
        policy,
        refund_retry=RetryPolicy(attempts=12, base_delay_seconds=2.0, max_delay_seconds=300.0),
        reserver_retry_in_seconds=partial(_retry_in_seconds, breakers),
    )
    topology = Topology(nats, LostEvents(database, policy.confirmation_timeout, wakes.wake_relay, clock).streams_made)
    publisher: Publisher = border(
        Seam.PUBLISHER,
        JetStreamPublisher(nats, recover=topology.recover, installation=settings.holdfast_installation),
    )
    relay = OutboxRelay(
        SqlOutbox(database, clock),
        TracedPublisher(publisher, tracer) if tracer else publisher,
        on_published=metrics.event_published,
        on_failure=partial(metrics.background_failed, "relay"),
    )
    sandbox = await _sandbox(settings, database, conservation, stack, border, clock)
    executor = CommandExecutor(
        context,
        UseCases(
            cancellation=service.cancellation,
            returns=service.returns,
            reviews=service.reviews,
            claims=service.claims,
            reconciliation=reconciliation,
            releases=service.releases,
            proofs=proofs,
            conservation=service.conservation,
            bulk_control=BulkControl(context),
            dead_letters=service.dead_letters,
            undeliverable=UndeliverableEvents(database, clock),
            overrides=overrides,
            alerts=alarms.actions,
            gate_of=breaker_gate(breakers),
            drills=sandbox[0] if sandbox else None,
        ),
    )
    bulk = BulkRunner(
        context,
        item_actions(service.releases, proofs, service.reviews, service.dead_letters),
        paced_gate(breaker_gate(breakers), lambda: client.pacer.closed_seconds),
        answer_within=policy.confirmation_timeout,
        name=replica,
        lease=timedelta(seconds=settings.operation_lease_seconds),
    )
    round_seconds = timedelta(seconds=settings.operation_lease_seconds)
    consuming = Consuming(
        nats,
        database,
        inbound,
        service.dead_letters,
        metrics,
        topology,
        settings.holdfast_installation,
        owner=await database.write(lambda c: leases.decided_once(c, "installation", new_id(), clock())),
        clock=clock,
    )
    if tracer:
        consuming.handle = traced_handler(consuming.apply, tracer, partial(_traceparent_of, database))
    messaging.found(topology, relay, consuming)
    wakes.found(relay, consuming, Loop("releases", partial(_full_round, service.releases.run_due), pause_seconds=0.5))
    loops = [
        *wakes.loops,
        consuming.parked,
        Loop("sweeper", partial(_full_round, sweeper.run_due), pause_seconds=0.5),
        Loop("commands", executor.run_waiting, pause_seconds=0.25),
        Loop("operations", bulk.run_due, pause_seconds=0.25),
        Loop("database", watch.look, pause_seconds=1.0),
        _heartbeat(recorder),
        Loop("overrides", overrides.follow, pause_seconds=1.0),
        Loop(
            "conservation",
            Leader(database, clock, CONSERVATION, replica, round_seconds, conservation.compare_next).run_round,
            pause_seconds=5.0,
        ),
        Loop("rollups", MetricRollups(database, clock).run, pause_seconds=30.0),
        Loop("samples", recorder.sample, pause_seconds=settings.alert_interval_seconds),
        Loop(
            "timekeeping",
            ClockSkewRepair(context, timedelta(seconds=settings.longest_wait_seconds), round_seconds).run_round,
            pause_seconds=30.0,
        ),
        Loop(
            "retention",
            Retention(database, clock, partial(metrics.background_failed, "retention")).prune,
            pause_seconds=60.0,
        ),
        Loop("log_length", partial(_shorten_log, database), pause_seconds=10.0),
        Loop("causes", partial(_classify, database), pause_seconds=60.0),
        *alarms.loops(),
        Loop("topology", topology.watch, pause_seconds=1.0),
        Loop("consumer_lag", messaging.sample, pause_seconds=5.0),
    ]
    if sandbox:
        drill_runner, shelves = sandbox
        loops += [
            Loop("drills", drill_runner.run_next, pause_seconds=1.0),
            Loop("shelves", shelves.look, pause_seconds=5.0),
        ]
    return Worker(
        replica,
        create_app(service, Authenticator(settings.api_tokens), VERSION, tracer),
        service,
        recorder,
        alarms,
        background=_counted(metrics, relay, consuming, loops),
        stops=[consuming.stop, *(loop.stop for loop in loops)],
        loops=loops,
        last_stop=relay.stop,
    )


def _counted(
    metrics: Metrics, relay: OutboxRelay, consuming: Consuming, loops: Sequence[Loop]
) -> dict[str, Callable[[], Awaitable[None]]]:
    """All background work by its name, with its failures counted under it."""
    whole = {"relay": relay.run, "consuming": consuming.run}
    metrics.background([*whole, *(loop.name for loop in loops)])
    runs: dict[str, Callable[..., Awaitable[None]]] = {loop.name: loop.run for loop in loops}
    runs |= {name: partial(kept_running, name, run) for name, run in whole.items()}
    return {name: partial(run, on_failure=partial(metrics.background_failed, name)) for name, run in runs.items()}


def _watch(
    settings: Settings, database: Database, replica: str, metrics: Metrics, client: httpx.AsyncClient, clock: Clock
) -> DatabaseWatch:
    outage = DatabaseOutage(
        client, settings.alert_webhook_url, clock, replica, policy_of(settings).link, store_in(database)
    )
    return DatabaseWatch(database, replica, metrics.database_is, outage.tell, clock)


def _tracer(settings: Settings, replica: str, stack: AsyncExitStack) -> Tracer | None:
    if not settings.is_tracing:
        return None
    # OpenTelemetry takes memory and start-up time that nobody pays for who does not use it.
    from services.tracing.opentelemetry import OpenTelemetryTracer

    endpoint = settings.otel_exporter_otlp_traces_endpoint or settings.otel_exporter_otlp_endpoint
    session = requests_session(endpoint, settings.proxy)
    tracer = OpenTelemetryTracer(
        service_name=settings.otel_service_name, version=VERSION, instance=replica, session=session
    )
    stack.push_async_callback(tracer.close)
    return tracer


async def _traceparent_of(database: Database, order_id: str) -> str | None:
    return await database.read(lambda connection: orders.traceparent(connection, order_id))


async def _sandbox(
    settings: Settings,
    database: Database,
    conservation: ConservationAudit,
    stack: AsyncExitStack,
    border: Border,
    clock: Clock,
) -> tuple[DrillRunner, Shelves] | None:
    """What runs drills, where the reference Inventory Service is in use."""
    if not (settings.holdfast_sandbox and settings.inventory_service_url):
        return None
    http = await stack.enter_async_context(switches_client(settings.inventory_service_url))
    switches = border(Seam.SWITCHES, InventorySwitches(http))
    thresholds = Thresholds(
        settings.alert_reservation_success_rate, settings.alert_queue_depth, settings.alert_availability_latency / 1000
    )
    parts = DrillParts(database, clock, new_id, switches, conservation.compare, thresholds)
    return DrillRunner(parts), Shelves(database, clock, switches)


def _heartbeat(recorder: Recorder) -> Loop:
    """Stores how this replica is: every second, and at once when a breaker changes."""
    loop = Loop("heartbeat", recorder.beat, pause_seconds=1.0)
    recorder.on_change = loop.wake
    return loop


async def _full_round(run_due: Callable[[], Awaitable[int]]) -> bool:
    return await run_due() >= AT_ONCE


async def _classify(database: Database) -> bool:
    """Give release jobs from before causes were kept theirs; one round of a Loop."""
    if not await database.read(releases.any_unclassified):
        return False
    return await database.write(lambda c: releases.classify(c, CLASSIFIED_AT_ONCE)) >= CLASSIFIED_AT_ONCE


async def _shorten_log(database: Database) -> bool:
    """One round of a Loop."""
    left = await asyncio.to_thread(database.shorten_log)
    if left > LARGE_LOG_BYTES:
        logger.warning("database_log_large", extra={"bytes": left, "reason": "somebody reads old pages of it"})
    return False


def _retry_in_seconds(breakers: InventoryBreakers) -> float | None:
    snapshot = breakers.reserver.snapshot()
    return snapshot.retry_in_ms / 1000 if snapshot.state in ("open", "forced_open") else None


def _facts(settings: Settings, nats: NatsConnection) -> dict[str, Any]:
    return {
        "version": VERSION,
        "sandbox": settings.is_sandbox,
        "natsConnected": nats.is_connected,
        "apiUrl": settings.api_url,
        "inventoryUrl": settings.inventory_service_url,
        "sandboxTraffic": settings.sandbox_traffic if settings.holdfast_sandbox else None,
    }


async def _readiness(watch: DatabaseWatch, nats: NatsConnection, messaging: MessagingFacts) -> dict[str, bool | str]:
    problem = await watch.problem()
    parts: dict[str, bool | str] = {
        "database": problem is None,
        "nats": nats.is_connected,
        "streams": messaging.streams_problem is None,
        "publishing": messaging.publish_problem is None,
    }
    hindered = [one for one in (messaging.streams_problem, messaging.publish_problem) if one is not None]
    if kind := worst_kind(hindered):
        parts["trouble"] = kind.value
    if reason := problem or next((one.reason for one in hindered), None):
        parts["reason"] = reason
    if messaging.consumers_problem:
        # Both installations still work, each on a part of the events: taking this one out would help neither.
        parts["warning"] = messaging.consumers_problem
    return parts


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"{host}:{port}"
