"""The facts that the service stores with a step or an action, in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from itertools import islice

from pages.parts import labels
from pages.parts.widgets import clock
from services.console.texts import cut_text, time_or_none

MOST_PARTS = 20
"""Parts of one object or list that are written in words; the number of further parts follows."""

MOST_LEVELS = 4
"""Levels of nested objects and lists that are written in words."""


def details(values: Mapping[str, object], now: datetime) -> str:
    """The plain facts of a timeline entry on one line; what has parts of its own is its payload."""
    said = [(name, value) for name, value in values.items() if not _is_payload(value)]
    return " · ".join([*(_fact(name, value, now) for name, value in said[:MOST_PARTS]), *_more(len(said))])


def payload(values: Mapping[str, object]) -> dict[str, object]:
    """The facts that have parts of their own."""
    return {name: value for name, value in values.items() if value and _is_payload(value)}


def _is_payload(value: object) -> bool:
    return value is None or isinstance(value, (dict, list))


def _more(count: int) -> list[str]:
    return [f"{count - MOST_PARTS:,} more"] if count > MOST_PARTS else []


def _fact(name: str, value: object, now: datetime, level: int = 0) -> str:
    return f"{named(name)} {in_words(name, value, now, level)}"


def named(name: str) -> str:
    """What a fact of the service is called: ``expiresAt`` is expires at, ``durationMs`` duration."""
    short = cut_text(name, labels.MOST_STATE)
    return labels.plain(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", short.removesuffix("Ms")).lower())


def in_words(name: str, value: object, now: datetime, level: int = 0) -> str:
    """A fact in words: names of states as their badges say them, instants in the viewer's zone, parts one by one."""
    if isinstance(value, Mapping | list):
        return _parts_in_words(name, value, now, level)
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "yes", False: "no"}[value]
    if name.endswith("Ms") and isinstance(value, (int, float)):
        return f"{value:,.0f} ms"
    if isinstance(value, str) and (moment := time_or_none(value)):
        return labels.plain(clock.at(moment, now))
    return labels.plain(labels.CALL.get(str(value)) or labels.said(str(value)))


def _parts_in_words(name: str, value: Mapping[str, object] | list[object], now: datetime, level: int) -> str:
    if level >= MOST_LEVELS:
        return f"{len(value):,} parts"
    if isinstance(value, Mapping):
        said = [_fact(part, one, now, level + 1) for part, one in islice(value.items(), MOST_PARTS)]
    else:
        said = [in_words(name, one, now, level + 1) for one in value[:MOST_PARTS]]
    return ", ".join([*said, *_more(len(value))]) or "nothing"
