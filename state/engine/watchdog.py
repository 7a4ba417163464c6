"""Ends calls on a PostgreSQL connection whose link has fallen silent.

The server applies ``statement_timeout``, so it has no effect when the link loses every byte. TCP keepalives only detect
a dead machine. So this module bounds each wait on a connection, the ping of the pool included, and closes a link that
stays silent longer. The call then fails as it does when the server closes the connection, and the pool opens a new one.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
from psycopg.abc import RV, PQGen
from sqlalchemy import Connection, Engine, event

CHECK_SECONDS = 0.1
"""How often a waiting call checks its deadline and pending interrupts."""

PING_SECONDS = 2.0
"""Timeout of the check of an idle connection; after it the pool makes a new connection."""


class LinkSilent(psycopg.OperationalError):
    """The server did not answer in time and the connection was closed; a running commit may have succeeded."""


class WatchedConnection(psycopg.Connection[Any]):
    """A connection on which no call waits longer than ``silence_seconds`` for the server; None: no limit."""

    silence_seconds: float | None = None
    pooled_search_path: str | None = None
    """The search_path that each transaction sets behind a pooler in transaction mode; None without such a pooler."""

    def wait(self, gen: PQGen[RV], interval: float = CHECK_SECONDS, timeout: float | None = None) -> RV:
        bound = self.silence_seconds if timeout is None else timeout
        began = time.monotonic()
        try:
            return super().wait(gen, interval, bound)
        except psycopg.OperationalError as error:
            if bound is None or time.monotonic() - began < bound:
                raise
            # Later bytes on this connection would belong to no call, so the connection is closed.
            self.pgconn.finish()
            raise LinkSilent(f"the database did not answer for {bound:g} s: its connection was shut") from error


def watch(
    engine: Engine, silence_seconds: float | None, prepare: Callable[[WatchedConnection], None] = lambda _: None
) -> Engine:
    """Watch every connection of the engine from its first statement; ``silence_seconds`` None turns the watchdog off.

    ``prepare`` is called with each new connection.
    """

    @event.listens_for(engine, "do_connect")
    def connect(_dialect: Any, _record: Any, arguments: Any, options: Any) -> WatchedConnection:
        connection = WatchedConnection.connect(*arguments, **options)
        connection.silence_seconds = silence_seconds
        try:
            prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    if silence_seconds is not None:
        _bound_the_ping(engine, min(silence_seconds, PING_SECONDS))
    return engine


def _bound_the_ping(engine: Engine, seconds: float) -> None:
    real = engine.dialect.do_ping

    def ping(dbapi_connection: Any) -> bool:
        with _bounded(dbapi_connection, seconds):
            return real(dbapi_connection)

    engine.dialect.do_ping = ping  # type: ignore[method-assign]


@contextlib.contextmanager
def unhurried(connection: Connection) -> Iterator[None]:
    """Statements in the block have no time limit: for migrations, which wait for each other."""
    watched: WatchedConnection = connection.connection.driver_connection  # type: ignore[assignment]
    with _bounded(watched, None):
        yield


@contextlib.contextmanager
def _bounded(watched: WatchedConnection, seconds: float | None) -> Iterator[None]:
    before = watched.silence_seconds
    watched.silence_seconds = seconds
    try:
        yield
    finally:
        watched.silence_seconds = before
