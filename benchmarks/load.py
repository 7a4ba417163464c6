"""A bounded load of orders over raw keep-alive connections, cheap enough to share a core with others."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass

import orjson

IDLE_SECONDS = 2.0
"""The worker closes connections that are idle for longer than a few seconds."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a run of orders took."""

    orders: int
    seconds: float
    latencies_ms: list[float]
    """Sorted."""

    @property
    def per_second(self) -> float:
        return self.orders / self.seconds

    def percentile(self, share: float) -> float:
        return percentile(self.latencies_ms, share)


def percentile(ordered: list[float], share: float) -> float:
    """The value below which that share of a sorted, non-empty list lies."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def place_orders(port: int, *, clients: int, orders: int) -> Load:
    """Place ``orders`` orders of two items, ``clients`` at a time; every one must be answered 201."""
    remaining = iter(range(orders))
    latencies: list[float] = []
    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(_client(port, remaining, latencies))
    return Load(orders, time.perf_counter() - started, sorted(latencies))


async def _client(port: int, remaining, latencies: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for _ in remaining:
            began = time.perf_counter()
            writer.write(_request())
            status = await _status(reader)
            if status != 201:
                raise RuntimeError(f"an order was answered {status}")
            latencies.append((time.perf_counter() - began) * 1000)
    finally:
        writer.close()


async def paced(port: int, *, per_second: float, seconds: float, path: str | None = None) -> list[float]:
    """Orders, or requests for ``path``, at a steady rate whatever the answers take; sorted milliseconds.

    Each is counted from when it was due, so that a delay is not hidden by the ones that wait behind it.
    """
    latencies: list[float] = []
    request, expected = (_get(path), 200) if path else (_request(), 201)
    clock = asyncio.get_running_loop().time
    began = clock()
    free: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def connection() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while free:
            used_at, reader, writer = free.pop()
            if clock() - used_at < IDLE_SECONDS:
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", port)

    async def one(due: float) -> None:
        reader, writer = await connection()
        writer.write(request)
        status = await _status(reader)
        if status != expected:
            raise RuntimeError(f"{path or 'an order'} was answered {status}")
        latencies.append((clock() - due) * 1000)
        free.append((clock(), reader, writer))

    async with asyncio.TaskGroup() as group:
        for number in range(int(per_second * seconds)):
            due = began + number / per_second
            await asyncio.sleep(due - clock())
            group.create_task(one(due))
    for _, _, writer in free:
        writer.close()
    return sorted(latencies)


async def _status(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
    await reader.readexactly(length)
    return int(head.split(b" ", 2)[1])


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()


def _request() -> bytes:
    items = [
        {"productId": str(uuid.UUID(int=product)), "variantId": str(uuid.UUID(int=product)), "quantity": 1}
        for product in (1, 2)
    ]
    body = orjson.dumps({"userId": str(uuid.UUID(int=3)), "items": items})
    head = ("POST /api/v1/orders HTTP/1.1", "Host: bench", "Content-Type: application/json")
    return "\r\n".join((*head, f"Content-Length: {len(body)}", "", "")).encode() + body
