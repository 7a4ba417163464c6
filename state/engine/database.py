"""One relational database behind an async facade over synchronous transaction functions.

Callers pass ``fn(connection) -> result`` and await it. On SQLite, a single writer thread runs waiting functions one
after another, each in a savepoint, and commits them together (group commit), so that one fsync serves many callers. On
PostgreSQL, a few threads run one transaction each. The measured throughput is two to five times that of the async
drivers; see docs/adr/0003.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import orjson
from sqlalchemy import DateTime, Dialect, Engine, create_engine, event, make_url
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import URL, ExceptionContext

from services.base.context import carried
from state.engine.column_types import read_every_time, read_json_text, time_of_text
from state.engine.postgres import ConnectionShare, PooledTransactions
from state.engine.sqlite_files import OpenFiles
from state.engine.sqlite_group_commit import GroupCommitWriter
from state.engine.transactions import Kind, T, Transaction, Writer, failure_of, is_locked

SERVER_OPTIONS = {
    "statement_timeout": 5_000,
    "lock_timeout": 3_000,
    "idle_in_transaction_session_timeout": 15_000,
}
"""Bounds of every PostgreSQL session in milliseconds; state/engine/sessions.py has its other settings."""

SILENCE_SECONDS = 6.5
"""The server ends a statement after five seconds. After this time without bytes, the link counts as broken."""

CONNECT_SECONDS = 3
"""Timeout of a new connection to a server."""

KEEPALIVE = {"keepalives_idle": 10, "keepalives_interval": 3, "keepalives_count": 2, "tcp_user_timeout": 6_000}
"""Detects a dead server on idle connections too; libpq's names, in seconds, the last one in milliseconds."""

SERVER_CONNECTIONS = 12
"""Connections to a server of one process: eight writers, three readers, and one for threads without a loop."""

SQLITE_PATIENCE_SECONDS = 5.0

READ_SECONDS = 30.0
"""Maximum duration of a reading transaction on SQLite."""

READ_STEPS = 50_000
"""Steps of SQLite's virtual machine, a few milliseconds, between two checks of the deadline."""

LARGE_LOG_BYTES = 64 * 1024 * 1024
"""Size from which a write-ahead log is cut when no reader uses its old pages."""

SQLITE_PRAGMAS = (
    f"journal_size_limit={LARGE_LOG_BYTES}",
    "synchronous=FULL",
    "busy_timeout=5000",
    "foreign_keys=ON",
    "cache_size=-16384",  # KiB
    "wal_autocheckpoint=4000",  # pages
)

JSON_CODEC: dict[str, Any] = {
    "json_serializer": lambda value: orjson.dumps(value).decode(),
    "json_deserializer": read_json_text,
}


class _SqliteUtcDateTime(sqlite.DATETIME):
    """Times as text of fixed width, which sorts by time; the C code of datetime writes and reads it."""

    def bind_processor(self, dialect: Dialect) -> Callable[[datetime | None], str | None]:
        return _to_text

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[str | None], datetime | None]:
        return time_of_text


UtcDateTime = DateTime(timezone=True).with_variant(_SqliteUtcDateTime(), "sqlite")  # type: ignore[no-untyped-call]
"""Aware UTC datetimes, also on SQLite, which stores no time zones."""


def _to_text(value: datetime | None) -> str | None:
    if value is None:
        return None
    if value.tzinfo is None:
        raise ValueError(f"naive datetime {value!r}: only aware times are stored")
    return value.astimezone(UTC).isoformat(" ", "microseconds")[:26]


