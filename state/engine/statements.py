"""Frequent statements of the order path, compiled once.

For a small statement, SQLAlchemy's execution costs twice as much as SQLite itself. So on SQLite, Prepared keeps the
text that SQLAlchemy compiled and the converters of the column types, and calls the driver directly. On other databases,
SQLAlchemy executes the statement. See docs/adr/0003.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.compiler import SQLCompiler

Values = Mapping[str, Any]
Converter = Callable[[Any], Any]


class Prepared:
    """One statement with named parameters only, run with plain values.

    ``columns`` names the columns of an insert. It raises the errors of SQLAlchemy, like Connection.execute.
    """

    def __init__(self, statement: Executable, columns: Sequence[str] | None = None) -> None:
        self._statement = statement
        self._columns = columns
        self._on_sqlite: _OnSqlite | None = None

    def run(self, connection: Connection, values: Values) -> int:
        """Run the statement; returns the number of rows written. For inserts it differs between the drivers."""
        if connection.dialect.name != "sqlite":
            return connection.execute(self._statement, values).rowcount
        return self._prepared(connection.dialect).execute(connection, values).rowcount

    def run_many(self, connection: Connection, rows: Sequence[Values]) -> None:
        """Run the statement once for each row; without rows nothing happens."""
        if not rows:
            return
        if connection.dialect.name != "sqlite":
            connection.execute(self._statement, list(rows))
        else:
            self._prepared(connection.dialect).execute_many(connection, rows)

    def fetch(self, connection: Connection, values: Values) -> list[Any]:
        """All rows, as tuples with the types of the columns."""
        if connection.dialect.name != "sqlite":
            return list(connection.execute(self._statement, values))
        prepared = self._prepared(connection.dialect)
        return prepared.read(prepared.execute(connection, values))

    def _prepared(self, dialect: Dialect) -> _OnSqlite:
        # When two threads are first at the same time, both prepare the same statement.
        if self._on_sqlite is None:
            self._on_sqlite = _OnSqlite(self._statement, self._columns, dialect)
        return self._on_sqlite


class _OnSqlite:
    def __init__(self, statement: Executable, columns: Sequence[str] | None, dialect: Dialect) -> None:
        keys = list(columns) if columns is not None else None
        compiled = statement.compile(dialect=dialect, column_keys=keys)  # type: ignore[attr-defined]
        assert isinstance(compiled, SQLCompiler)  # noqa: S101 - what statements compile to
        self._text = str(compiled)
        converters: Mapping[str, Any] = compiled._bind_processors  # noqa: SLF001 - what execution itself uses
        names = compiled.positiontup or ()
        self._binds: list[tuple[str, Converter | None]] = [(name, converters.get(name)) for name in names]
        self._fixed = {name: compiled.binds[name].value for name in names if not compiled.binds[name].required}
        self._reads: list[tuple[int, Converter]] = [
            (place, converter)
            for place, column in enumerate(compiled._result_columns)  # noqa: SLF001 - as above
            if (converter := column.type._cached_result_processor(dialect, None)) is not None  # noqa: SLF001
        ]

    def execute(self, connection: Connection, values: Values) -> sqlite3.Cursor:
        parameters = self._parameters(values)
        try:
            return _driver(connection).execute(self._text, parameters)
        except sqlite3.Error as error:
            raise self._wrapped(error, parameters) from error

    def execute_many(self, connection: Connection, rows: Sequence[Values]) -> None:
        parameters = [self._parameters(row) for row in rows]
        try:
            _driver(connection).executemany(self._text, parameters)
        except sqlite3.Error as error:
            raise self._wrapped(error, parameters) from error

    def read(self, cursor: sqlite3.Cursor) -> list[Any]:
        rows = cursor.fetchall()
        if not self._reads:
            return rows
        converted = []
        for row in rows:
            values = list(row)
            for place, converter in self._reads:
                values[place] = converter(values[place])
            converted.append(tuple(values))
        return converted

    def _parameters(self, values: Values) -> tuple[Any, ...]:
        if self._fixed:
            values = {**self._fixed, **values}
        return tuple([convert(values[name]) if convert else values[name] for name, convert in self._binds])

    def _wrapped(self, error: sqlite3.Error, parameters: Any) -> BaseException:
        return DBAPIError.instance(self._text, parameters, error, sqlite3.Error)


def _driver(connection: Connection) -> sqlite3.Connection:
    driver: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
    return driver
