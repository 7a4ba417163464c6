"""The clients of the other services that the settings name, and the pace that replicas share.

Each heartbeat publishes the pace of this replica's inventory calls and reads that of the others; no call waits for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

from services.base.clock import utc_now
from services.base.file_descriptors import Budget
from services.base.proxy import DIRECT, Proxy
from services.base.settings import LONGEST_RETRY_AFTER_SECONDS, PAYMENT_TIMEOUT_SECONDS
from services.clients.http.transport import AiohttpTransport, client_session
from services.clients.inventory.breakers import InventoryBreakers
from services.clients.inventory.http import HTTPInventoryGateway
from services.clients.inventory.lookup import HTTPInventoryLookup, InventoryLookup
from services.clients.inventory.pacing import Pace, Pacer
from services.clients.inventory.port import InventoryGateway
from services.clients.inventory.resilient import ResilientInventory
from services.clients.payments.http import HTTPPaymentGateway, NullPaymentGateway
from services.clients.payments.port import PaymentGateway
from services.domain.call_attempts import SHORT_CIRCUITED, Attempt
from services.metrics.registry import Metrics
from services.runtime.boundaries import Parts, Seam
from services.tracing.port import Tracer
from state.replicas import Replica

WEBHOOK_CONNECTIONS = 4

FASTEST = 10_000.0
"""Upper limit in calls a second. A larger value in a heartbeat is ignored."""


@dataclass(frozen=True, slots=True)
class Clients:
    """All clients of a worker."""

    breakers: InventoryBreakers
    pacer: Pacer
    inventory: InventoryGateway
    """A client with immediate retries, for a customer who waits."""
    inventory_once: InventoryGateway
    """A client with one attempt per call, for background work that retries later."""
    lookup: InventoryLookup
    payments: PaymentGateway
    webhook: httpx.AsyncClient
    """A client with connections of its own, so that a slow webhook does not occupy the connections of orders."""


async def build_clients(parts: Parts, breakers: InventoryBreakers, stack: AsyncExitStack) -> Clients:
    """Build all clients; ``stack`` closes the connections."""
    settings = parts.settings
    transport = AiohttpTransport(client_session(connections=Budget.of_process().outgoing), proxy=settings.proxy)
    stack.push_async_callback(transport.aclose)
    token = settings.inventory_service_token.get_secret_value() if settings.inventory_service_token else None
    client = _inventory_client(parts, transport, breakers, token)
    lookup = HTTPInventoryLookup(
        transport,
        settings.inventory_service_url or "",
        timeout_seconds=settings.inventory_timeout_seconds,
        clock=utc_now,
        token=token,
        pacer=client.pacer,
    )
    webhook = await stack.enter_async_context(webhook_client(settings.proxy))
    return Clients(
        breakers,
        client.pacer,
        inventory=parts.border(Seam.INVENTORY, client),
        inventory_once=parts.border(Seam.INVENTORY, client.once()),
        lookup=parts.border(Seam.LOOKUP, lookup),
        payments=parts.border(Seam.PAYMENTS, _payment_client(parts, transport)),
        webhook=parts.border(Seam.WEBHOOK, webhook),
    )


def _inventory_client(
    parts: Parts, transport: AiohttpTransport, breakers: InventoryBreakers, token: str | None
) -> ResilientInventory:
    settings = parts.settings
    gateway = HTTPInventoryGateway(
        transport,
        settings.inventory_service_url or "",
        timeout_seconds=settings.inventory_timeout_seconds,
        reservation_ttl_seconds=settings.reservation_ttl_seconds,
        clock=utc_now,
        token=token,
        tracer=parts.tracer,
    )
    return ResilientInventory(
        gateway,
        breakers,
        settings.immediate_retry,
        utc_now,
        on_attempt=AttemptObserver(parts.metrics, parts.tracer),
        deadline_seconds=settings.call_deadline_seconds,
    )


def _payment_client(parts: Parts, transport: AiohttpTransport) -> PaymentGateway:
    settings = parts.settings
    if settings.payment_service_url is None:
        return NullPaymentGateway(utc_now)
    return HTTPPaymentGateway(
        transport,
        settings.payment_service_url,
        timeout_seconds=PAYMENT_TIMEOUT_SECONDS,
        clock=utc_now,
        tracer=parts.tracer,
    )


def webhook_client(proxy: Proxy = DIRECT) -> httpx.AsyncClient:
    """Build a client for webhooks that follows no redirect; the caller closes it."""
    transport = AiohttpTransport(client_session(connections=WEBHOOK_CONNECTIONS), proxy=proxy)
    return httpx.AsyncClient(transport=transport, follow_redirects=False, trust_env=False)


@dataclass(frozen=True, slots=True)
class AttemptObserver:
    """Counts every attempt. A short-circuited attempt has no span, so it is added to the current span."""

    metrics: Metrics
    tracer: Tracer | None

    def __call__(self, attempt: Attempt) -> None:
        if self.tracer is not None and attempt.outcome == SHORT_CIRCUITED:
            self.tracer.short_circuited(attempt.call, str(attempt.details.get("error")))
        self.metrics.attempt(attempt)


def pace_fact(pacer: Pacer) -> dict[str, Any]:
    """The pace as the heartbeat carries it."""
    told = pacer.told()
    return {"pace": {"rate": told.rate, "closedMs": round(told.closed_seconds * 1000)} if told else None}


def hear_others(pacer: Pacer, others: Iterable[Replica], now: datetime) -> None:
    """Apply the pace of other replicas; ``now`` is the time of this replica's clock."""
    for other in others:
        if told := _read(other.facts.get("pace"), max((now - other.heartbeat_at).total_seconds(), 0.0)):
            pacer.hear(told)


def _read(said: object, age_seconds: float) -> Pace | None:
    """The pace in a heartbeat of that age; None when another version wrote the pace in another form."""
    if not isinstance(said, dict):
        return None
    rate, closed = _number(said.get("rate")), _number(said.get("closedMs"))
    if rate is None or closed is None:
        return None
    left = min(closed / 1000, LONGEST_RETRY_AFTER_SECONDS) - age_seconds
    return Pace(min(max(rate, 0.0), FASTEST), left)


def _number(said: object) -> float | None:
    return float(said) if isinstance(said, int | float) and math.isfinite(said) else None
