"""An HTTP server that accepts as many connections as the budget of open files allows.

Connections beyond the budget wait in the kernel's queue. Idle connections are closed to make room for them, and a
connection that has waited too long is accepted to answer 503. A shortage of open files pauses accepting until a
connection ends.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from services.base.file_descriptors import Budget
from services.http_server.connection import BoundedConnection, Connections

REPORT_SECONDS = 10.0
"""Shortest interval between two log lines with the counts of refusals and closed connections."""

SILENT_SECONDS = 10
"""Approximate time after which a new connection is accepted even if its client has sent nothing."""

LAST_SECONDS = 0.1
"""How long a stopping server waits for requests on new connections."""

LAST_LOOKS = 50

BACKLOG = 2048
MAX_CONNECTIONS_PER_TURN = 64
"""Connections accepted in one turn of the event loop; twice as many may be examined for closing."""

logger = logging.getLogger("holdfast.http")


@dataclass(frozen=True, slots=True)
class Patience:
    """Time limits for clients, in seconds."""

    head: float = 10.0
    """Time from the start of a connection or request to the end of its headers."""
    body: float = 30.0
    """Time from the start of a request to its end."""
    unread: float = 30.0
    """Time for which a client may leave an answer unread."""
    linger: float = 2.0
    """Time for which a refused connection stays half open, so that its client can read the refusal."""
    idle_for_room: float = 1.0
    """Idle time after which a connection is closed while other connections wait."""
    head_for_room: float = 0.5
    """Time after which a connection with incomplete headers is closed while other connections wait."""
    body_for_room: float = 2.0
    """Time after which a connection with an incomplete body is closed while other connections wait."""
    linger_for_room: float = 0.1
    """Replaces ``linger`` while other connections wait."""
    waiting: float = 2.0
    """Waiting time after which a connection is accepted to answer 503."""

    @property
    def shortest_for_room(self) -> float:
        """The shortest of the limits that apply while other connections wait."""
        return min(self.idle_for_room, self.head_for_room, self.body_for_room)

    def for_room(self, connection: BoundedConnection) -> float:
        """Time that this connection may stay without a complete request while other connections wait."""
        if connection.is_in_body:
            return self.body_for_room
        return self.head_for_room if connection.is_reading else self.idle_for_room


class BoundedServer(uvicorn.Server):
    """A uvicorn server with a budget of connections and without signal handlers.

    ``listening`` is set once the server accepts connections.
    """

    def __init__(self, config: uvicorn.Config, budget: Budget, patience: Patience) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self._shared = Connections(budget, self._connection_ended)
        self._patience = patience
        self._sockets: list[socket.socket] = []
        self._arriving: set[asyncio.Task[Any]] = set()
        self._full_since: float | None = None
        self._reported_at = -REPORT_SECONDS

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self.lifespan.startup()
        self.servers = []
        self._sockets = list(sockets or [])
        for listener in self._sockets:
            listener.setblocking(False)
            if hasattr(socket, "TCP_DEFER_ACCEPT") and listener.family != socket.AF_UNIX:
                # A connection on which nothing was sent stays in the kernel and uses no file descriptor.
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, SILENT_SECONDS)
            listener.listen(BACKLOG)
        self._loop = asyncio.get_running_loop()
        self._accept_on()
        self.started = True
        self.listening.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._accept_off()
        self._full_since = None
        await self._read_what_was_accepted()
        await super().shutdown(sockets)

    async def _read_what_was_accepted(self) -> None:
        """Wait until new connections have sent a request, because closing an unread connection would reset it."""
        if self._arriving:
            await asyncio.wait(self._arriving, timeout=LAST_SECONDS)
        for _ in range(LAST_LOOKS):
            if not any(connection.is_unread for connection in self._shared.quiet):
                return
            await asyncio.sleep(LAST_SECONDS / LAST_LOOKS)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def on_tick(self, counter: int) -> bool:
        if self._full_since is not None:
            self._go_on()
        if counter % 10 == 0:
            self._sweep()
        return await super().on_tick(counter)

    # ---------------------------------------------------------------- accepting

    def _accept_on(self) -> None:
        for listener in self._sockets:
            self._loop.add_reader(listener, self._accept, listener)

    def _accept_off(self) -> None:
        for listener in self._sockets:
            self._loop.remove_reader(listener)

    def _room(self) -> int:
        return self._shared.budget.connections - len(self.server_state.connections) - len(self._arriving)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(MAX_CONNECTIONS_PER_TURN):
            if self._room() <= 0:
                self._stop_accepting()
                return
            if not self._take(listener, is_surplus=False):
                return

    def _take(self, listener: socket.socket, *, is_surplus: bool) -> bool:
        """Accept one connection; returns False when no connection waits or no file descriptor is free."""
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as error:
            # No file descriptor or memory is free, so accepting pauses until a connection ends.
            self._shared.counts[f"not_accepted_errno_{error.errno}"] += 1
            self._stop_accepting()
            return False
        connection.setblocking(False)
        task = self._loop.create_task(self._welcome(connection, is_surplus=is_surplus))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)
        return True

    async def _welcome(self, connection: socket.socket, *, is_surplus: bool) -> None:
        def protocol() -> BoundedConnection:
            return BoundedConnection(
                self.config, self.server_state, {}, self._loop, shared=self._shared, is_surplus=is_surplus
            )

        try:
            if connection.family != socket.AF_UNIX:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(protocol, connection)
        except OSError:
            # The client has disconnected.
            connection.close()

    def _stop_accepting(self) -> None:
        if self._full_since is None:
            self._full_since = self._loop.time()
            self._shared.is_crowded = True
            self._accept_off()
            self._make_room()

    def _make_room(self) -> None:
        """Close the connections that were idle or incomplete for longest, and abort connections that are closing."""
        patience, now = self._patience, self._loop.time()
        for connection, _ in _before(self._shared.leaving, now - patience.linger_for_room):
            if not connection.transport.get_write_buffer_size():
                connection.transport.abort()
        for connection, since in _before(self._shared.quiet, now - patience.shortest_for_room)[
            : 2 * MAX_CONNECTIONS_PER_TURN
        ]:
            if since > now - patience.for_room(connection):
                continue
            kind = connection.end()
            if kind is not None:
                self._shared.counts[f"ended_{kind}_for_room"] += 1

    def _go_on(self) -> None:
        """Resume accepting if the budget allows it; else answer 503 on connections that have waited too long."""
        now = self._loop.time()
        if self._room() > 0:
            self._full_since = None
            self._accept_on()
            return
        self._make_room()
        if self._full_since is not None and now - self._full_since > self._patience.waiting:
            for listener in self._sockets:
                for _ in range(self._shared.budget.surplus + self._room()):
                    if not self._take(listener, is_surplus=True):
                        break

    def _connection_ended(self) -> None:
        """Resume accepting if the ended connection made room in the budget."""
        if self._full_since is None:
            self._shared.is_crowded &= self._room() <= self._shared.budget.connections // 16
        elif self._room() > 0:
            self._go_on()

    # ----------------------------------------------------------------- sweeping

    def _sweep(self) -> None:
        """Close connections that exceed a time limit; runs once a second."""
        shared, now = self._shared, self._loop.time()
        for connection, since in _before(shared.quiet, now - self._patience.head):
            if connection.is_in_body and since > now - self._patience.body:
                continue
            kind = connection.end()
            if kind is not None:
                shared.counts[f"ended_{kind}"] += 1
        for connection, _ in _before(shared.unread, now - self._patience.unread):
            shared.counts["ended_unread"] += 1
            connection.transport.abort()
        for connection, since in _before(shared.leaving, now - self._patience.linger):
            if not connection.transport.get_write_buffer_size() or since < now - self._patience.unread:
                connection.transport.abort()
        self._report(now)

    def _report(self, now: float) -> None:
        counts = self._shared.counts
        if counts and now - self._reported_at >= REPORT_SECONDS:
            logger.warning(
                "connections_bounded", extra={**counts, "open_connections": len(self.server_state.connections)}
            )
            counts.clear()
            self._reported_at = now


class Answering:
    """ASGI wrapper that keeps the connection open after an unexpected error that was answered.

    Starlette raises an error again after its handler has logged and answered it. uvicorn would then close the
    connection, although the answer announced a kept connection.
    """

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._application(scope, receive, send)
        except Exception:
            cycle = getattr(send, "__self__", None)
            if not isinstance(cycle, RequestResponseCycle) or not cycle.response_complete:
                raise


def _before(book: dict[BoundedConnection, float], limit: float) -> list[tuple[BoundedConnection, float]]:
    """The entries with a time up to ``limit``, oldest first."""
    return list(takewhile(lambda entry: entry[1] <= limit, book.items()))
