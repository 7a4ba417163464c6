"""Types with limits for all input from outside (ids, times, texts, numbers and JSON), and dates in English.

Replies, events, posted alerts, API bodies and page URLs use only these types. Every accepted value can be stored in
SQLite and PostgreSQL, read again, sent and displayed. Several forms are accepted (a whole number may be 5, 5.0 or "5";
a BOM is skipped), but ranges are strict. A value that is not allowed raises NotAllowed, a ValueError whose message
states what is allowed, so the functions also work as pydantic validators.

Source: contract 3 and 4.
"""

from __future__ import annotations

import codecs
import math
import re
from datetime import UTC, datetime, tzinfo
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import orjson
from pydantic import AfterValidator, BeforeValidator, Field

MAX_ID_LENGTH = 128
"""Characters of an id: order, user, product, variant, reservation, return, event, idempotency key."""

MAX_TIME_LENGTH = 64
"""Characters of a time as text. Every useful form has fewer than 40."""

MAX_JSON_DEPTH = 32
"""Levels of nested objects and arrays."""

INT32 = (-(2**31), 2**31 - 1)
"""Range of an INTEGER column of PostgreSQL."""

INT64 = (-(2**63), 2**63 - 1)
"""Range of a BIGINT column of PostgreSQL and of the integers of orjson."""

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_WHOLE = re.compile(r"[+-]?[0-9]{1,20}(?:\.0{1,20})?")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class NotAllowed(ValueError):
    """A value from outside does not fit its type; the message states what is allowed."""


def identifier(value: object) -> str:
    """Return a valid id unchanged: 1 to 128 printable characters."""
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_ID_LENGTH or not value.isprintable():
        raise NotAllowed(f"1 to {MAX_ID_LENGTH} printable characters")
    return value


def id_key(value: str) -> str:
    """Return the canonical form of an id: a UUID in lower case, any other id unchanged."""
    return value.lower() if len(value) == 36 and _UUID.fullmatch(value) else value


def canonical_id(value: object) -> str:
    """Return a valid id in canonical form."""
    return id_key(identifier(value))


def is_same_id(one: str, other: str) -> bool:
    """Whether two ids are equal in canonical form."""
    return one == other or id_key(one) == id_key(other)


def utc_time(value: object) -> datetime:
    """Return the UTC time of an aware datetime or of ISO 8601 text with a zone, in the years 1 to 9999."""
    try:
        if isinstance(value, str) and len(value) <= MAX_TIME_LENGTH:
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime) and value.tzinfo is not None:
            return value.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise NotAllowed("a time with a zone, within the years 1 to 9999 in UTC, such as 2026-01-31T12:00:00Z")


def time_or_none(value: object) -> datetime | None:
    """Return the result of utc_time(), or None for a value that it does not allow."""
    try:
        return utc_time(value)
    except NotAllowed:
        return None


def in_zone(moment: datetime, zone: tzinfo) -> datetime:
    """Return the time in a zone; unchanged if its year there is outside 1 to 9999.

    Examples are Go's zero time in New York and the last second of the year 9999 in Tokyo.
    """
    try:
        return moment.astimezone(zone)
    except (OverflowError, ValueError):
        return moment


def of_zone(picked: datetime, zone: tzinfo) -> datetime:
    """Return the UTC time of a wall clock time in a zone; unchanged if its year in UTC is outside 1 to 9999."""
    try:
        return picked.replace(tzinfo=zone).astimezone(UTC)
    except (OverflowError, ValueError):
        return picked.replace(tzinfo=UTC)


def named_zone(name: str | None) -> tzinfo:
    """Return the zone with an IANA name from outside; UTC for an unknown or missing name."""
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC


def storable_text(value: object, max_length: int) -> str:
    """Return text of at most ``max_length`` characters that every database stores: no NUL, no lone surrogate."""
    if not isinstance(value, str) or len(value) > max_length or _UNSTORABLE.search(value):
        raise NotAllowed(f"text of at most {max_length} characters without NUL")
    return value


def cut_text(value: str, max_length: int) -> str:
    """Return text for display: characters that cannot be stored are replaced, and a cut text ends in an ellipsis."""
    if len(value) > max_length:
        value = value[: max_length - 1] + "…"
    return _UNSTORABLE.sub("\ufffd", value)


