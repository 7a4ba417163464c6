"""A worker that nobody supervises brings along the embedded parts that it lacks."""

from __future__ import annotations

import asyncio
import errno

from services.domain.errors import ConfigurationError
from services.settings import Settings
from services.stack import Stack
from services.worker import serve


async def serve_with_stack(settings: Settings, stop: asyncio.Event) -> None:
    """Run the service until ``stop`` is set; raises ConfigurationError before anything listens."""
    if settings.nats_url is not None and settings.inventory_service_url is not None:
        await _serve(settings, stop)
        return
    stack = Stack(settings, with_worker=False)
    await stack.start()
    try:
        await _serve(Settings.load(**{name.lower(): value for name, value in stack.environment.items()}), stop)
    finally:
        await stack.stop()


async def _serve(settings: Settings, stop: asyncio.Event) -> None:
    try:
        await serve(settings, stop)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        address = f"{settings.api_host}:{settings.api_port}"
        raise ConfigurationError(f"API_PORT: {address} is in use; allowed: an address nobody listens on") from None
