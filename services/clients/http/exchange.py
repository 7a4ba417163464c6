"""One attempt over HTTP: sends JSON, limits the time, and records the attempt.

The clients of the Inventory Service and of the payment gateway use it. A process without free files, memory, ports or
CPU time cannot make calls. Such failures are distinguished from failures of the called service, because they must not
open a breaker.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, NotRequired, TypedDict, TypeVar
from urllib.parse import quote

import httpx
import orjson
from multidict import CIMultiDict
from yarl import URL

from services.base.context import HEADER, current_traceparent
from services.clients.http.transport import AiohttpTransport, Answer, HttpxSender, Outgoing, Progress, Sender
from services.domain.calls import SUCCESS, TIMEOUT, UNAVAILABLE, Attempt, Attempted, carry
from services.domain.errors import ApiError
from services.tracing.port import Tracer

T = TypeVar("T")

Transport = httpx.AsyncBaseTransport
"""AiohttpTransport in production; httpx.MockTransport in tests."""

Clock = Callable[[], datetime]
"""Returns the present time, aware and UTC."""

Stopwatch = Callable[[], float]
"""Returns monotonic seconds."""

MAX_RETRY_AFTER_SECONDS = 900.0
"""Upper limit of Retry-After: a wrong header must not stop orders for a day. See Settings.longest_wait_seconds."""

PAUSED_SHARE = 0.25
"""Share of the timeout. An attempt is no failure of the service if this process was paused for longer than this."""

CANCELLED = "cancelled"
"""Outcome in trace spans of an attempt that was cancelled."""

OUR_ERRNOS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
"""Errors for a lack of files, buffers, memory or local ports."""

OUR_LOOKUP_ERRORS = frozenset({socket.EAI_MEMORY, getattr(socket, "EAI_SYSTEM", socket.EAI_MEMORY)})
"""Lookup errors of the local resolver. They do not show that the name is unknown."""

BEAT_SECONDS = 0.1
"""Interval of the timer on the event loop. Shorter delays of the timer do not count as pauses."""

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

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
    """The reason why no complete HTTP reply arrived."""

    outcome: str
    """TIMEOUT or UNAVAILABLE."""
    reason: str
    may_have_run: bool
    is_ours: bool = False
    """Whether the cause is a shortage of files, memory, connections or CPU time in this process."""


class Failed(Exception):
    """A failed attempt: its outcome, the error for the caller, and the reason for the timeline."""

    def __init__(self, outcome: str, error: ApiError, reason: str | None = None) -> None:
        super().__init__(reason or error.message)
        self.outcome, self.error = outcome, error


class ExchangeOptions(TypedDict):
    """The options of an Exchange that its clients pass on."""

    timeout_seconds: float
    clock: Clock
    token: NotRequired[str | None]
    """The bearer token of every request."""
    stopwatch: NotRequired[Stopwatch]
    tracer: NotRequired[Tracer | None]


class Exchange:
    """Sends JSON to one service. Every call of attempt() results in one Attempt.

    A cancelled call results in no Attempt, because it has no outcome.
    """

    def __init__(
        self,
        transport: Transport,
        base_url: str,
        *,
        timeout_seconds: float,
        no_reply: Callable[[NoReply], ApiError],
        clock: Clock,
        token: str | None = None,
        stopwatch: Stopwatch = time.perf_counter,
        tracer: Tracer | None = None,
    ) -> None:
        self._pauses = PauseWatch()
        self._sender: Sender = transport if isinstance(transport, AiohttpTransport) else HttpxSender(transport)
        self._base_url = base_url
        self._timeout_seconds = timeout_seconds
        self._no_reply = no_reply
        self._clock = clock
        self._stopwatch = stopwatch
        self._tracer = tracer
        self._headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._json_headers = CIMultiDict({**self._headers, "Content-Type": "application/json"})

    def url(self, path: str) -> URL:
        """Return the absolute URL of a path. Callers may keep and reuse it."""
        return URL(self._base_url + path, encoded=True)

    def post(self, url: URL, body: Any, *, idempotency_key: str | None = None) -> Outgoing:
        """Return a POST request with ``body`` as JSON."""
        headers = self._json_headers
        if idempotency_key is not None:
            headers = CIMultiDict(headers)
            headers["Idempotency-Key"] = idempotency_key
        return Outgoing("POST", url, headers, orjson.dumps(body))

    def get(self, url: URL) -> Outgoing:
        return Outgoing("GET", url, CIMultiDict(self._headers))

    async def attempt(self, call: str, request: Outgoing, read: Callable[[Reply], T]) -> Attempted[T]:
        """Send once and return the result of ``read``, which raises Failed for an unsuccessful reply.

        The raised error carries the attempt.
        """
        traceparent, span = current_traceparent(), None
        if traceparent is not None:
            if self._tracer is not None:
                span = self._tracer.attempt(call, request.method, request.url, traceparent)
                traceparent = span.traceparent
            request = request.with_header(HEADER, traceparent)
        at, started, progress = self._clock(), self._stopwatch(), Progress()
        details: dict[str, Any] = {}
        outcome = CANCELLED
        try:
            with self._pauses.watched() as lost_seconds:
                try:
                    # This timeout covers the whole exchange; a body that arrives slowly exceeds no timeout per read.
                    async with asyncio.timeout(self._timeout_seconds):
                        answer = await self._sender.send(request, progress)
                except (TimeoutError, httpx.RequestError) as error:
                    raise self._no_answer(error, progress, lost_seconds()) from error
            details = {"status": answer.status}
            result = read(Reply(answer.status, answer.content, self._retry_after_seconds(answer)))
            outcome = SUCCESS
        except Failed as failed:
            outcome, details = failed.outcome, {**details, "error": str(failed)}
            carry(failed.error, (Attempt(at, call, outcome, self._stopwatch() - started, details=details),))
            raise failed.error from failed.__cause__
        finally:
            if span is not None:
                span.end(outcome, details.get("status"), details.get("error"))
        return result, (Attempt(at, call, outcome, self._stopwatch() - started, details=details),)

    def _no_answer(self, error: TimeoutError | httpx.RequestError, progress: Progress, paused_seconds: float) -> Failed:
        why = self._lost(error) if isinstance(error, httpx.RequestError) else self._timed_out(progress)
        if not why.is_ours and paused_seconds > self._timeout_seconds * PAUSED_SHARE:
            reason = f"{why.reason}; this process did not run for {paused_seconds:.1f} s of it"
            why = replace(why, reason=reason, is_ours=True)
        # Only the reason, which operators read, has addresses and system errors. Customers read the error.
        return Failed(why.outcome, self._no_reply(why), why.reason)

    def _timed_out(self, progress: Progress) -> NoReply:
        if not progress.has_place:
            reason = f"no connection of our own was free within {self._timeout_seconds:g} s"
            return NoReply(TIMEOUT, reason, may_have_run=False, is_ours=True)
        reason = f"no complete reply within {self._timeout_seconds:g} s"
        if progress.waited_seconds > self._timeout_seconds * PAUSED_SHARE:
            reason = f"{reason}; {progress.waited_seconds:.1f} s of it passed before a connection of our own was free"
            return NoReply(TIMEOUT, reason, may_have_run=True, is_ours=True)
        return NoReply(TIMEOUT, reason, may_have_run=True)

    def _lost(self, error: httpx.RequestError) -> NoReply:
        outcome = TIMEOUT if isinstance(error, httpx.TimeoutException) else UNAVAILABLE
        not_sent = isinstance(error, SURELY_NOT_SENT)
        is_ours = (
            isinstance(error, httpx.PoolTimeout)
            or is_our_shortage(error)
            or (isinstance(error, httpx.ConnectError) and has_no_free_file())
        )
        return NoReply(outcome, str(error) or type(error).__name__, not not_sent, is_ours)

    def _retry_after_seconds(self, answer: Answer) -> float | None:
        value = answer.header(b"retry-after") if answer.status in (429, 503) else None
        if value is None:
            return None
        try:
            seconds = float(value) if value.strip().isdigit() else self._seconds_until(value)
        except (ValueError, TypeError):  # TypeError: a date without a known zone
            return None
        return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)

    def _seconds_until(self, http_date: str) -> float:
        return (parsedate_to_datetime(http_date) - self._clock()).total_seconds()


def path_segment(value: str) -> str:
    """Return an id as one segment of a path. Slashes, percent signs and the ids ``.`` and ``..`` are encoded."""
    encoded = quote(value, safe="")
    return encoded.replace(".", "%2E") if value in (".", "..") else encoded


def is_our_shortage(error: BaseException) -> bool:
    """Whether ``error`` or one of its causes is an operating system error of this process or machine."""
    return any(_is_ours(found) for found in _chain(error))


def has_no_free_file() -> bool:
    """Whether no file can be opened now. A lookup that fails for lack of files reports an unknown name."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno in OUR_ERRNOS
    return False


