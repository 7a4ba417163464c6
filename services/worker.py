"""The integration service as one process: composes API, consumers, relay and loops, and runs them.

Everything is built here, passed in by constructor and closed in reverse order.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self

from services.api.app import create_app
from services.api.auth import Authenticator
from services.api.routing import OrderService
from services.base.addresses import without_credentials
from services.base.identity import VERSION
from services.base.loops import Loop, kept_running
from services.base.settings import Settings
from services.http_server.process import ensure_free, ensure_writable, listen, serving
from services.metrics.registry import Metrics
from services.runtime.clients import build_clients
from services.runtime.messaging import Messaging, build_messaging
from services.runtime.monitoring import Monitoring, build_monitoring
from services.runtime.parts import Border, as_it_is, build_parts
from services.runtime.stack import Stack
from services.runtime.startup import database_when_ready, stopped_or_replaced
from services.runtime.use_cases import build_use_cases
from state.engine.database import Database
from state.engine.transactions import DatabaseReplaced

logger = logging.getLogger("holdfast.worker")

DRAIN_SECONDS = 2.0
"""Time for orders in flight after the stop signal; the sweeper of the next start settles the rest."""

STOP_SECONDS = 3.0
"""Time after the stop signal until running work is cancelled; the next start settles it as after a crash."""

FAREWELL_SECONDS = 0.25
"""Minimum time to release leases at the end, and the timeout of closing the database."""


async def serve_with_stack(settings: Settings, stop: asyncio.Event) -> None:
    """Run the service and the embedded parts that have no real address, until ``stop`` is set.

    Raises ConfigurationError before anything listens.
    """
    ensure_free(settings.api_host, settings.api_port)
    has_every_address = settings.nats_url is not None and settings.inventory_service_url is not None
    if not has_every_address or settings.database_url is None:
        ensure_writable(settings.data_dir)
    if has_every_address:
        await serve(settings, stop)
        return
    stack = Stack(settings, with_worker=False)
    await stack.start()
    try:
        await serve(Settings.load(**{name.lower(): value for name, value in stack.environment.items()}), stop)
    finally:
        await stack.stop()


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
        host, port = listener.getsockname()[:2]
        place = without_credentials(settings.database)
        started = {"replica": worker.replica, "api": f"{host}:{port}", "database": place}
        async with worker:
            async with serving(worker.application, listener):
                # The objects that exist now live as long as the process, so collections skip them.
                gc.collect()
                gc.freeze()
                logger.info("worker_started", extra=started)
                await stopped_or_replaced(database, stop)
                # No new work starts while running requests finish.
                worker.wind_down()
            await worker.service.use_cases.placement.drain(worker.seconds_left(DRAIN_SECONDS))
        logger.info("worker_stopped", extra={"replica": worker.replica})
    if database.files is not None and database.files.problem is not None:
        raise DatabaseReplaced(
            f"{database.files.problem}: the worker ends, so that its next start uses the present file"
        )


@dataclass(slots=True)
class Worker:
    """A service that is built; its background work runs as long as the block ``async with worker``."""

    replica: str
    application: Any
    service: OrderService
    background: Mapping[str, Callable[[], Awaitable[None]]]
    """Background work by name."""
    loops: Sequence[Loop]
    messaging: Messaging
    farewells: Sequence[Callable[[], Awaitable[None]]]
    """Run after the background work has ended."""
    _tasks: list[asyncio.Future[None]] = field(default_factory=list)
    _stopping_since: float | None = None

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.ensure_future(task()) for task in self.background.values()]
        return self

    def wind_down(self) -> None:
        """Start no new work; STOP_SECONDS count from the first call.

        The relay continues until the last order in flight has ended.
        """
        if self._stopping_since is None:
            self._stopping_since = time.monotonic()
            self.messaging.consumers.stop()
            for loop in self.loops:
                loop.stop()

    def seconds_left(self, seconds: float) -> float:
        """How much of ``seconds`` is left since wind_down()."""
        since = time.monotonic() if self._stopping_since is None else self._stopping_since
        return max(since + seconds - time.monotonic(), 0.0)

    async def __aexit__(self, *_: object) -> None:
        self.wind_down()
        self.messaging.relay.stop()
        if self._tasks:
            for late in (await asyncio.wait(self._tasks, timeout=self.seconds_left(STOP_SECONDS)))[1]:
                late.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*map(self._say, self.farewells))

    async def _say(self, farewell: Callable[[], Awaitable[None]]) -> None:
        """Release leases so that other replicas take over at once; if that fails, the leases expire."""
        try:
            async with asyncio.timeout(max(self.seconds_left(STOP_SECONDS), FAREWELL_SECONDS)):
                await farewell()
        except Exception as error:  # noqa: BLE001 - a boundary: the process ends even if the database fails
            logger.warning("farewell_not_said", extra={"to": farewell.__qualname__, "error": repr(error)})


async def build(settings: Settings, database: Database, stack: AsyncExitStack, border: Border = as_it_is) -> Worker:
    """Build everything of one replica, connected and not yet running; ``stack`` closes it.

    ``border`` may replace the clients of other services, the broker and the clock.
    """
    parts = build_parts(settings, database, stack, border)
    clients = await build_clients(parts, stack)
    messaging = await build_messaging(parts, stack)
    use_cases = await build_use_cases(parts, clients, messaging.dead_letters, stack)
    monitoring = build_monitoring(parts, clients, messaging)
    service = OrderService(
        use_cases.use_cases,
        database,
        parts.clock,
        parts.metrics,
        monitoring.recorder,
        monitoring.rules,
        monitoring.receiver,
        wake_releases=use_cases.wake_releases,
        readiness=partial(_readiness, monitoring, messaging),
    )
    loops = [*use_cases.loops, *messaging.loops, *monitoring.loops]
    return Worker(
        parts.replica,
        create_app(service, Authenticator(settings.api_tokens), VERSION, parts.tracer),
        service,
        _counted(parts.metrics, messaging, loops),
        loops,
        messaging,
        monitoring.farewells,
    )


async def _readiness(monitoring: Monitoring, messaging: Messaging) -> dict[str, bool | str]:
    problem = await monitoring.watch.problem()
    reason = {} if problem is None else {"reason": problem}
    return {"database": problem is None, **messaging.readiness(), **reason}


def _counted(metrics: Metrics, messaging: Messaging, loops: list[Loop]) -> dict[str, Callable[[], Awaitable[None]]]:
    """All background work by name; a failure is counted under that name."""
    continuous = {"relay": messaging.relay.run, "consuming": messaging.consumers.run}
    metrics.background([*continuous, *(loop.name for loop in loops)])
    runs: dict[str, Callable[..., Awaitable[None]]] = {loop.name: loop.run for loop in loops}
    runs |= {name: partial(kept_running, name, run) for name, run in continuous.items()}
    return {name: partial(run, on_failure=partial(metrics.background_failed, name)) for name, run in runs.items()}
