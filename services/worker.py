"""The integration service as one process: composes API, consumers, relay and loops, and runs them.

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
from datetime import datetime
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
from services.base.ids import new_id, replica_name
from services.base.loops import Loop
from services.base.proxy import requests_session
from services.base.settings import Settings
from services.base.version import VERSION
from services.clients.inventory.breakers import inventory_breakers
from services.http_server.process import listen, serving
from services.messaging.outbox_relay import worst_kind
from services.metrics.recorder import Recorder
from services.metrics.registry import Metrics
from services.runtime.background import build_drills, build_executor, build_loops, counted
from services.runtime.boundaries import Border, Parts, Seam, as_it_is
from services.runtime.clients import Clients, build_clients, hear_others, pace_fact
from services.runtime.messaging import Messaging, build_messaging
from services.runtime.startup import database_when_ready
from services.runtime.use_cases import WorkerUseCases, build_context, build_use_cases, fulfilment_policy
from services.tracing.port import Tracer
from state.database_watch import DatabaseWatch
from state.engine.database import Database
from state.engine.transactions import DatabaseReplaced

logger = logging.getLogger("holdfast.worker")

Clock = Callable[[], datetime]

DRAIN_SECONDS = 2.0
"""Time for orders in flight after the stop signal; the sweeper of the next start settles the rest."""

STOP_SECONDS = 3.0
"""Time after the stop signal until running work is cancelled; the next start settles it as after a crash."""

FAREWELL_SECONDS = 0.25
"""Minimum time to release leases at the end, and the timeout of closing the database."""

RESTORED_SECONDS = 1.0
"""A restored file counts as complete when it has not changed for this long."""


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Run the service until ``stop`` is set.

    Raises OSError when the API's address is taken; nothing has been started then.
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
                # The objects that exist now live as long as the process, so collections skip them.
                gc.collect()
                gc.freeze()
                place = without_credentials(settings.database)
                logger.info(
                    "worker_started",
                    extra={"replica": worker.replica, "api": _address(listener), "database": place},
                )
                await _stopped_or_replaced(database, stop)
                # No new work starts while running requests finish.
                running.wind_down()
            await worker.service.placement.drain(running.seconds_left(DRAIN_SECONDS))
        await _say_farewell(worker, running.seconds_left(STOP_SECONDS))
        logger.info("worker_stopped", extra={"replica": worker.replica})
    if database.files is not None and database.files.problem is not None:
        raise DatabaseReplaced(
            f"{database.files.problem}: the worker ends, so that its next start uses the present file"
        )


async def _stopped_or_replaced(database: Database, stop: asyncio.Event) -> None:
    """Wait for the stop, or until a restored database file has replaced the one in use.

    The restored file needs a restart: its schema may be older, and the caches of this process do not match it.
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
    """Release leases so that other replicas take over at once; if that fails, the leases expire."""

    async def say(word: Callable[[], Awaitable[None]]) -> None:
        try:
            async with asyncio.timeout(max(seconds, FAREWELL_SECONDS)):
                await word()
        except Exception as error:  # noqa: BLE001 - a boundary: the process ends even if the database fails
            logger.warning("farewell_not_said", extra={"to": word.__qualname__, "error": repr(error)})

    await asyncio.gather(*map(say, (*worker.alerting.lease_releases(), worker.recorder.sign_off)))


@dataclass(frozen=True, slots=True)
class Worker:
    """A service that is built and not yet running."""

    replica: str
    application: Any
    service: OrderService
    recorder: Recorder
    alerting: Alerting
    background: Mapping[str, Callable[[], Awaitable[None]]]
    """Background work by name."""
    stops: list[Callable[[], None]]
    loops: Sequence[Loop]
    last_stop: Callable[[], None]
    """Stops the relay, which runs until the last order in flight has ended."""

    def running(self) -> _Running:
        """The background work, which runs as long as the block."""
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
        """Start no new work; STOP_SECONDS count from this call."""
        if self._stopping_since is None:
            self._stopping_since = time.monotonic()
            for stop in self._worker.stops:
                stop()

    def seconds_left(self, seconds: float) -> float:
        """How much of ``seconds`` is left since wind_down()."""
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
    """Build everything of one replica, connected and not yet running; ``stack`` closes it.

    ``border`` may replace the clients of other services, the broker and the clock.
    """
    clock, replica = border(Seam.CLOCK, utc_now), replica_name()
    breakers = inventory_breakers(settings, clock=clock)
    metrics = Metrics([breaker.label for breaker in breakers])
    parts = Parts(settings, database, clock, replica, metrics, _tracer(settings, replica, stack), border)
    clients = await build_clients(parts, breakers, stack)
    context, policy = build_context(parts), fulfilment_policy(settings)
    messaging = await build_messaging(parts, context, policy.confirmation_timeout, stack)
    use_cases = build_use_cases(parts, context, policy, clients, messaging.dead_letters)
    alerts = alerting(
        settings,
        database,
        clock,
        new_id,
        replica,
        clients.webhook,
        random.random,
        on_notification=metrics.notification,
        on_failure=metrics.alerting_failed,
    )
    recorder = _recorder(parts, clients, messaging)
    watch = _watch(parts, clients.webhook)
    drills = await build_drills(parts, use_cases.conservation, stack)
    executor = build_executor(parts, context, use_cases, messaging, alerts, clients, drills)
    service = _service(parts, use_cases, messaging, alerts, recorder, watch)
    loops = build_loops(parts, context, use_cases, executor, messaging, recorder, watch, alerts, drills)
    return Worker(
        replica,
        create_app(service, Authenticator(settings.api_tokens), VERSION, parts.tracer),
        service,
        recorder,
        alerts,
        background=counted(metrics, messaging.relay, messaging.consumers, loops),
        stops=[messaging.consumers.stop, *(loop.stop for loop in loops)],
        loops=loops,
        last_stop=messaging.relay.stop,
    )


