"""Column types that read any stored value: one invalid value never makes its row or a list unreadable.

Values are validated on input. A row may still hold invalid ones, written by an earlier version or by hand, or
restored from a backup. A time outside the years 1 to 9999 is read as the nearest valid one, an unparsable time as
year 1, and JSON of another shape as ``{"unreadable": ...}``.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, ClassVar

import orjson
from sqlalchemy import JSON, Dialect, String, TypeDecorator

EARLIEST = datetime.min.replace(tzinfo=UTC)
LATEST = datetime.max.replace(microsecond=999_000, tzinfo=UTC)

MAX_SHOWN = 200
"""Characters of an unreadable value that are kept for display."""


class Unreadable(dict[str, Any]):
    """Replaces JSON that does not have the structure of its column; no decision may depend on its content."""

    def __init__(self, content: object) -> None:
        super().__init__(unreadable=str(content)[:MAX_SHOWN])


def read_json_text(content: str | bytes) -> Any:
    """Parse stored JSON; invalid JSON is read as Unreadable."""
    try:
        return orjson.loads(content)
    except ValueError:
        return Unreadable(content)


class JsonObject(TypeDecorator[dict[str, Any]]):
    """A JSON object; anything else is read as Unreadable, a missing one as None where the column allows it."""

    impl = JSON
    cache_ok = True

    def __init__(self, none_as_null: bool = False) -> None:
        super().__init__(none_as_null=none_as_null)
        self.none_as_null = none_as_null

    def process_result_value(self, value: Any, dialect: Dialect) -> dict[str, Any] | None:
        if value is None and self.none_as_null:
            return None
        return value if isinstance(value, dict) else Unreadable(value)


class JsonCounts(JsonObject):
    """A JSON object of integers; values of another type are left out."""

    cache_ok = True

    def process_result_value(self, value: Any, dialect: Dialect) -> dict[str, int]:
        counts = value if isinstance(value, dict) else {}
        return {name: number for name, number in counts.items() if isinstance(number, int)}


class JsonObjects(TypeDecorator[list[dict[str, Any]]]):
    """A JSON array of objects; elements of another type, and anything but an array, are read as Unreadable."""

    impl = JSON
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Dialect) -> list[dict[str, Any]]:
        items = value if isinstance(value, list) else [value]
        return [item if isinstance(item, dict) else Unreadable(item) for item in items]


class JsonTexts(TypeDecorator[list[str]]):
    """A JSON array of texts; elements of another type are left out, anything but an array is read as empty."""

    impl = JSON
    cache_ok = True

    def process_result_value(self, value: Any, dialect: Dialect) -> list[str]:
        return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def time_of_text(value: Any) -> datetime | None:
    """Parse a time as SQLite stores it; invalid text is read as EARLIEST, a year after 9999 as LATEST."""
    if value is None:
        return None
    try:
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    except (TypeError, ValueError):
        return _nearest(str(value))


def _nearest(written: str) -> datetime:
    year = written.lstrip("+").partition("-")[0]
    is_late = written == "infinity" or (len(year) > 4 and year.isdigit() and not written.endswith("BC"))
    return LATEST if is_late else EARLIEST


def read_every_time() -> None:
    """Make psycopg read times outside Python's range as the nearest valid time, on all later connections."""
    import psycopg
    from psycopg.adapt import Loader
    from psycopg.pq import Format

    usual = psycopg.adapters.get_loader(psycopg.adapters.types["timestamptz"].oid, Format.TEXT)
    if usual is None or getattr(usual, "is_tolerant", False):
        return

    loader = usual

    class TolerantLoader(Loader):
        is_tolerant: ClassVar[bool] = True

        def __init__(self, oid: int, context: Any = None) -> None:
            super().__init__(oid, context)
            self._load: Callable[[Any], Any] = loader(oid, context).load

        def load(self, data: Any) -> datetime:
            try:
                loaded: datetime = self._load(data)
            except (psycopg.DataError, ValueError, OverflowError):
                return _nearest(bytes(data).decode("ascii", "replace"))
            return loaded

    psycopg.adapters.register_loader("timestamptz", TolerantLoader)


class TextWithDefault(TypeDecorator[str]):
    """A text that reads NULL as ``default``: rows of an earlier version have none."""

    impl = String
    cache_ok = True

    def __init__(self, length: int, default: str) -> None:
        super().__init__(length)
        self.default = default

    def process_result_value(self, value: str | None, dialect: Dialect) -> str:
        return self.default if value is None else value
