"""An Inventory Service over real HTTP that takes so many requests a second and answers 429 beyond."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

ENDS = "2099-01-01T00:00:00Z"


@dataclass
class BusyService:
    """Counts in fixed windows, as most limiters do; everything within the limit succeeds at once."""

    per_second: int
    window_seconds: float = 1.0
    says_when: bool = True
    """Whether a 429 carries Retry-After."""
    monotonic: Callable[[], float] = time.monotonic
    answered: Counter[int] = field(default_factory=Counter)
    url: str = ""
    _window: int = -1
    _taken: int = 0

    def _refusal(self) -> bytes | None:
        now = self.monotonic()
        if (window := int(now / self.window_seconds)) != self._window:
            self._window, self._taken = window, 0
        self._taken += 1
        if self._taken <= self.per_second * self.window_seconds:
            return None
        wait = math.ceil((window + 1) * self.window_seconds - now)
        return f"Retry-After: {wait}\r\n".encode() if self.says_when else b"X-Busy: yes\r\n"

    def _answer(self, path: str, body: bytes) -> bytes:
        asked = json.loads(body)
        if path.endswith("check-availability"):
            items = [item | {"available": True, "availableQuantity": 9} for item in asked["items"]]
            data: dict[str, object] = {"available": True, "items": items}
        elif path.endswith("reserve"):
            items = [item | {"reserved": True} for item in asked["items"]]
            data = {"reservationId": "r", "orderId": asked["orderId"], "items": items, "expiresAt": ENDS}
        else:
            data = {}
        return json.dumps({"success": True, "data": data}).encode()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next(
                    int(line[15:]) for line in head.split("\r\n") if line.lower().startswith("content-length")
                )
                body = await reader.readexactly(length)
                refusal = self._refusal()
                self.answered[200 if refusal is None else 429] += 1
                content = self._answer(head.split()[1], body) if refusal is None else b"{}"
                status = b"200 OK\r\n" if refusal is None else b"429 Too Many Requests\r\n" + refusal
                writer.write(b"HTTP/1.1 " + status + b"Content-Length: %d\r\n\r\n" % len(content) + content)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def busy_service(per_second: int, **options: float | bool) -> AsyncIterator[BusyService]:
    """The service, listening on a free port of this machine."""
    service = BusyService(per_second, **options)  # type: ignore[arg-type]
    server = await asyncio.start_server(service._serve, "127.0.0.1", 0)
    service.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield service