def whole_number(value: object, minimum: int = INT32[0], maximum: int = INT32[1]) -> int:
    """Return a whole number within the bounds; accepts 5, 5.0 and "5"."""
    number: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, float) and value.is_integer():
        number = int(value)
    elif isinstance(value, str) and len(value) <= 48 and _WHOLE.fullmatch(value.strip()):
        number = int(value.strip().partition(".")[0])
    if number is None or not minimum <= number <= maximum:
        raise NotAllowed(f"a whole number from {minimum} to {maximum}")
    return number


def bounded_json(value: Any, max_bytes: int, max_depth: int = MAX_JSON_DEPTH) -> Any:
    """Return a JSON value that can be stored and read again unchanged.

    It must not contain NaN, infinity, whole numbers of more than 64 bits, or a NUL or lone surrogate in keys or texts.
    It may have at most ``max_depth`` levels of objects and arrays, and at most ``max_bytes`` as JSON text.
    """
    level, depth = [value], 0
    while level:
        if depth >= max_depth and any(isinstance(item, dict | list | tuple) for item in level):
            raise NotAllowed(f"JSON of at most {max_depth} levels")
        level = [child for item in level for child in _children(item)]
        depth += 1
    if len(orjson.dumps(value)) > max_bytes:
        raise NotAllowed(f"JSON of at most {max_bytes} bytes")
    return value


def read_json(content: bytes, max_bytes: int, max_depth: int = MAX_JSON_DEPTH) -> Any:
    """Parse UTF-8 JSON, with or without a BOM, within the bounds of bounded_json()."""
    if len(content) > max_bytes:
        raise NotAllowed(f"JSON of at most {max_bytes} bytes")
    try:
        value = orjson.loads(content.removeprefix(codecs.BOM_UTF8))
    except orjson.JSONDecodeError as error:
        raise NotAllowed(f"valid JSON ({error})") from None
    return bounded_json(value, max_bytes, max_depth)


def _children(item: Any) -> list[Any]:
    """Return the direct children of a JSON value. Raises NotAllowed for a scalar that cannot be stored."""
    if isinstance(item, dict):
        return [*item.keys(), *item.values()]
    if isinstance(item, list | tuple):
        return list(item)
    if isinstance(item, str):
        if _UNSTORABLE.search(item):
            raise NotAllowed("JSON without NUL characters")
    elif isinstance(item, float):
        if not math.isfinite(item):
            raise NotAllowed("JSON without NaN and infinities")
    elif isinstance(item, int):
        if not INT64[0] <= item <= INT64[1]:
            raise NotAllowed("JSON with whole numbers of at most 64 bits")
    elif item is not None:
        raise NotAllowed("JSON values")
    return []


def _text_validator(max_length: int) -> AfterValidator:
    return AfterValidator(lambda value: storable_text(value, max_length))


Identifier = Annotated[str, Field(min_length=1, max_length=MAX_ID_LENGTH), AfterValidator(identifier)]
"""A pydantic field for an id, kept unchanged."""

CanonicalIdentifier = Annotated[str, Field(min_length=1, max_length=MAX_ID_LENGTH), AfterValidator(canonical_id)]
"""A pydantic field for an id, converted to canonical form."""

UtcTime = Annotated[datetime, BeforeValidator(utc_time)]
"""A pydantic field for a time with a zone; the value is in UTC."""

WholeNumber = Annotated[int, BeforeValidator(whole_number)]
"""A pydantic field for a whole number of at most 32 bits, written as 5, 5.0 or "5"."""

Text100 = Annotated[str, Field(max_length=100), _text_validator(100)]
Text500 = Annotated[str, Field(max_length=500), _text_validator(500)]
Text2000 = Annotated[str, Field(max_length=2000), _text_validator(2000)]
"""Pydantic fields for texts; the number in the name is the maximum length in characters."""


MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def day_and_month(moment: datetime) -> str:
    """Return day and month such as ``07 Nov``, in the time zone of ``moment``."""
    return f"{moment.day:02} {MONTHS[moment.month - 1]}"
