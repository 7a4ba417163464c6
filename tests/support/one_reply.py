"""An HTTP service that gives every request the same reply."""

from __future__ import annotations

import json
from typing import Any

import httpx

from services.domain.calls import Attempt


class OneReply:
    """Answers every request with one reply and records the requests."""

    def __init__(self, status: int = 200, body: Any = None, headers: dict[str, str] | None = None) -> None:
        self.content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.status, self.headers = status, headers or {}
        self.requests: list[httpx.Request] = []
        self.attempts: list[Attempt] = []

    async def handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return httpx.Response(self.status, content=self.content, headers=self.headers)
