"""What one scrape of /metrics costs the worker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httpx

SCRAPES = 300


async def cpu_ms_per_scrape(api_port: int, cpu_seconds: Callable[[], float]) -> tuple[float, int]:
    """CPU milliseconds of the worker for one scrape, what it does anyway taken off, and the bytes of an answer."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{api_port}") as client:
        size = len((await client.get("/metrics")).content)
        idle = await _spent(cpu_seconds, lambda: asyncio.sleep(2.0)) / 2.0
        loop = asyncio.get_running_loop()
        began = loop.time()

        async def scrape() -> None:
            for _ in range(SCRAPES):
                (await client.get("/metrics")).raise_for_status()

        spent = await _spent(cpu_seconds, scrape)
        spent -= idle * (loop.time() - began)
    return 1000 * spent / SCRAPES, size


async def _spent(cpu_seconds: Callable[[], float], work: Callable[[], Awaitable[None]]) -> float:
    before = cpu_seconds()
    await work()
    return cpu_seconds() - before
