"""Read access to a database that another process writes: for the console and for audits.

Source opens lazily, reopens after the file was replaced, and turns every driver error into SourceUnavailable
with a sentence for users.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, inspect, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from state.engine.database import JSON_CODEC, SILENCE_SECONDS, Database, sqlite_file
from state.engine.transactions import (
    NO_ANSWER,
    DatabaseClosed,
    DatabaseOverloaded,
    DatabaseReplaced,
    Transaction,
    failure_of,
    is_passing,
)

T = TypeVar("T")

CONNECTIONS = 4
"""Connections to a server; queries of the console are short."""

SCHEMA_TABLE = "alembic_version"
"""Migrations create this table first and fill it last."""


class SourceUnavailable(Exception):
    """The database cannot be read now; the message contains the reason."""


class Source:
    """Short reads and writes, from any thread, of a database that may be absent or not set up yet."""

    def __init__(self, url: str, pooler: str = "auto") -> None:
        self._url = url
        self._pooler = pooler
        self._path = sqlite_file(make_url(url))
        self._lock = threading.Lock()
        self._database: Database | None = None
        self._identity: tuple[int, int] | None = None

    def read(self, transaction: Transaction[T]) -> T:
        """Run a reading function; raises SourceUnavailable."""
        try:
            return self._open().read_now(transaction)
        except DatabaseReplaced as error:
            raise self._replaced(error) from error
        except (SQLAlchemyError, OSError, DatabaseClosed) as error:
            raise SourceUnavailable(self._sentence(error)) from error

    def write(self, transaction: Transaction[T]) -> T:
        """Run a writing function and commit; raises SourceUnavailable, after which nothing was written."""
        try:
            return self._open().write_now(transaction)
        except DatabaseReplaced as error:
            raise self._replaced(error) from error
        except (SQLAlchemyError, OSError, DatabaseClosed, DatabaseOverloaded) as error:
            raise SourceUnavailable(self._sentence(error)) from error

    def close(self) -> None:
        with self._lock:
            self._close()

    def _open(self) -> Database:
        with self._lock:
            identity = None
            if self._path is not None:
                # An open connection would keep reading a deleted file, and opening would create an empty file.
                status = self._path.stat()
                identity = status.st_dev, status.st_ino
            if self._database is None or identity != self._identity:
                self._close()
                self._database, self._identity = (
                    Database(self._url, connections=CONNECTIONS, pooler=self._pooler),
                    identity,
                )
            return self._database

    def _replaced(self, error: DatabaseReplaced) -> SourceUnavailable:
        """Convert an error to SourceUnavailable; the next read opens the present file."""
        self.close()
        return SourceUnavailable(f"{error}.")

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _sentence(self, error: Exception) -> str:
        if isinstance(error, FileNotFoundError) and self._identity is not None:
            return "The database file is gone."
        if isinstance(error, FileNotFoundError):
            return "The database does not exist yet; the worker makes it when it starts."
        if not isinstance(error, DBAPIError):
            return NO_ANSWER.sentence
        if is_passing(error):
            return failure_of(error).sentence
        if self._has_no_tables():
            return "The database has no tables yet; the worker makes them when it starts."
        return NO_ANSWER.sentence

    def _has_no_tables(self) -> bool:
        """Whether a table is missing; checked by a query, since SQLite has no error code for it."""
        try:
            return self._open().read_now(lambda connection: not inspect(connection).has_table(SCHEMA_TABLE))
        except (SQLAlchemyError, OSError, DatabaseClosed):
            return False


_FIRST_READ = {"sqlite": "SELECT count(*) FROM sqlite_master", "postgresql": "SELECT 1"}


@contextmanager
def read_only(url: str) -> Iterator[Connection]:
    """A connection whose reads all see one snapshot of the database; raises FileNotFoundError.

    It changes nothing and creates no database, so it is safe while services run and after they were killed.
    """
    engine = _sqlite(url) if make_url(url).get_backend_name() == "sqlite" else _server(url)
    try:
        with engine.connect() as connection, connection.begin():
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN")
            # The first read takes the snapshot; BEGIN does not.
            connection.exec_driver_sql(_FIRST_READ[connection.dialect.name])
            yield connection
    finally:
        engine.dispose()


def _sqlite(url: str) -> Engine:
    path = sqlite_file(make_url(url))
    if path is None or not path.is_file():
        raise FileNotFoundError(str(path))

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True, timeout=5.0)
        # By default the driver begins no transaction for reads.
        connection.isolation_level = None
        return connection

    return create_engine("sqlite://", creator=connect, **JSON_CODEC)


def _server(url: str) -> Engine:
    from state.engine.sessions import watch

    engine = create_engine(url, isolation_level="REPEATABLE READ", connect_args={"connect_timeout": 3}, **JSON_CODEC)
    return watch(engine, SILENCE_SECONDS).execution_options(postgresql_readonly=True)
