"""Pages of a list by key: the rows of a page, the keys of its neighbours, and the new rows above a paused page."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

import orjson
from sqlalchemy import ColumnElement, Connection

from state.engine.keyset import Key, Slice

T = TypeVar("T")

PAGE_SIZE = 20
NEW_LIMIT = 100
"""Maximum to which new rows above a paused list are counted."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LAST = datetime.max.replace(tzinfo=UTC)
_LONGEST, _MOST_DIGITS = 200, 17


@dataclass(frozen=True, slots=True)
class Place:
    """The place in a list at which a page begins, as written in an address. Without any part it is the newest row.

    A part that cannot be parsed is ignored. Of several parts, the first in this order is used.
    """

    before: str | None = None
    """The page has the rows next older than this key."""
    after: str | None = None
    """The page has the rows next newer than this key."""
    paused_at: str | None = None
    """The page has the newest rows below this key, which was the top of the list when its updates were paused."""


NEWEST = Place()


@dataclass(frozen=True, slots=True)
class Paged(Generic[T]):
    """One page, newest first."""

    rows: tuple[T, ...]
    older: str | None
    """Where the next page begins, as written in an address."""
    newer: str | None
    looked_back_to: datetime | None = None
    """The search has not read rows older than this. None if it has read all rows, or if the page is full."""
    top: str | None = None
    """The ``paused_at`` that keeps this page as it is; None for an older page and for an empty list."""
    new: int = 0
    """Rows above the place at which the updates were paused, counted up to NEW_LIMIT."""


def with_rows(page: Paged[Any], rows: Sequence[T]) -> Paged[T]:
    """The page with other values in place of its rows."""
    return Paged(tuple(rows), page.older, page.newer, page.looked_back_to, page.top, page.new)


class Listed(Protocol):
    """A list in the order of its key, newest first, such as a Keyset."""

    @property
    def key(self) -> Sequence[ColumnElement[Any]]:
        """The columns of the key; a row has an attribute of the name of each."""

    def page(self, connection: Connection, limit: int, *, before: Key | None = None, after: Key | None = None) -> Slice:
        """The rows next older than ``before``, or next newer than ``after`` (nearest first), or the newest."""

    def count_above(self, connection: Connection, start: Key, limit: int) -> int:
        """Rows above a page that begins before ``start``, counted up to ``limit``."""


def paged(connection: Connection, listed: Listed, make: Callable[[Any], T], place: Place = NEWEST) -> Paged[T]:
    """The page at a place."""
    start, end, top = (parsed(listed.key, text) for text in (place.before, place.after, place.paused_at))
    key_of = _key_reader(listed)
    if end is not None and start is None:
        found = listed.page(connection, PAGE_SIZE + 1, after=end)
        if len(found.rows) > PAGE_SIZE:
            rows = list(reversed(found.rows[:PAGE_SIZE]))
            return Paged(tuple(map(make, rows)), written(key_of(rows[-1])), written(key_of(rows[0])))
        # With less than a full page of newer rows, the newest page is returned.
    found = listed.page(connection, PAGE_SIZE + 1, before=start or top)
    shown = found.rows[:PAGE_SIZE]
    older = key_of(shown[-1]) if len(found.rows) > PAGE_SIZE else found.frontier
    newer = (key_of(shown[0]) if shown else start) if start else None
    first = None if start else top or (_above(key_of(shown[0])) if shown else None)
    return Paged(
        rows=tuple(map(make, shown)),
        older=written(older) if older else None,
        newer=written(newer) if newer else None,
        looked_back_to=next((part for part in found.frontier or () if isinstance(part, datetime)), None),
        top=written(first) if first else None,
        new=listed.count_above(connection, top, NEW_LIMIT) if top and start is None else 0,
    )


def _key_reader(listed: Listed) -> Callable[[Any], Key]:
    names = [str(column.key) for column in listed.key]
    return lambda row: tuple(getattr(row, name) for name in names)


def _above(key: Key) -> Key:
    """The lowest place above a row: every other row is either below it or newer than the row."""
    first, *others = key
    if isinstance(first, datetime):
        # The last representable instant has no later one.
        above = first + _MICROSECOND if first < _LAST else first
        return above, *("0" if isinstance(part, str) else 0 for part in others)
    return (first + 1,)


def written(key: Key) -> str:
    """A key as written in an address."""
    return "~".join(str((part - _EPOCH) // _MICROSECOND) if isinstance(part, datetime) else str(part) for part in key)


def parsed(columns: Sequence[ColumnElement[Any]], text: str | None) -> Key | None:
    """The key of these columns that is written as ``text``; None for any other text."""
    parts = (text or "").split("~", len(columns) - 1)
    try:
        return tuple(_part(part, column.type.python_type) for part, column in zip(parts, columns, strict=True))
    except (ValueError, OverflowError):
        return None


def _part(text: str, kind: type[Any]) -> datetime | int | str:
    """Raises ValueError and OverflowError."""
    if kind is str and 0 < len(text) <= _LONGEST:
        return text
    if kind is str or not text.isdecimal() or not text.isascii() or len(text) > _MOST_DIGITS:
        raise ValueError(text)
    return _EPOCH + int(text) * _MICROSECOND if kind is datetime else int(text)


def walk(connection: Connection, listed: Listed, limit: int) -> Sequence[Any]:
    """Up to ``limit`` newest rows for a file, read page by page."""
    key_of = _key_reader(listed)
    rows: list[Any] = []
    before: Key | None = None
    while len(rows) < limit:
        size = min(200, limit - len(rows))
        found = listed.page(connection, size + 1, before=before)
        rows += found.rows[:size]
        if len(found.rows) > size:
            before = key_of(found.rows[size - 1])
        elif found.frontier is not None:
            before = found.frontier
        else:
            break
    return rows


MAX_ROWS = 5000
"""Maximum rows of one file."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """The file with its header; times are ISO 8601 in UTC."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([_cell(value) for value in row])
    return out.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, (dict, list)):
        value = orjson.dumps(value).decode()
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return "" if value is None else value
