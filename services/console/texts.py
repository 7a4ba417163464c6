"""Texts that people type or paste, fit to be stored by every database.

PostgreSQL keeps no NUL, and no database keeps half of a surrogate pair. Neither is seen by who pastes it:
it is kept as the replacement character, as in the addresses of the API, rather than what was asked for be lost.
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
    """The text with U+FFFD for each character that a database refuses."""
    return _UNSTORABLE.sub("\ufffd", text)


def storable(value: Any) -> Any:
    """The same for the texts anywhere within JSON; tuples become lists."""
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, Mapping):
        return {storable(name): storable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]
    return value


def json_of(payload: bytes, max_bytes: int) -> Any:
    """The JSON value of some bytes; raises ValueError for what is no JSON, longer, or nested too deeply to be shown."""
    return read_json(payload, max_bytes)
