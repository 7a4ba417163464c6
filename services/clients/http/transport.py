"""Requests over an aiohttp session that raise the errors of httpx.

The error shows callers whether the service may have processed the request:

    surely not sent   ConnectError, ConnectTimeout, PoolTimeout, UnsupportedProtocol
    may have run      RemoteProtocolError, ReadError, WriteError
    slow              ReadTimeout

The connection pool of httpx uses several times as much CPU under load. The published adapter of aiohttp for httpx
reports a disconnect after sending as a connect timeout. Source: docs/adr/0006.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import aiohttp
import httpx
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict
from yarl import URL

from services.base.addresses import DIRECT, Proxy

MAX_BODY_BYTES = 1 << 20
"""Largest accepted body. Replies of the called services are far smaller."""

MAX_INTERIM_REPLIES = 16
"""Most interim replies (``100 Continue``) before one reply. A further interim reply ends the connection."""

KEEPALIVE_SECONDS = 4.0
"""Longest idle time of a kept connection; many servers close an idle connection after five seconds."""

MAX_ERROR_LENGTH = 300
"""Characters of a library's error message that are kept. The message may quote the reply."""

_ONE_WRITE_BYTES = 1 << 16
"""Bytes up to which aiohttp writes without waiting for the socket to drain."""

_NO_TIMEOUT = aiohttp.ClientTimeout(total=None)

_CONNECTION_ENDED = (aiohttp.ClientOSError, aiohttp.ClientConnectionResetError, aiohttp.ServerDisconnectedError)

_MEANINGS: tuple[tuple[type[Exception], type[httpx.TransportError]], ...] = (
    # The first match decides, so subclasses come before their base classes.
    (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout),
    (aiohttp.ClientConnectorError, httpx.ConnectError),
    (aiohttp.ServerFingerprintMismatch, httpx.ConnectError),
    (aiohttp.ClientHttpProxyError, httpx.ConnectError),
    (aiohttp.RedirectClientError, httpx.RemoteProtocolError),
    (aiohttp.InvalidURL, httpx.UnsupportedProtocol),
    (aiohttp.NonHttpUrlClientError, httpx.UnsupportedProtocol),
    (aiohttp.ServerTimeoutError, httpx.ReadTimeout),
    (aiohttp.ClientConnectionResetError, httpx.WriteError),
    (aiohttp.UploadAbortedError, httpx.WriteError),
    (aiohttp.ClientOSError, httpx.ReadError),
    # All other failures after connecting: disconnect, truncation, invalid bytes.
    (aiohttp.ClientError, httpx.RemoteProtocolError),
    (HttpProcessingError, httpx.RemoteProtocolError),
    (TimeoutError, httpx.ReadTimeout),
    (OSError, httpx.ReadError),
)


def client_session(*, connections: int = 256, keepalive_seconds: float = KEEPALIVE_SECONDS) -> aiohttp.ClientSession:
    """Return a session without cookies that requests uncompressed replies. Call it inside the running loop.

    The session ignores proxies of the environment; AiohttpTransport sets the proxy. A reply may have at most 128
    headers of 8 KiB each, and MAX_INTERIM_REPLIES interim replies.
    """
    return aiohttp.ClientSession(
        connector=_Connector(limit=connections, keepalive_timeout=keepalive_seconds),
        trust_env=False,
        max_line_size=8190,
        max_field_size=8190,
        max_headers=128,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept-Encoding": "identity"},
        skip_auto_headers=("Accept", "Content-Type", "User-Agent"),
        auto_decompress=False,
    )


class _BoundedHandler(ResponseHandler):
    """Ends a connection with more than MAX_INTERIM_REPLIES interim replies."""

    _interim = 0

    def feed_data(self, data: Any, size: int = 0) -> None:
        status = data[0].code
        self._interim = self._interim + 1 if 100 <= status < 200 and status != 101 else 0
        if self._interim <= MAX_INTERIM_REPLIES:
            super().feed_data(data, size)
        elif self.transport is not None:
            self.transport.abort()
            self.set_exception(HttpProcessingError(message="too many interim replies"))


class _Connector(aiohttp.TCPConnector):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # aiohttp has no public setting for the handler class; a test with a real socket covers this attribute.
        self._factory: Any = partial(_BoundedHandler, loop=self._loop)


@dataclass(slots=True)
class Progress:
    """Progress of a request."""

    has_place: bool = False
    """Whether the request got a connection. Without a connection nothing was sent."""
    waited_seconds: float = 0.0
    """Time that the request waited for a connection."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request that can be sent several times."""

    method: str
    url: URL
    headers: CIMultiDict[str]
    content: bytes = b""

    def with_header(self, name: str, value: str) -> Outgoing:
        """Return a copy with one more header. Requests share their headers, which are never changed in place."""
        headers = CIMultiDict(self.headers)
        headers[name] = value
        return replace(self, headers=headers)


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete reply."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    content: bytes

    def header(self, name: bytes) -> str | None:
        """Return the first header of this name; ``name`` must be in lower case."""
        return next((value.decode("latin-1") for key, value in self.headers if key.lower() == name), None)