def _is_ours(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    if not isinstance(error, OSError):
        return False
    return error.errno in (OUR_LOOKUP_ERRORS if isinstance(error, socket.gaierror) else OUR_ERRNOS)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        found = waiting.pop()
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        inner = getattr(found, "exceptions", ())
        waiting += [found.__cause__, found.__context__, getattr(found, "os_error", None), *inner]


def wall_seconds() -> float:
    """Return monotonic seconds that include the time for which the machine was suspended."""
    return time.clock_gettime(_CLOCK)


class PauseWatch:
    """Measures how long the event loop did not run (SIGSTOP, a suspended machine, a busy process).

    Its timer runs only during ``watched`` blocks.
    """

    def __init__(self, seconds: Callable[[], float] = wall_seconds) -> None:
        self._seconds = seconds
        self._watchers = 0
        self._lost = 0.0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def watched(self) -> Iterator[Callable[[], float]]:
        """Context manager: yields a function that returns the seconds of pauses since the start of the block."""
        if self._watchers == 0:
            self._schedule()
        self._watchers += 1
        before = self._lost
        try:
            yield lambda: self._lost + self._overdue() - before
        finally:
            self._watchers -= 1
            if self._watchers == 0 and self._timer is not None:
                self._timer.cancel()

    def _schedule(self) -> None:
        self._due = self._seconds() + BEAT_SECONDS
        self._timer = asyncio.get_running_loop().call_later(BEAT_SECONDS, self._beat)

    def _beat(self) -> None:
        self._lost += self._overdue()
        self._schedule()

    def _overdue(self) -> float:
        late = self._seconds() - self._due
        return late if late >= BEAT_SECONDS else 0.0
