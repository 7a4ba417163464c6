"""Monitoring of a worker: heartbeat, metric samples, alerts, the watch on the database, and upkeep of its tables."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from services.alerting.database_alert import DatabaseOutage, store_in
from services.alerting.evaluator import AlertEvaluator, AlertingPolicy
from services.alerting.receiver import AlertReceiver
from services.alerting.rules import rules
from services.alerting.threshold_rule import Rule
from services.alerting.webhook import WebhookDelivery
from services.base.identity import VERSION
from services.base.loops import Loop
from services.metrics.recorder import Recorder
from services.metrics.rollup import MetricRollups
from services.runtime.clients import Clients
from services.runtime.clock_skew import ClockSkewRepair
from services.runtime.messaging import Messaging
from services.runtime.parts import Parts
from services.runtime.retention import Retention
from state.database_watch import DatabaseWatch
from state.engine.database import LARGE_LOG_BYTES, Database

logger = logging.getLogger("holdfast.worker")


@dataclass(frozen=True, slots=True)
class Monitoring:
    """The parts of monitoring that a worker serves or ends in order."""

    recorder: Recorder
    watch: DatabaseWatch
    rules: Sequence[Rule]
    receiver: AlertReceiver
    loops: list[Loop]
    farewells: list[Callable[[], Awaitable[None]]]
    """Release the leases and remove the heartbeat. Call them after the loops have ended."""


def build_monitoring(parts: Parts, clients: Clients, messaging: Messaging) -> Monitoring:
    """Build monitoring; the breakers report their changes to the recorder."""
    settings, database, clock, metrics = parts.settings, parts.database, parts.clock, parts.metrics
    recorder = Recorder(
        database,
        clock,
        parts.replica,
        clients.breakers,
        metrics,
        partial(_facts, parts, clients, messaging),
        on_others=clients.pacer.hear_others,
    )
    for breaker in clients.breakers:
        breaker.on_transition(recorder.breaker_changed)
    definitions, policy, url = rules(settings), AlertingPolicy.of(settings), settings.alert_webhook_url
    evaluator = AlertEvaluator(database, clock, parts.replica, definitions, policy, metrics.alerting_failed)
    outage = DatabaseOutage(clients.webhook, url, clock, parts.replica, policy.link, store_in(database))
    watch = DatabaseWatch(database, parts.replica, metrics.database_is, outage.report, clock)
    loops = [
        recorder.heartbeat,
        Loop("samples", recorder.sample, pause_seconds=settings.alert_interval_seconds),
        Loop("alerts", evaluator.evaluate, pause_seconds=settings.alert_interval_seconds),
        *_upkeep(parts, watch),
    ]
    farewells: list[Callable[[], Awaitable[None]]] = [evaluator.release_lease, recorder.sign_off]
    if url is not None:
        delivery = WebhookDelivery(
            database,
            clock,
            parts.replica,
            clients.webhook,
            url,
            random.random,
            metrics.notification,
            metrics.alerting_failed,
        )
        loops.append(Loop("notifications", delivery.deliver, pause_seconds=1.0))
        farewells.append(delivery.release_lease)
    receiver = AlertReceiver(database, clock, metrics.alerting_failed)
    return Monitoring(recorder, watch, definitions, receiver, loops, farewells)


def _facts(parts: Parts, clients: Clients, messaging: Messaging) -> dict[str, Any]:
    settings = parts.settings
    return {
        "version": VERSION,
        "sandbox": settings.is_sandbox,
        "apiUrl": settings.api_url,
        "inventoryUrl": settings.inventory_service_url,
        "sandboxTraffic": settings.sandbox_traffic if settings.holdfast_sandbox else None,
        **messaging.facts(),
        **clients.pacer.fact(),
    }


def _upkeep(parts: Parts, watch: DatabaseWatch) -> list[Loop]:
    settings, database, clock = parts.settings, parts.database, parts.clock
    clock_skew = ClockSkewRepair(
        parts.context,
        longest_wait=timedelta(seconds=settings.longest_wait_seconds),
        longest_lease=timedelta(seconds=settings.operation_lease_seconds),
    )
    retention = Retention(database, clock, partial(parts.metrics.background_failed, "retention"))
    return [
        Loop("database", watch.look, pause_seconds=1.0),
        Loop("rollups", MetricRollups(database, clock).run, pause_seconds=30.0),
        Loop("timekeeping", clock_skew.run_round, pause_seconds=30.0),
        Loop("retention", retention.prune, pause_seconds=60.0),
        Loop("log_length", partial(_shorten_log, database), pause_seconds=10.0),
    ]


async def _shorten_log(database: Database) -> bool:
    """Shorten the write-ahead log; one round of a Loop."""
    left = await asyncio.to_thread(database.shorten_log)
    if left > LARGE_LOG_BYTES:
        logger.warning("database_log_large", extra={"bytes": left, "reason": "a reader keeps old pages of it"})
    return False
