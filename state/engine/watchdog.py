"""Ending calls on a PostgreSQL connection whose link has gone silent.

``statement_timeout`` runs on the server and has no effect when the link loses every byte; TCP keepalives only detect
a dead machine. So each wait on a connection is bounded here, the ping of the pool included, and a link that stays
silent longer is closed. The call then fails as it does when the server closes the connection, and the pool opens a
new one.
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
"""How often a waiting call checks the deadline and interrupts."""

PING_SECONDS = 2.0
"""How long a connection that was idle may take to show that it still works; then a new one is made."""


class LinkSilent(psycopg.OperationalError):
    """The server did not answer in time and the connection was shut; a commit under way may have happened."""


class WatchedConnection(psycopg.Connection[Any]):
    """A connection on which no call waits for the server longer than ``silence_seconds``; None: for ever."""

    silence_seconds: float | None = None
    pooled_search_path: str | None = None
    """The search_path that each transaction sets behind a pooler in transaction mode; else None."""

    def wait(self, gen: PQGen[RV], interval: float = CHECK_SECONDS, timeout: float | None = None) -> RV:
        bound = self.silence_seconds if timeout is None else timeout
        began = time.monotonic()
        try:
            return super().wait(gen, interval, bound)
        except psycopg.OperationalError as error:
            if bound is None or time.monotonic() - began < bound:
                raise
            # Later bytes on this connection belong to no call.
            self.pgconn.finish()
            raise LinkSilent(f"the database did not answer for {bound:g} s: its connection was shut") from error


def watch(
    engine: Engine, silence_seconds: float | None, prepare: Callable[[WatchedConnection], None] = lambda _: None
) -> Engine:
    """Watch every connection of the engine from its first statement; None turns the watchdog off.

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
    """Statements in the block may take as long as they take: for migrations, which wait for each other."""
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
