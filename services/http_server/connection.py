"""One HTTP connection with limits on sizes, times and requests.

uvicorn parses requests and writes answers. The limits cost a request a few dictionary entries: the server checks times
once a second, and sizes are checked only when they may be too large. Source: contract 3.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httptools
import orjson
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from services.base.file_descriptors import Budget
from services.domain.orders.events import timestamp

MAX_HEAD_BYTES = 32 * 1024
"""Bytes of the request line and headers of one request."""

MAX_TARGET_BYTES = 8 * 1024
MAX_HEADERS = 100
MAX_PIPELINED = 16
"""Most requests of one connection that may wait for the answer to an earlier request."""

MAX_DISCARDED_BYTES = 1 << 20
"""Bytes that are read and discarded after a refusal, so that the client can read the refusal."""

EXEMPT = (b"/healthz", b"/readyz", b"/metrics")
"""Paths that are answered even under overload."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error answer that the server sends without calling the application."""

    status: int
    code: str
    message: str

    @property
    def is_retryable(self) -> bool:
        return self.status in (408, 503)


OVERLOADED = Refusal(503, "SERVICE_OVERLOADED", "Too many requests at once; repeat the request in a second.")
LATE = Refusal(408, "REQUEST_TIMEOUT", "The request was not complete in time.")
UNREADABLE = Refusal(400, "BAD_REQUEST", "This is not a valid HTTP request.")
TARGET_TOO_LONG = Refusal(414, "ADDRESS_TOO_LONG", f"An address may have {MAX_TARGET_BYTES} bytes.")
HEAD_TOO_LARGE = Refusal(
    431, "HEADERS_TOO_LARGE", f"Address and headers may have {MAX_HEAD_BYTES} bytes and {MAX_HEADERS} lines."
)


@dataclass(slots=True)
class Connections:
    """State that all connections of one server share."""

    budget: Budget
    on_end: Callable[[], None]
    quiet: dict[BoundedConnection, float] = field(default_factory=dict)
    """Connections without a complete request, each with its start time in this state; oldest first."""
    leaving: dict[BoundedConnection, float] = field(default_factory=dict)
    """Connections that are closing, each with its start time in this state; oldest first."""
    unread: dict[BoundedConnection, float] = field(default_factory=dict)
    """Connections whose client does not read, each with its start time in this state; oldest first."""
    counts: Counter[str] = field(default_factory=Counter)
    """Number of refusals and ended connections since the last log line, by kind."""
    is_crowded: bool = False
    """Whether clients wait for a connection. If so, each connection is closed after its answer."""

    def forget(self, connection: BoundedConnection) -> None:
        for book in (self.quiet, self.leaving, self.unread):
            book.pop(connection, None)
        self.on_end()


