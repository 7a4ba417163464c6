"""Sessions on a PostgreSQL server: their settings, and the watchdog that ends calls on a silent link.

Settings are set when a session begins, so that defaults of server, role and pooler do not matter. A pooler in
transaction mode gives every transaction another session of the server, and session settings do not last. There the
settings are made in each transaction, and statements are not prepared.

The server applies ``statement_timeout``, so it has no effect when the link loses every byte. TCP keepalives only detect
a dead machine. So each wait on a connection is bounded, the ping of the pool included, and a link that stays silent
longer is closed. The call then fails as it does when the server closes the connection, and the pool opens a new one.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any

import psycopg
from psycopg.abc import RV, PQGen
from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import URL

ISOLATION = "READ COMMITTED"
"""The isolation level that all statements assume; psycopg sets it at the beginning of each transaction."""

RULES: Mapping[str, str] = {
    "timezone": "UTC",
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "standard_conforming_strings": "on",
    "bytea_output": "hex",
    "extra_float_digits": "1",
}
"""Formats of values; state/engine/database.py has the timeouts of a session."""


class Pooler(StrEnum):
    """The connection pooler in front of the server."""

    AUTO = "auto"
    """Detected on each connection: behind a pooler, the server process is not the one that accepted the connection."""
    TRANSACTION = "transaction"
    NONE = "none"


def connect_arguments(url: URL) -> dict[str, Any]:
    """Connection arguments that the URL does not contain: the encoding, and a session that can write."""
    pinned: dict[str, Any] = {"client_encoding": "utf8"}
    if "target_session_attrs" not in url.query:
        pinned["target_session_attrs"] = "read-write"
    return pinned


class SessionRules:
    """Applies the settings to every connection of an engine, or to every transaction behind a pooler."""

    def __init__(self, bounds: Mapping[str, object], pooler: Pooler) -> None:
        """``bounds`` are further settings of a session, with times in milliseconds."""
        self._pooler = pooler
        self._values = {**RULES, **{name: str(value) for name, value in bounds.items()}}

    def keep_on(self, engine: Engine) -> None:
        """Apply the settings to an engine. Call it once, before the first connection."""
        event.listen(engine, "begin", self._begin)

    def pin(self, connection: WatchedConnection) -> None:
        """Apply the settings to a new connection."""
        connection.autocommit = True
        if self._is_pooled(connection):
            connection.prepare_threshold = None
            connection.pooled_search_path = self._search_path(connection)
        else:
            connection.execute(*_setting(self._values, is_local=False))
        connection.autocommit = False

    def _is_pooled(self, connection: WatchedConnection) -> bool:
        if self._pooler is not Pooler.AUTO:
            return self._pooler is Pooler.TRANSACTION
        row = connection.execute("SELECT pg_backend_pid()").fetchone()
        return row is not None and row[0] != connection.info.backend_pid

    @staticmethod
    def _search_path(connection: WatchedConnection) -> str:
        # The default of the role and the database; another client of the pooler may have changed the session's value.
        row = connection.execute("SELECT reset_val FROM pg_settings WHERE name = 'search_path'").fetchone()
        return str(row[0]) if row else "public"

    def _begin(self, connection: Any) -> None:
        driver: WatchedConnection = connection.connection.driver_connection
        path = driver.pooled_search_path
        if path is not None:
            driver.execute(*_setting({**self._values, "search_path": path}, is_local=True))


def _setting(values: Mapping[str, str], *, is_local: bool) -> tuple[Any, list[object]]:
    calls = ", ".join(["set_config(%s, %s, %s)"] * len(values))
    return f"SELECT {calls}", [part for name, value in values.items() for part in (name, value, is_local)]


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
