"""The arguments that every builder of the worker takes, and the collaborators that a test may replace."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Protocol, TypeVar

from services.base.addresses import requests_session
from services.base.identity import VERSION, new_id, replica_name, utc_now
from services.base.settings import Settings
from services.clients.inventory.resilient import NAMES
from services.metrics.catalogue import ORDERS
from services.metrics.registry import Metrics
from services.tracing.port import Tracer
from services.unit_of_work import OrdersContext, Recorded
from state.engine.database import Database

logger = logging.getLogger("holdfast.worker")

T = TypeVar("T")


class Seam(StrEnum):
    """One collaborator of the worker."""

    CLOCK = "clock"
    INVENTORY = "inventory"
    LOOKUP = "lookup"
    """The inventory lookup of one order."""
    PAYMENTS = "payments"
    BROKER = "broker"
    """The connection to NATS."""
    PUBLISHER = "publisher"
    WEBHOOK = "webhook"
    SWITCHES = "switches"
    """The fault switches of the reference Inventory Service."""


class Border(Protocol):
    """Called once for each collaborator of the worker, when the worker is built."""

    def __call__(self, seam: Seam, collaborator: T, /) -> T:
        """Return the object to use in place of the collaborator."""
        ...


def as_it_is(_: Seam, collaborator: T, /) -> T:
    """Return the collaborator unchanged."""
    return collaborator


@dataclass(frozen=True, slots=True)
class Parts:
    """What every builder needs."""

    settings: Settings
    database: Database
    clock: Callable[[], datetime]
    replica: str
    """Name of this process among all replicas."""
    metrics: Metrics
    tracer: Tracer | None
    border: Border
    context: OrdersContext
    """The context of every use case. Builders add listeners of its commits."""


def build_parts(settings: Settings, database: Database, stack: AsyncExitStack, border: Border) -> Parts:
    """Build the parts; ``stack`` closes the tracer."""
    clock, replica, metrics = border(Seam.CLOCK, utc_now), replica_name(), Metrics(NAMES)
    tracer = _tracer(settings, replica, stack)
    listeners: list[Callable[[Recorded], None]] = [partial(_count, metrics)]
    context = OrdersContext(database, clock, new_id, random.random, listeners, tracer, failed=metrics.background_failed)
    return Parts(settings, database, clock, replica, metrics, tracer, border, context)


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


def _count(metrics: Metrics, recorded: Recorded) -> None:
    for status in recorded.became:
        metrics.count(ORDERS, status)
    for reason in (recorded.failure_code, *recorded.opened):
        if reason:
            metrics.order_failed(reason)
    for reason in recorded.opened:
        # The log notifies the operations team. Source: requirements 7.3, reservation failures.
        logger.warning("order_flagged", extra={"order_id": recorded.order.order_id, "reason": reason})