class Sender(Protocol):
    """Sends a request once. Raises httpx.RequestError when no complete reply arrives."""

    async def send(self, request: Outgoing, progress: Progress) -> Answer: ...


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Sends requests through an aiohttp session. aclose() also closes the session.

    The clients of this project call ``send``, because building httpx's requests and responses costs as much as the
    exchange. It does not follow redirects, store cookies or decompress bodies. A reply has at most ``max_body_bytes``.
    The timeouts of an httpx request come from its ``timeout`` extension. Callers of ``send`` limit the time of the
    whole exchange themselves.
    """

    def __init__(
        self, session: aiohttp.ClientSession, *, proxy: Proxy = DIRECT, max_body_bytes: int = MAX_BODY_BYTES
    ) -> None:
        self._session = session
        self._proxy = proxy
        self._max_body_bytes = max_body_bytes
        limit = session.connector.limit if session.connector is not None else 0
        # One place per connection, so that the wait for a connection is measured apart from the wait for the service.
        self._places = asyncio.Semaphore(limit or sys.maxsize)

    async def send(
        self,
        request: Outgoing,
        progress: Progress,
        limits: aiohttp.ClientTimeout = _NO_TIMEOUT,
        pool_seconds: float | None = None,
    ) -> Answer:
        """Send once over a free connection. Raises PoolTimeout when none is free within ``pool_seconds``."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(pool_seconds):
                await self._places.acquire()
        except TimeoutError as error:
            raise httpx.PoolTimeout("no connection of our own was free") from error
        progress.has_place, progress.waited_seconds = True, time.monotonic() - began
        try:
            # A server may close an idle connection at any time. If no byte of the request was sent, it is sent
            # a second time, and an error of the second time is raised.
            for upload in (aiohttp.UploadTracker(), None):
                try:
                    async with self._request(request, limits, upload) as reply:
                        content = await reply.read() if self._is_bounded(reply) else await self._read_bounded(reply)
                        return Answer(reply.status, reply.raw_headers, content)
                except (aiohttp.ClientError, HttpProcessingError, OSError) as error:
                    if upload is None or not _may_send_again(error, upload, request.content):
                        raise meaning_of(type(error))(f"{type(error).__name__}: {_text(error)}") from error
            raise AssertionError("The second attempt returns or raises.")
        finally:
            self._places.release()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        headers = CIMultiDict(request.headers.multi_items())
        headers["Accept-Encoding"] = "identity"
        outgoing = Outgoing(request.method, URL(str(request.url), encoded=True), headers, await request.aread())
        try:
            answer = await self.send(outgoing, Progress(), _timeout(request), _pool_seconds(request))
        except httpx.RequestError as error:
            error.request = request
            raise
        return httpx.Response(answer.status, headers=answer.headers, content=answer.content)

    async def aclose(self) -> None:
        await self._session.close()

    def _request(self, request: Outgoing, limits: aiohttp.ClientTimeout, upload: aiohttp.UploadTracker | None) -> Any:
        return self._session.request(
            request.method,
            request.url,
            data=request.content or None,
            headers=request.headers,
            allow_redirects=False,
            proxy=self._proxy.of(request.url.host),
            timeout=limits,
            upload_tracker=upload,
        )

    def _is_bounded(self, reply: aiohttp.ClientResponse) -> bool:
        """Whether the declared length is within the limit. Raises RemoteProtocolError for an encoded body."""
        if reply.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise httpx.RemoteProtocolError("encoded body, though identity was asked for")
        return reply.content_length is not None and reply.content_length <= self._max_body_bytes

    async def _read_bounded(self, reply: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in reply.content.iter_any():
            body += chunk
            if len(body) > self._max_body_bytes:
                raise httpx.RemoteProtocolError("body too large")
        return bytes(body)


class HttpxSender:
    """A Sender over any httpx transport, such as httpx.MockTransport in tests."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def send(self, request: Outgoing, progress: Progress) -> Answer:
        progress.has_place = True
        headers = list(request.headers.items())
        response = await self._transport.handle_async_request(
            httpx.Request(request.method, str(request.url), headers=headers, content=request.content)
        )
        return Answer(response.status_code, response.headers.raw, await response.aread())


def meaning_of(error: type[Exception]) -> type[httpx.TransportError]:
    """Return the httpx error for an error of aiohttp or of its socket."""
    return next(meaning for kind, meaning in _MEANINGS if issubclass(error, kind))


def _text(error: Exception) -> str:
    """Return the message of an error without the URL, because the URL of a webhook is a secret."""
    if isinstance(error, aiohttp.ClientResponseError):
        return f"{error.status}, {error.message}"[:MAX_ERROR_LENGTH]
    if isinstance(error, aiohttp.InvalidURL):
        return "the address"
    return str(error)[:MAX_ERROR_LENGTH]


def _may_send_again(error: Exception, upload: aiohttp.UploadTracker, content: bytes) -> bool:
    """Whether the connection ended before any byte of the request was sent."""
    if isinstance(error, aiohttp.ClientConnectorError) or not isinstance(error, _CONNECTION_ENDED):
        return False
    # A small request is sent in one write, so an upload that did not complete has not begun.
    ended = upload.upload_complete
    return len(content) <= _ONE_WRITE_BYTES and ended.done() and ended.exception() is not None


def _pool_seconds(request: httpx.Request) -> float | None:
    seconds: float | None = request.extensions.get("timeout", {}).get("pool")
    return seconds


def _timeout(request: httpx.Request) -> aiohttp.ClientTimeout:
    wanted = request.extensions.get("timeout")
    if not wanted:
        return _NO_TIMEOUT
    return aiohttp.ClientTimeout(
        total=None, connect=wanted.get("pool"), sock_connect=wanted.get("connect"), sock_read=wanted.get("read")
    )