def _recorder(parts: Parts, clients: Clients, messaging: Messaging) -> Recorder:
    settings = parts.settings

    def facts() -> dict[str, Any]:
        return {
            "version": VERSION,
            "sandbox": settings.is_sandbox,
            "natsConnected": messaging.nats.is_connected,
            "apiUrl": settings.api_url,
            "inventoryUrl": settings.inventory_service_url,
            "sandboxTraffic": settings.sandbox_traffic if settings.holdfast_sandbox else None,
            **messaging.status.facts(),
            **pace_fact(clients.pacer),
        }

    recorder = Recorder(
        parts.database,
        parts.clock,
        parts.replica,
        clients.breakers,
        parts.metrics,
        facts,
        on_others=partial(hear_others, clients.pacer),
    )
    for breaker in clients.breakers:
        breaker.on_transition(recorder.breaker_changed)
    return recorder


def _service(
    parts: Parts,
    use_cases: WorkerUseCases,
    messaging: Messaging,
    alerts: Alerting,
    recorder: Recorder,
    watch: DatabaseWatch,
) -> OrderService:
    return OrderService(
        database=parts.database,
        clock=parts.clock,
        placement=use_cases.placement,
        cancellation=use_cases.cancellation,
        returns=use_cases.returns,
        reviews=use_cases.reviews,
        claims=use_cases.claims,
        releases=use_cases.releases,
        dead_letters=messaging.dead_letters,
        metrics=parts.metrics,
        overrides=use_cases.overrides,
        conservation=use_cases.conservation,
        alert_rules=alerts.rules,
        alert_actions=alerts.actions,
        alert_receiver=alerts.receiver,
        wake_releases=use_cases.releases_loop.wake,
        present=recorder.present,
        beat=recorder.beat,
        refresh_gauges=recorder.refresh_gauges,
        readiness=partial(_readiness, watch, messaging),
    )


def _watch(parts: Parts, webhook: httpx.AsyncClient) -> DatabaseWatch:
    settings = parts.settings
    outage = DatabaseOutage(
        webhook,
        settings.alert_webhook_url,
        parts.clock,
        parts.replica,
        policy_of(settings).link,
        store_in(parts.database),
    )
    return DatabaseWatch(parts.database, parts.replica, parts.metrics.database_is, outage.report, parts.clock)


def _tracer(settings: Settings, replica: str, stack: AsyncExitStack) -> Tracer | None:
    if not settings.is_tracing:
        return None
    # Imported here: without tracing, OpenTelemetry costs neither memory nor start-up time.
    from services.tracing.opentelemetry import OpenTelemetryTracer

    endpoint = settings.otel_exporter_otlp_traces_endpoint or settings.otel_exporter_otlp_endpoint
    session = requests_session(endpoint, settings.proxy)
    tracer = OpenTelemetryTracer(
        service_name=settings.otel_service_name, version=VERSION, instance=replica, session=session
    )
    stack.push_async_callback(tracer.close)
    return tracer


async def _readiness(watch: DatabaseWatch, messaging: Messaging) -> dict[str, bool | str]:
    status = messaging.status
    problem = await watch.problem()
    parts: dict[str, bool | str] = {
        "database": problem is None,
        "nats": messaging.nats.is_connected,
        "streams": status.streams_problem is None,
        "publishing": status.publish_problem is None,
    }
    hindered = [one for one in (status.streams_problem, status.publish_problem) if one is not None]
    if kind := worst_kind(hindered):
        parts["trouble"] = kind.value
    if reason := problem or next((one.reason for one in hindered), None):
        parts["reason"] = reason
    if status.consumers_problem:
        # Both installations still handle a part of the events, so this installation stays ready.
        parts["warning"] = status.consumers_problem
    return parts


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"{host}:{port}"
