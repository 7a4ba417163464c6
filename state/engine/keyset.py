"""Keyset pagination: the cost of a page does not depend on the length of the list.

A filter without an index is applied to a window of the next rows only. When the window holds less than a page, the
answer contains the last key that was read, and the next page continues from that key.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, case, func, literal, or_, select
from sqlalchemy.sql.base import ReadOnlyColumnCollection

WINDOW = 5_000
"""Rows that one page reads for a filter without an index."""

FIRST_WINDOW = 250
"""Size of the first window. For a frequent value, these rows fill the page."""

Key = tuple[Any, ...]
Columns = ReadOnlyColumnCollection[str, Any]
Residual = Callable[[Columns], list[ColumnElement[bool]]]
"""Conditions on the rows of the window, given its columns."""


@dataclass(frozen=True, slots=True)
class Slice:
    """Some rows of a list, in its order."""

    rows: Sequence[Any]
    frontier: Key | None = None
    """The key of the last row read, when the window ended before the page was full and more rows may follow."""


@dataclass(frozen=True, slots=True)
class Keyset:
    """A list in the order of its key, newest first: its columns, and the conditions that an index serves."""

    columns: Sequence[Any]
    key: Sequence[ColumnElement[Any]]
    """Columns of the table that are unique together. They are among ``columns``, under their own names."""
    driving: Sequence[ColumnElement[bool]] = ()
    """Conditions that an index serves in the order of the key."""
    residual: Residual | None = None
    window: int = WINDOW

    def page(self, connection: Connection, limit: int, *, before: Key | None = None, after: Key | None = None) -> Slice:
        """The rows next older than ``before``, or next newer than ``after`` (nearest first), else the newest rows."""
        backwards = after is not None and before is None
        start = after if backwards else before
        walk = self._walk(start, backwards=backwards)
        if self.residual is None:
            return Slice(connection.execute(walk.limit(limit)).all())
        rows: Sequence[Row[Any]] = ()
        for window in (min(FIRST_WINDOW, self.window), self.window):
            looked_at = walk.limit(window).subquery("looked_at")
            order = _ordered([looked_at.c[str(column.key)] for column in self.key], backwards=backwards)
            matching = select(looked_at).where(*self.residual(looked_at.c)).order_by(*order).limit(limit)
            rows = connection.execute(matching).all()
            if len(rows) >= limit:
                return Slice(rows)
        last = walk.with_only_columns(*self.key).offset(self.window - 1).limit(1)
        end = connection.execute(last).first()
        return Slice(rows, tuple(end) if end else None)

    def count(self, connection: Connection, limit: int) -> tuple[int, bool]:
        """The number of rows, counted up to ``limit`` and within one window, and whether there may be more."""
        walk = self._walk(None, backwards=False)
        if self.residual is None:
            found = connection.scalar(select(func.count()).select_from(walk.limit(limit).subquery())) or 0
            return found, found >= limit
        looked_at = walk.limit(self.window).subquery("looked_at")
        matches = case((and_(*self.residual(looked_at.c)), 1))
        seen, found = connection.execute(select(func.count(), func.count(matches)).select_from(looked_at)).one()
        return min(found, limit), found >= limit or seen >= self.window

    def count_above(self, connection: Connection, start: Key, limit: int) -> int:
        """The number of rows above ``page(before=start)``, counted up to ``limit`` and within one window."""
        walk = self._walk(None, backwards=True).where(*_at_or_beyond(self.key, start))
        if self.residual is None:
            some = walk.with_only_columns(*self.key).limit(limit).subquery()
        else:
            looked_at = walk.limit(self.window).subquery("looked_at")
            some = select(literal(1)).select_from(looked_at).where(*self.residual(looked_at.c)).limit(limit).subquery()
        return connection.scalar(select(func.count()).select_from(some)) or 0

    def _walk(self, start: Key | None, *, backwards: bool) -> Select[Any]:
        conditions = [*self.driving, *(_beyond(self.key, start, newer=backwards) if start else ())]
        return select(*self.columns).where(*conditions).order_by(*_ordered(self.key, backwards=backwards))


def _ordered(key: Sequence[ColumnElement[Any]], *, backwards: bool) -> list[ColumnElement[Any]]:
    return [column.asc() if backwards else column.desc() for column in key]


def _at_or_beyond(key: Sequence[ColumnElement[Any]], start: Key) -> list[ColumnElement[bool]]:
    """Conditions for rows that are not older than ``start``."""
    first, value = key[0], start[0]
    if len(key) == 1:
        return [first >= value]
    (second,), (other,) = key[1:], start[1:]
    # The first condition alone lets the database start the index scan at the right row.
    return [first >= value, or_(first > value, second >= other)]


def _beyond(key: Sequence[ColumnElement[Any]], start: Key, *, newer: bool) -> list[ColumnElement[bool]]:
    first, value = key[0], start[0]
    if len(key) == 1:
        return [first > value if newer else first < value]
    (second,), (other,) = key[1:], start[1:]
    tie = and_(first == value, second > other if newer else second < other)
    # The first condition alone lets the database start the index scan at the right row.
    if newer:
        return [first >= value, or_(first > value, tie)]
    return [first <= value, or_(first < value, tie)]
