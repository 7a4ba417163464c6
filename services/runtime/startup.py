"""The database of a worker: waits for an unavailable server at the start, and for a restored file while it runs.

While it waits, the worker answers /healthz with 200 and /readyz with 503, and logs one line for each attempt.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from services.api.app import waiting_app
from services.base.addresses import without_credentials
from services.base.settings import Settings
from services.domain.calls import RetryPolicy
from services.domain.errors import ConfigurationError
from services.http_server.process import serving
from state.engine.database import Database, sqlite_file
from state.engine.transactions import is_locked, is_passing
from state.schema import DatabaseUnsuitable, migrate

logger = logging.getLogger("holdfast.worker")

AGAIN = RetryPolicy(attempts=sys.maxsize, base_delay_seconds=0.5, max_delay_seconds=5.0)

RESTORED_SECONDS = 1.0
"""A restored file counts as complete when it has not changed for this long."""

FORBIDDEN = "42501"
"""SQLSTATE of an action that the role is not permitted."""


async def database_when_ready(settings: Settings, listener: socket.socket, stop: asyncio.Event) -> Database | None:
    """Return the database with its schema migrated; None when ``stop`` is set first.

    Raises ConfigurationError for a file or server that waiting cannot make usable.
    """
    reason = ""

    def latest_reason() -> str:
        return reason

    async with AsyncExitStack() as stack:
        attempts = 0
        while True:
            database = Database(
                settings.database, connections=settings.database_connections, pooler=settings.database_pooler
            )
            try:
                await asyncio.to_thread(migrate, database)
            except DatabaseUnsuitable as error:
                await asyncio.to_thread(database.close)
                raise ConfigurationError(f"DATABASE_URL: {error}") from None
            except DBAPIError as error:
                await asyncio.to_thread(database.close)
                reason = _reason(settings, database, error)
            else:
                return database
            attempts += 1
            delay = AGAIN.delay_seconds(attempts, random.random) or AGAIN.max_delay_seconds
            extra = {"reason": reason, "attempt": attempts, "again_in_seconds": round(delay, 1)}
            logger.warning("database_away", extra=extra)
            if attempts == 1:
                # The server closes its socket, so it gets a copy, and the address stays taken.
                await stack.enter_async_context(serving(waiting_app(latest_reason), listener.dup()))
            await _wait(stop, delay)
            if stop.is_set():
                return None


async def stopped_or_replaced(database: Database, stop: asyncio.Event) -> None:
    """Wait for the stop, or until a restored database file has replaced the one in use.

    The restored file needs a restart: its schema may be older, and the caches of this process do not match it.
    """
    before = None
    while not stop.is_set():
        if database.files is not None and database.files.problem is not None:
            now = database.files.restored()
            if now is not None and now == before:
                database.files.set_log_aside()
                return
            before = now
        await _wait(stop, RESTORED_SECONDS)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _reason(settings: Settings, database: Database, error: DBAPIError) -> str:
    """Return in one line why the database is unavailable; raises ConfigurationError when waiting does not help."""
    said = without_credentials(str(error.orig or error).strip().partition("\n")[0])
    if database.is_sqlite:
        if not is_locked(error.orig or error):
            raise ConfigurationError(_unusable(settings, str(sqlite_file(database.url)), said)) from None
    elif getattr(error.orig, "sqlstate", None) == FORBIDDEN:
        raise ConfigurationError(
            f"DATABASE_URL: the role may not bring the tables to the present version ({said});"
            " allowed: their owner (ALTER TABLE ... OWNER TO, or GRANT CREATE ON SCHEMA)"
        ) from None
    elif not is_passing(error):
        raise error
    return f"The database does not answer: {said}"


def _unusable(settings: Settings, path: str, said: str) -> str:
    is_in_data_dir = Path(path).resolve().parent == settings.data_dir.resolve()
    return (
        f"{'DATA_DIR' if is_in_data_dir else 'DATABASE_URL'}: {path!r} cannot be used ({said}); "
        "allowed: an SQLite database to read and write, in a directory to write to"
    )
