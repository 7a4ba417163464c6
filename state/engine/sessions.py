"""Settings of a PostgreSQL session, set when it begins, so that defaults of server, role and pooler do not matter.

A pooler in transaction mode gives every transaction another session of the server, and session settings do not last.
There the settings are made in each transaction, and statements are not prepared.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, event
from sqlalchemy.engine import URL

if TYPE_CHECKING:
    from state.engine.watchdog import WatchedConnection

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
