"""The clients of the other services that the settings name."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass

import httpx

from services.base.addresses import DIRECT, Proxy
from services.base.file_descriptors import Budget
from services.base.identity import utc_now
from services.base.settings import PAYMENT_TIMEOUT_SECONDS
from services.clients.http.exchange import ExchangeOptions
from services.clients.http.transport import AiohttpTransport, client_session
from services.clients.inventory.http import HTTPInventoryGateway, HTTPInventoryLookup, InventoryLookup
from services.clients.inventory.pacing import Pacer
from services.clients.inventory.port import InventoryGateway
from services.clients.inventory.resilient import InventoryBreakers, ResilientInventory, inventory_breakers
from services.clients.payments import HTTPPaymentGateway, NullPaymentGateway, PaymentGateway
from services.domain.calls import SHORT_CIRCUITED, Attempt
from services.metrics.registry import Metrics
from services.runtime.parts import Parts, Seam
from services.tracing.port import Tracer

WEBHOOK_CONNECTIONS = 4


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


async def build_clients(parts: Parts, stack: AsyncExitStack) -> Clients:
    """Build all clients; ``stack`` closes the connections."""
    settings, border = parts.settings, parts.border
    transport = AiohttpTransport(client_session(connections=Budget.of_process().outgoing), proxy=settings.proxy)
    stack.push_async_callback(transport.aclose)
    breakers = inventory_breakers(settings, clock=parts.clock)
    token = settings.inventory_service_token.get_secret_value() if settings.inventory_service_token else None
    url = settings.inventory_service_url or ""
    options = ExchangeOptions(timeout_seconds=settings.inventory_timeout_seconds, clock=utc_now, token=token)
    traced_options: ExchangeOptions = {**options, "tracer": parts.tracer}
    inventory = ResilientInventory(
        HTTPInventoryGateway(
            transport, url, reservation_ttl_seconds=settings.reservation_ttl_seconds, **traced_options
        ),
        breakers,
        settings.immediate_retry,
        utc_now,
        on_attempt=AttemptObserver(parts.metrics, parts.tracer),
        deadline_seconds=settings.call_deadline_seconds,
    )
    lookup = HTTPInventoryLookup(transport, url, pacer=inventory.pacer, **options)
    webhook = await stack.enter_async_context(webhook_client(settings.proxy))
    return Clients(
        breakers,
        inventory.pacer,
        inventory=border(Seam.INVENTORY, inventory),
        inventory_once=border(Seam.INVENTORY, inventory.once()),
        lookup=border(Seam.LOOKUP, lookup),
        payments=border(Seam.PAYMENTS, _payment_client(parts, transport)),
        webhook=border(Seam.WEBHOOK, webhook),
    )


def _payment_client(parts: Parts, transport: AiohttpTransport) -> PaymentGateway:
    url = parts.settings.payment_service_url
    if url is None:
        return NullPaymentGateway(utc_now)
    return HTTPPaymentGateway(
        transport, url, timeout_seconds=PAYMENT_TIMEOUT_SECONDS, clock=utc_now, tracer=parts.tracer
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
