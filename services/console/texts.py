"""Typed and pasted text, made storable in every database.

PostgreSQL stores no NUL, and no database stores half of a surrogate pair. Both are invisible to the person who pastes
them, so they are replaced by U+FFFD instead of rejecting the command.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from services.domain.dates import day_and_month
from services.domain.external import cut_text, in_zone, named_zone, of_zone, read_json, time_or_none

__all__ = [
    "cut_text",
    "day_and_month",
    "in_zone",
    "json_of",
    "named_zone",
    "of_zone",
    "storable",
    "storable_text",
    "time_or_none",
]

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def storable_text(text: str) -> str:
    """The text with U+FFFD for each character that a database rejects."""
    return _UNSTORABLE.sub("\ufffd", text)


def storable(value: Any) -> Any:
    """storable_text() for every text within a JSON value; tuples become lists."""
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, Mapping):
        return {storable(name): storable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]
    return value


def json_of(payload: bytes, max_bytes: int) -> Any:
    """Parse JSON. Raises ValueError for other content, more than ``max_bytes``, or too deep nesting."""
    return read_json(payload, max_bytes)