class BoundedConnection(HttpToolsProtocol):
    """One connection of a BoundedServer."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        shared: Connections,
        is_surplus: bool = False,
    ) -> None:
        """``is_surplus``: the connection was accepted only to answer 503."""
        super().__init__(config, server_state, app_state, _loop)
        self._shared = shared
        self._is_surplus = is_surplus
        self._application = self.app
        self._is_in_head = self._is_in_body = self._is_leaving = False
        self._chunk = self._received = self._discarded = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._shared.quiet[self] = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._shared.forget(self)

    def data_received(self, data: bytes) -> None:
        if self._is_leaving:
            self._discarded += len(data)
            if self._discarded > MAX_DISCARDED_BYTES:
                self.transport.abort()
            return
        self._unset_keepalive_if_required()
        self._chunk = len(data)
        self._received += self._chunk
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Ignore the Upgrade header and answer the request as HTTP/1.1.
            self.cycle.keep_alive = False
        except httptools.HttpParserError:
            self.refuse(UNREADABLE)
            return
        if self._is_in_head and self._received > MAX_HEAD_BYTES:
            self.refuse(HEAD_TOO_LARGE)
        elif len(self.pipeline) > MAX_PIPELINED:
            self._drop_latest()

    # ------------------------------------------------------- callbacks of the parser

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head = True
        self._received = self._chunk
        self.app = self._application
        self._shared.quiet.pop(self, None)
        self._shared.quiet[self] = self.loop.time()

    def on_headers_complete(self) -> None:
        refusal = self._refusal()
        if refusal is not None:
            self._shared.counts[refusal.code] += 1
            self.app = _Refused(refusal, closes=refusal is not OVERLOADED or self._is_surplus)
        super().on_headers_complete()
        self._is_in_head, self._is_in_body = False, True
        if self._shared.is_crowded:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._is_in_body = False
        if not self.cycle.response_complete:
            self._shared.quiet.pop(self, None)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._leaves()
        elif not self.pipeline:
            # setdefault: a connection with an incomplete body keeps the start time of its request.
            self._shared.quiet.setdefault(self, self.loop.time())

    def _refusal(self) -> Refusal | None:
        """Return the refusal of a request that exceeds a limit; None for a request that the application handles."""
        if self._received > MAX_HEAD_BYTES:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > MAX_HEAD_BYTES:
                return HEAD_TOO_LARGE
        if len(self.headers) > MAX_HEADERS:
            return HEAD_TOO_LARGE
        if len(self.url) > MAX_TARGET_BYTES:
            return TARGET_TOO_LONG
        is_too_much = self._is_surplus or len(self.tasks) >= self._shared.budget.requests
        return OVERLOADED if is_too_much and self.url not in EXEMPT else None

    # ------------------------------------------------------------------ writing

    def pause_writing(self) -> None:
        super().pause_writing()
        self._shared.unread[self] = self.loop.time()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._shared.unread.pop(self, None)

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._leaves()

    # ------------------------------------------------------------------- ending

    @property
    def is_unread(self) -> bool:
        """Whether no byte of the connection has been read."""
        return self.cycle is None and not self._received

    @property
    def is_reading(self) -> bool:
        """Whether a request is incomplete."""
        return self._is_in_head or self._is_in_body

    @property
    def is_in_body(self) -> bool:
        """Whether the headers of a request are complete and its body is not."""
        return self._is_in_body

    @property
    def is_answering(self) -> bool:
        """Whether a complete request waits for its answer."""
        cycle = self.cycle
        return bool(self.pipeline) or (cycle is not None and not cycle.response_complete and not self._is_in_body)

    def end(self) -> str | None:
        """Close the connection unless it waits for an answer; returns ``late``, ``idle``, or None when left open."""
        if self.is_answering:
            return None
        if self.is_reading:
            self.refuse(LATE)
            return "late"
        self._leaves()
        self.transport.close()
        return "idle"

    def refuse(self, refusal: Refusal) -> None:
        """Answer an incomplete request with an error and close the connection.

        A complete request is answered first.
        """
        self._is_leaving = True
        if refusal is not LATE:
            self._shared.counts[refusal.code] += 1
        cycle = self.cycle
        if self.is_answering:
            self.pipeline.clear()
            cycle.keep_alive = False
            return
        if cycle is not None and not cycle.response_complete:
            # Wake the application, which waits for the body of this request.
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.abort()
                return
        if cycle is None or not (self._is_in_body and cycle.response_complete):
            self.transport.write(_written(refusal))
        self._leaves()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _leaves(self) -> None:
        self._shared.quiet.pop(self, None)
        self._shared.leaving.setdefault(self, self.loop.time())

    def _drop_latest(self) -> None:
        """Drop the latest requests above MAX_PIPELINED and close after the last kept one; the client repeats them."""
        while len(self.pipeline) > MAX_PIPELINED:
            self.pipeline.popleft()
        self.pipeline[0][0].keep_alive = False
        self._is_leaving = True


class _Refused:
    """An ASGI application that answers every request with one refusal."""

    def __init__(self, refusal: Refusal, *, closes: bool) -> None:
        self._refusal = refusal
        self._closes = closes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = _body(self._refusal)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if self._refusal.is_retryable:
            headers.append((b"retry-after", b"1"))
        if self._closes:
            headers.append((b"connection", b"close"))
        status = self._refusal.status
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})


def _body(refusal: Refusal) -> bytes:
    error = {
        "code": refusal.code,
        "message": refusal.message,
        "details": {},
        "retryable": refusal.is_retryable,
    }
    return orjson.dumps({"success": False, "error": error, "meta": {"timestamp": timestamp(datetime.now(UTC))}})


def _written(refusal: Refusal) -> bytes:
    body = _body(refusal)
    headers = (
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n"
        f"{'retry-after: 1' if refusal.is_retryable else 'cache-control: no-store'}\r\n\r\n"
    )
    return STATUS_LINE[refusal.status] + headers.encode() + body
