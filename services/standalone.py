"""Run a worker in this process together with the embedded parts that have no real address."""

from __future__ import annotations

import asyncio

from services.base.settings import Settings
from services.http_server.process import ensure_free, ensure_writable
from services.runtime.stack import Stack
from services.worker import serve


async def serve_with_stack(settings: Settings, stop: asyncio.Event) -> None:
    """Run the service until ``stop`` is set; raises ConfigurationError before anything listens."""
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
