"""Rows as dataclasses, and the statements that the aggregates share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Connection, Select, Table, delete, func, insert, literal, select, update
from sqlalchemy.dialects import postgresql, sqlite

R = TypeVar("R")
Condition = Any
"""A condition on rows; that of a partial index is a text."""

_DIALECTS: Mapping[str, Any] = {"sqlite": sqlite, "postgresql": postgresql}


class Rows(Generic[R]):
    """Reads and writes rows of a table as a dataclass: each field has the column of its name.

    ``named`` has the column or the expression of each other field. An expression is only read.
    """

    def __init__(self, table: Table, of: Callable[..., R], **named: str | ColumnElement[Any]) -> None:
        self._table = table
        self._of = of
        names = {field.name: named.get(field.name, field.name) for field in fields(of)}  # type: ignore[arg-type]
        self._written = {field: name for field, name in names.items() if isinstance(name, str)}
        self.columns: list[Any] = [table.c[name] if isinstance(name, str) else name for name in names.values()]

    def values(self, item: R) -> dict[str, Any]:
        """The values of the columns of an item."""
        return {column: getattr(item, field) for field, column in self._written.items()}

    def add(self, connection: Connection, *items: R) -> None:
        """Insert items; without items nothing happens."""
        if items:
            connection.execute(insert(self._table), [self.values(item) for item in items])

    def one(self, connection: Connection, *conditions: Condition) -> R | None:
        """The only row that matches, or None."""
        row = connection.execute(select(*self.columns).where(*conditions)).one_or_none()
        return self._of(*row) if row else None

    def some(
        self, connection: Connection, *conditions: Condition, order: Sequence[Any], limit: int, offset: int = 0
    ) -> list[R]:
        """The first ``limit`` rows that match."""
        statement = select(*self.columns).where(*conditions).order_by(*order).limit(limit)
        return self.read(connection, statement.offset(offset) if offset else statement)

    def read(self, connection: Connection, statement: Select[Any]) -> list[R]:
        """The rows of a statement that selects ``columns``."""
        return [self._of(*row) for row in connection.execute(statement)]


def change(connection: Connection, table: Table, /, *conditions: Condition, **values: Any) -> int:
    """Update the rows that match; returns how many."""
    return connection.execute(update(table).where(*conditions).values(values)).rowcount


def remove(connection: Connection, table: Table, /, *conditions: Condition) -> int:
    """Delete the rows that match; returns how many."""
    return connection.execute(delete(table).where(*conditions)).rowcount


def count(connection: Connection, table: Table, /, *conditions: Condition, up_to: int | None = None) -> int:
    """The number of rows that match, counted up to a limit if there is one."""
    if up_to is None:
        return connection.scalar(select(func.count()).select_from(table).where(*conditions)) or 0
    some = select(literal(1)).select_from(table).where(*conditions).limit(up_to).subquery()
    return connection.scalar(select(func.count()).select_from(some)) or 0


def count_by(connection: Connection, column: Any, *conditions: Condition) -> dict[Any, int]:
    """The number of rows that match for each value of a column."""
    statement = select(column, func.count()).where(*conditions).group_by(column)
    return dict(connection.execute(statement).all())


def versions(
    connection: Connection, key: Any, version: Any, state: Any, keys: Sequence[str]
) -> dict[str, tuple[int, str]]:
    """Version and state of the rows with the given keys, from three columns of a table."""
    return {row[0]: (row[1], row[2]) for row in connection.execute(select(key, version, state).where(key.in_(keys)))}


def has_any(connection: Connection, table: Table, /, *conditions: Condition) -> bool:
    """Whether a row matches."""
    return connection.scalar(select(literal(1)).select_from(table).where(*conditions).limit(1)) is not None


def insert_new(connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Insert a row; False when its primary key is stored already."""
    key = table.primary_key.columns
    new = _DIALECTS[connection.dialect.name].insert(table).values(row).on_conflict_do_nothing(index_elements=key)
    # Some drivers do not return the number of inserted rows.
    return connection.execute(new.returning(*key)).first() is not None


def put(connection: Connection, table: Table, *rows: Mapping[str, Any], newer_by: str | None = None) -> bool:
    """Insert rows or replace those with their primary keys; returns whether one was stored.

    With ``newer_by``, a row replaces none whose value of this column is greater. One statement: of two concurrent
    writers, the newer row remains.
    """
    if not rows:
        return False
    statement = _put(table, connection.dialect.name, tuple(rows[0]), newer_by)
    return connection.execute(statement, list(rows)).first() is not None


@cache
def _put(table: Table, dialect: str, names: Sequence[str], newer_by: str | None) -> Any:
    key = table.primary_key.columns
    new = _DIALECTS[dialect].insert(table)
    return new.on_conflict_do_update(
        index_elements=key,
        set_={name: new.excluded[name] for name in names if name not in key},
        where=None if newer_by is None else table.c[newer_by] <= new.excluded[newer_by],
    ).returning(*key)


def claim(
    connection: Connection, table: Table, /, *conditions: Condition, order: Sequence[Any], limit: int, **values: Any
) -> Sequence[Any]:
    """Change the first rows that match and that no other transaction has locked; returns their keys."""
    (key,) = table.primary_key.columns
    free = select(key).where(*conditions).order_by(*order).limit(limit).with_for_update(skip_locked=True)
    # Read by a statement of its own, because PostgreSQL could run a locking subselect twice.
    keys = connection.scalars(free).all()
    if keys:
        change(connection, table, key.in_(keys), **values)
    return keys
