"""Pages of a list by key: what stands on one, and where the next and the previous one begin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

from state.keyset import Key, Slice

T = TypeVar("T")

PAGE_SIZE = 20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Paged(Generic[T]):
    """One page, newest first."""

    rows: tuple[T, ...]
    older: str | None
    """Where the next page begins, as it stands in an address."""
    newer: str | None
    looked_back_to: datetime | None = None
    """Rows older than this were not looked at yet; None when all were, or when the page is full."""


class ReadSlice(Protocol):
    """Reads rows by key, see state.keyset."""

    def __call__(self, limit: int, *, before: Key | None, after: Key | None) -> Slice: ...


def paged(
    read: ReadSlice,
    make: Callable[[Any], T],
    key_of: Callable[[Any], Key],
    parse: Callable[[str | None], Key | None],
    before: str | None,
    after: str | None,
) -> Paged[T]:
    """The page older than ``before``, or newer than ``after``, or the newest; cursors that are not ours are ignored."""
    start, end = parse(before), parse(after)
    if end is not None and start is None:
        found = read(PAGE_SIZE + 1, before=None, after=end)
        if len(found.rows) > PAGE_SIZE:
            rows = list(reversed(found.rows[:PAGE_SIZE]))
            return Paged(tuple(map(make, rows)), written(key_of(rows[-1])), written(key_of(rows[0])))
        # Too near the newest for a full page: the newest page itself is shown.
    found = read(PAGE_SIZE + 1, before=start, after=None)
    shown = found.rows[:PAGE_SIZE]
    older = key_of(shown[-1]) if len(found.rows) > PAGE_SIZE else found.frontier
    newer = (key_of(shown[0]) if shown else start) if start else None
    looked = next((part for part in found.frontier or () if isinstance(part, datetime)), None)
    return Paged(tuple(map(make, shown)), written(older) if older else None, written(newer) if newer else None, looked)


def written(key: Key) -> str:
    """A key as it stands in an address."""
    return "~".join(str((part - _EPOCH) // _MICROSECOND) if isinstance(part, datetime) else str(part) for part in key)


def time_and_text(text: str | None) -> Key | None:
    """``micros~id``; None when it is not one of ours."""
    micros, separator, identifier = (text or "").partition("~")
    if not separator or not identifier or not _is_number(micros) or len(identifier) > _LONGEST:
        return None
    return _EPOCH + int(micros) * _MICROSECOND, identifier


def time_and_number(text: str | None) -> Key | None:
    """``micros~number``; None when it is not one of ours."""
    key = time_and_text(text)
    return (key[0], int(key[1])) if key and _is_number(key[1]) else None


def number(text: str | None) -> Key | None:
    """``number``; None when it is not one of ours."""
    return (int(text),) if text and _is_number(text) else None


def _is_number(text: str) -> bool:
    return text.isdecimal() and text.isascii() and len(text) <= 17


def walk(read: ReadSlice, key_of: Callable[[Any], Key], limit: int) -> Sequence[Any]:
    """The newest rows, at most ``limit``, page by page; for files."""
    rows: list[Any] = []
    before: Key | None = None
    while len(rows) < limit:
        found = read(min(200, limit - len(rows)) + 1, before=before, after=None)
        size = min(200, limit - len(rows))
        rows += found.rows[:size]
        if len(found.rows) > size:
            before = key_of(found.rows[size - 1])
        elif found.frontier is not None:
            before = found.frontier
        else:
            break
    return rows
