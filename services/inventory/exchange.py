"""One attempt over HTTP: send JSON, bound the time, record what happened.

Shared by the clients of the Inventory Service and of the payment gateway.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx
import orjson

from services.domain.attempts import SUCCESS, TIMEOUT, UNAVAILABLE, Attempt
from services.domain.errors import ApiError

T = TypeVar("T")

Transport = httpx.AsyncBaseTransport
"""The seam: AiohttpTransport in production, httpx.MockTransport in tests."""

Clock = Callable[[], datetime]
"""Returns the present time, aware and UTC."""

Stopwatch = Callable[[], float]
"""Returns seconds that never go back."""

MAX_RETRY_AFTER_SECONDS = 900.0
"""A longer Retry-After is cut to this: one wrong header must not stop orders for a day."""

SURELY_NOT_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete HTTP reply."""

    status: int
    content: bytes
    retry_after_seconds: float | None

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class NoReply:
    """Why no complete reply came."""

    outcome: str
    """TIMEOUT or UNAVAILABLE."""
    reason: str
    may_have_run: bool


class Failed(Exception):
    """Ends an attempt with an outcome, the error for the caller and the reason for the timeline."""

    def __init__(self, outcome: str, error: ApiError, reason: str | None = None) -> None:
        super().__init__(reason or error.message)
        self.outcome, self.error = outcome, error


class Exchange:
    """Sends JSON to one service; every call appends exactly one Attempt to its trail.

    A cancelled call appends none: it has no outcome.
    """

    def __init__(
        self,
        transport: Transport,
        base_url: str,
        *,
        timeout_seconds: float,
        no_reply: Callable[[NoReply], ApiError],
        clock: Clock,
        stopwatch: Stopwatch = time.perf_counter,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._transport = transport
        self._base_url = base_url
        self._timeout_seconds = timeout_seconds
        self._no_reply = no_reply
        self._clock = clock
        self._stopwatch = stopwatch
        self._headers = httpx.Headers({"Accept": "application/json", **(headers or {})})
        self._json_headers = httpx.Headers({**self._headers, "Content-Type": "application/json"})

    def url(self, path: str) -> httpx.URL:
        """An absolute URL, to be kept by callers who use it often."""
        return httpx.URL(self._base_url + path)

    def post(self, url: httpx.URL, body: Any, *, idempotency_key: str | None = None) -> httpx.Request:
        """A POST of JSON."""
        request = httpx.Request("POST", url, headers=self._json_headers, content=orjson.dumps(body))
        if idempotency_key is not None:
            request.headers["Idempotency-Key"] = idempotency_key
        return request

    def get(self, url: httpx.URL) -> httpx.Request:
        return httpx.Request("GET", url, headers=self._headers)

    async def attempt(
        self, operation: str, request: httpx.Request, trail: list[Attempt], read: Callable[[Reply], T]
    ) -> T:
        """Send once and read the reply; ``read`` raises Failed for a reply that is not a success."""
        at, started = self._clock(), self._stopwatch()
        status: dict[str, Any] = {}
        try:
            reply = await self._send(request)
            status = {"status": reply.status}
            result = read(reply)
        except Failed as failed:
            details = {**status, "error": str(failed)}
            trail.append(Attempt(at, operation, failed.outcome, self._stopwatch() - started, details=details))
            raise failed.error from failed.__cause__
        trail.append(Attempt(at, operation, SUCCESS, self._stopwatch() - started, details=status))
        return result

    async def _send(self, request: httpx.Request) -> Reply:
        try:
            # httpx's timeouts bound each read; a dripping body would outlast them all.
            async with asyncio.timeout(self._timeout_seconds):
                response = await self._transport.handle_async_request(request)
                content = await response.aread()
        except TimeoutError as error:
            reason = f"no complete reply within {self._timeout_seconds:g} s"
            raise self._failed(NoReply(TIMEOUT, reason, may_have_run=True)) from error
        except httpx.RequestError as error:
            outcome = TIMEOUT if isinstance(error, httpx.TimeoutException) else UNAVAILABLE
            reason = str(error) or type(error).__name__
            raise self._failed(NoReply(outcome, reason, not isinstance(error, SURELY_NOT_SENT))) from error
        return Reply(response.status_code, content, self._retry_after_seconds(response))

    def _failed(self, why: NoReply) -> Failed:
        # Addresses and system errors are for operators: they stay out of what customers are told.
        return Failed(why.outcome, self._no_reply(why), why.reason)

    def _retry_after_seconds(self, response: httpx.Response) -> float | None:
        value = response.headers.get("Retry-After") if response.status_code in (429, 503) else None
        if value is None:
            return None
        try:
            seconds = float(value) if value.strip().isdigit() else self._seconds_until(value)
        except (ValueError, TypeError):  # TypeError: a date of unknown zone
            return None
        return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)

    def _seconds_until(self, http_date: str) -> float:
        return (parsedate_to_datetime(http_date) - self._clock()).total_seconds()
