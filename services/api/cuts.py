"""Cuts details of any size to what a list shows. The order or the dead letter has the whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from services.domain.external import cut_text

MAX_DETAILS_BYTES = 4096
"""Of one entry, when written as JSON."""

_TEXT, _ITEMS = 200, 10


def cut_details(details: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """The details, or what fits of them; and whether they were cut."""
    if len(orjson.dumps(details)) <= MAX_DETAILS_BYTES:
        return details, False
    shown: dict[str, Any] = {}
    room = MAX_DETAILS_BYTES
    for name, value in details.items():
        short = {cut_text(name, _TEXT): _short(value)}
        room -= len(orjson.dumps(short))
        if room < 0:
            break
        shown |= short
    return shown, True


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return cut_text(value, _TEXT)
    if isinstance(value, list):
        return [_flat(item) for item in value[:_ITEMS]]
    return _flat(value)


def _flat(value: Any) -> Any:
    """A small value as it is; a large one as the beginning of its JSON."""
    written = orjson.dumps(value)
    return value if len(written) <= _TEXT else cut_text(written.decode(), _TEXT)
