"""Read-only access to a database for audits, while other processes write."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, make_url

from state.engine.database import JSON_CODEC, SILENCE_SECONDS, sqlite_file

_FIRST_READ = {"sqlite": "SELECT count(*) FROM sqlite_master", "postgresql": "SELECT 1"}


@contextmanager
def read_only(url: str) -> Iterator[Connection]:
    """A connection with one snapshot of the database for all reads; raises FileNotFoundError.

    It changes nothing and creates no database: it is safe while services run and after they were killed.
    """
    engine = _sqlite(url) if make_url(url).get_backend_name() == "sqlite" else _server(url)
    try:
        with engine.connect() as connection, connection.begin():
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN")
            # A snapshot is taken by the first read, not by the beginning.
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
    from state.engine.watchdog import watch

    engine = create_engine(url, isolation_level="REPEATABLE READ", connect_args={"connect_timeout": 3}, **JSON_CODEC)
    return watch(engine, SILENCE_SECONDS).execution_options(postgresql_readonly=True)
