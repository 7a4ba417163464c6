"""The clients of the other services, as the settings name them."""

from __future__ import annotations

import httpx

from services.base.clock import utc_now
from services.base.proxy import DIRECT, Proxy
from services.base.settings import PAYMENT_TIMEOUT_SECONDS, Settings
from services.clients.breaker import InventoryBreakers
from services.clients.http.transport import AiohttpTransport, client_session
from services.clients.inventory.http import HTTPInventoryGateway
from services.clients.inventory.lookup import HTTPInventoryLookup
from services.clients.inventory.pacing import Pacer
from services.clients.inventory.resilient import ResilientInventory
from services.clients.payments.http import HTTPPaymentGateway, NullPaymentGateway
from services.clients.payments.port import PaymentGateway
from services.metrics.registry import Metrics
from services.orders.traced import told_of_short_circuits
from services.tracing.port import Tracer

WEBHOOK_CONNECTIONS = 4


def inventory_client(
    settings: Settings,
    transport: AiohttpTransport,
    breakers: InventoryBreakers,
    metrics: Metrics,
    tracer: Tracer | None,
) -> ResilientInventory:
    token = settings.inventory_service_token
    gateway = HTTPInventoryGateway(
        transport,
        settings.inventory_service_url or "",
        timeout_seconds=settings.inventory_timeout_seconds,
        reservation_ttl_seconds=settings.reservation_ttl_seconds,
        clock=utc_now,
        token=token.get_secret_value() if token else None,
        tracer=tracer,
    )
    return ResilientInventory(
        gateway,
        breakers,
        settings.immediate_retry,
        utc_now,
        on_attempt=told_of_short_circuits(tracer, metrics.attempt) if tracer else metrics.attempt,
        deadline_seconds=settings.call_deadline_seconds,
    )


def inventory_lookup(settings: Settings, transport: AiohttpTransport, pacer: Pacer) -> HTTPInventoryLookup:
    """``pacer``: of the client that orders use, before which an audit stands back."""
    token = settings.inventory_service_token
    return HTTPInventoryLookup(
        transport,
        settings.inventory_service_url or "",
        timeout_seconds=settings.inventory_timeout_seconds,
        clock=utc_now,
        token=token.get_secret_value() if token else None,
        pacer=pacer,
    )


def payment_client(settings: Settings, transport: AiohttpTransport, tracer: Tracer | None) -> PaymentGateway:
    if settings.payment_service_url is None:
        return NullPaymentGateway(utc_now)
    return HTTPPaymentGateway(
        transport,
        settings.payment_service_url,
        timeout_seconds=PAYMENT_TIMEOUT_SECONDS,
        clock=utc_now,
        tracer=tracer,
    )


def webhook_client(proxy: Proxy = DIRECT) -> httpx.AsyncClient:
    """Follows no redirect; closed by its owner."""
    transport = AiohttpTransport(client_session(connections=WEBHOOK_CONNECTIONS), proxy=proxy)
    return httpx.AsyncClient(transport=transport, follow_redirects=False, trust_env=False)