class Database:
    """Reads and writes of one database, from an event loop or from plain threads."""

    def __init__(
        self,
        url: str,
        *,
        readers: int = 3,
        writers: int = 8,
        connections: int = SERVER_CONNECTIONS,
        pooler: str = "auto",
        silence_seconds: float | None = SILENCE_SECONDS,
    ) -> None:
        """``silence_seconds``: how long a call waits for a PostgreSQL server that does not answer; None: no limit.

        ``connections``: the maximum number of connections to a server, which may grant fewer.
        """
        self.url = make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        path = sqlite_file(self.url)
        self.files = OpenFiles(path) if path is not None else None
        """For SQLite: detects whether the open file is still the file at its path."""
        self._write_engine = (
            _sqlite_engine(url, writes=True)
            if self.is_sqlite
            else _server_engine(self.url, connections, pooler, silence_seconds)
        )
        self._read_engine = _sqlite_engine(url, writes=False) if self.is_sqlite else self._write_engine
        if not self.is_sqlite:
            # With more threads than connections, threads would only wait for each other.
            readers = min(readers, max(1, connections - 2))
            writers = min(writers, max(1, connections - readers))
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="db-read") if self.is_sqlite else None
        share = ConnectionShare(self._write_engine)
        self._server_readers = None if self.is_sqlite else PooledTransactions(share, readers, "db-read")
        self._writer: Writer = (
            GroupCommitWriter(self._write_engine, self.files)
            if self.is_sqlite
            else PooledTransactions(share, writers, "db-write")
        )
        self._share = share

    @property
    def engine(self) -> Engine:
        """The writing engine, for migrations."""
        return self._write_engine

    def write(self, transaction: Transaction[T]) -> Coroutine[Any, Any, T]:
        """Run a transaction function; returns after its commit is durable.

        An exception of the function rolls back its own changes only. Cancelling the caller does not roll back a
        transaction that has begun.
        """
        return self._writer.run(carried(transaction))

    async def read(self, transaction: Transaction[T]) -> T:
        """Run a reading function on a reader thread."""
        if self._server_readers is not None:
            return await self._server_readers.run(transaction)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self.read_now, transaction)

    def write_now(self, transaction: Transaction[T]) -> T:
        """Blocking form of write(), for threads that run no event loop."""
        return self._writer.submit(transaction).result()

    def read_now(self, transaction: Transaction[T]) -> T:
        """Blocking form of read(): runs on the calling thread."""
        if not self.is_sqlite:
            return self._share.run(transaction)
        if self.files is not None:
            self.files.check()
        with (
            self._read_engine.connect() as connection,
            connection.begin(),
            _bounded(connection.connection.driver_connection),
        ):
            connection.exec_driver_sql("BEGIN")
            found = transaction(connection)
            if self.files is not None:
                self.files.watch()
            return found

    def shorten_log(self) -> int:
        """Blocking: write a large write-ahead log back and cut it; returns its size in bytes, 0 on a server.

        A reader that began earlier may prevent the cut; this call does not wait for that reader.
        """
        path = sqlite_file(self.url)
        if path is None or self.files is None or self.files.problem is not None:
            return 0
        log = path.with_name(f"{path.name}-wal")
        if not log.exists() or log.stat().st_size <= LARGE_LOG_BYTES:
            return 0
        with self._write_engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA busy_timeout=50")
            try:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").all()
            finally:
                connection.exec_driver_sql("PRAGMA busy_timeout=5000")
        return log.stat().st_size if log.exists() else 0

    def close(self, patience_seconds: float | None = None) -> None:
        """Finish accepted transactions, refuse new ones, and close every connection.

        Waits at most ``patience_seconds`` for a server that does not answer, and without a limit for a file.
        """
        if isinstance(self._writer, PooledTransactions):
            self._writer.close(patience_seconds)
        else:
            self._writer.close()
        if self._readers is not None:
            self._readers.shutdown(wait=True)
        if self._server_readers is not None:
            self._server_readers.close(patience_seconds)
        if self.files is not None and self.files.problem is not None and self.files.is_log_foreign:
            # Closing the last connection would delete a foreign log.
            return
        self._write_engine.dispose()
        if self._read_engine is not self._write_engine:
            self._read_engine.dispose()
        if self.files is not None:
            self.files.close()


def sqlite_file(url: URL) -> Path | None:
    """The file of an SQLite database; None for a database in memory or on a server."""
    named = url.database
    if url.get_backend_name() != "sqlite" or not named or named == ":memory:":
        return None
    if url.query.get("uri") and named.startswith("file:"):
        return Path(unquote(named.removeprefix("file:")))
    return Path(named)


def _sqlite_engine(url: str, *, writes: bool) -> Engine:
    path = sqlite_file(make_url(url))
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, pool_size=8, max_overflow=0, **JSON_CODEC)

    @event.listens_for(engine, "connect")
    def configure(dbapi_connection: Any, _record: Any) -> None:
        # Otherwise the driver would begin transactions by its own rules. Transactions are begun explicitly and not
        # by an event of the engine, because every statement would then check for listeners.
        dbapi_connection.isolation_level = None
        _write_ahead(dbapi_connection)
        for pragma in (*SQLITE_PRAGMAS, *(() if writes else ("query_only=ON",))):
            dbapi_connection.execute(f"PRAGMA {pragma}")

    return engine


@contextmanager
def _bounded(driver: Any) -> Iterator[None]:
    """End statements of a reader that exceeds its time, because the write-ahead log grows while it reads."""
    deadline = time.monotonic() + READ_SECONDS
    driver.set_progress_handler(lambda: time.monotonic() > deadline, READ_STEPS)
    try:
        yield
    finally:
        driver.set_progress_handler(None, 0)


def _write_ahead(connection: sqlite3.Connection) -> None:
    # SQLite does not wait for a lock here, so two processes that open a new database at the same time may conflict.
    deadline = time.monotonic() + SQLITE_PATIENCE_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if not is_locked(error) or time.monotonic() >= deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _server_engine(url: URL, connections: int, pooler: str, silence_seconds: float | None) -> Engine:
    # Imported here: loading the driver takes a tenth of a second, and SQLite does not need it.
    from state.engine.sessions import ISOLATION, Pooler, SessionRules, connect_arguments, watch

    read_every_time()
    engine = create_engine(
        url,
        **JSON_CODEC,
        isolation_level=ISOLATION,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=CONNECT_SECONDS,
        pool_pre_ping=True,
        pool_recycle=1800,
        connect_args={"connect_timeout": CONNECT_SECONDS, **KEEPALIVE, **connect_arguments(url)},
    )
    rules = SessionRules(SERVER_OPTIONS, Pooler(pooler))
    rules.keep_on(engine)
    event.listen(engine, "handle_error", _drop_the_session)
    return watch(engine, silence_seconds, rules.pin)


def _drop_the_session(context: ExceptionContext) -> None:
    """Replace all connections after one session failed, because a fail-over affects them all."""
    original = context.original_exception
    if original is not None and getattr(original, "sqlstate", None) and failure_of(original).kind is Kind.LOST:
        context.is_disconnect = True


@contextmanager
def opened(url: str) -> Iterator[Database]:
    """A Database that is closed at the end of the block."""
    database = Database(url)
    try:
        yield database
    finally:
        database.close()
