"""Pages of a list by key: the rows of a page, the keys of its neighbours, and the new rows above a paused page."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

import orjson
from sqlalchemy import Connection

from state.engine.keyset import Key, Keyset, Slice

T = TypeVar("T")

PAGE_SIZE = 20
NEW_LIMIT = 100
"""Maximum to which new rows above a paused list are counted."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LAST = datetime.max.replace(tzinfo=UTC)
_LONGEST = 200


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
    """A list in the order of its key, newest first; see state.engine.keyset."""

    def page(self, limit: int, *, before: Key | None = None, after: Key | None = None) -> Slice:
        """The rows next older than ``before``, or next newer than ``after`` (nearest first), or the newest."""

    def count_above(self, start: Key, limit: int) -> int:
        """Rows above a page that begins before ``start``, counted up to ``limit``."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A list that one Keyset describes, over one connection."""

    connection: Connection
    keyset: Keyset

    def page(self, limit: int, *, before: Key | None = None, after: Key | None = None) -> Slice:
        return self.keyset.page(self.connection, limit, before=before, after=after)

    def count_above(self, start: Key, limit: int) -> int:
        return self.keyset.count_above(self.connection, start, limit)


def paged(
    listed: Listed,
    make: Callable[[Any], T],
    key_of: Callable[[Any], Key],
    parse: Callable[[str | None], Key | None],
    place: Place = NEWEST,
) -> Paged[T]:
    """The page at a place."""
    start, end, top = parse(place.before), parse(place.after), parse(place.paused_at)
    if end is not None and start is None:
        found = listed.page(PAGE_SIZE + 1, after=end)
        if len(found.rows) > PAGE_SIZE:
            rows = list(reversed(found.rows[:PAGE_SIZE]))
            return Paged(tuple(map(make, rows)), written(key_of(rows[-1])), written(key_of(rows[0])))
        # With less than a full page of newer rows, the newest page is returned.
    found = listed.page(PAGE_SIZE + 1, before=start or top)
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
        new=listed.count_above(top, NEW_LIMIT) if top and start is None else 0,
    )


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


def time_and_text(text: str | None) -> Key | None:
    """Parse ``micros~id``; None for any other text."""
    micros, separator, identifier = (text or "").partition("~")
    if not separator or not identifier or not _is_number(micros) or len(identifier) > _LONGEST:
        return None
    try:
        return _EPOCH + int(micros) * _MICROSECOND, identifier
    except OverflowError:
        return None


def time_and_number(text: str | None) -> Key | None:
    """Parse ``micros~number``; None for any other text."""
    key = time_and_text(text)
    return (key[0], int(key[1])) if key and _is_number(key[1]) else None


def number(text: str | None) -> Key | None:
    """Parse ``number``; None for any other text."""
    return (int(text),) if text and _is_number(text) else None


def _is_number(text: str) -> bool:
    return text.isdecimal() and text.isascii() and len(text) <= 17


def walk(listed: Listed, key_of: Callable[[Any], Key], limit: int) -> Sequence[Any]:
    """Up to ``limit`` newest rows for a file, read page by page."""
    rows: list[Any] = []
    before: Key | None = None
    while len(rows) < limit:
        size = min(200, limit - len(rows))
        found = listed.page(size + 1, before=before)
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
