"""The facts that the service stores with a step or an action, in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from parts import clock, words

from services.console.texts import time_or_none


def details(values: Mapping[str, object], now: datetime) -> str:
    """The plain facts of a timeline entry on one line; what has parts of its own is its payload."""
    return " · ".join(_fact(name, value, now) for name, value in values.items() if not _is_payload(value))


def payload(values: Mapping[str, object]) -> dict[str, object]:
    """The facts that have parts of their own."""
    return {name: value for name, value in values.items() if value and _is_payload(value)}


def _is_payload(value: object) -> bool:
    return value is None or isinstance(value, (dict, list))


def _fact(name: str, value: object, now: datetime) -> str:
    return f"{named(name)} {in_words(name, value, now)}"


def named(name: str) -> str:
    """What a fact of the service is called: ``expiresAt`` is expires at, ``durationMs`` duration."""
    return words.plain(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.removesuffix("Ms")).lower())


def in_words(name: str, value: object, now: datetime) -> str:
    """A fact in words: names of states as their badges say them, instants in the viewer's zone, parts one by one."""
    if isinstance(value, Mapping):
        return ", ".join(_fact(part, one, now) for part, one in value.items()) or "nothing"
    if isinstance(value, list):
        return ", ".join(in_words(name, one, now) for one in value) or "nothing"
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "yes", False: "no"}[value]
    if name.endswith("Ms") and isinstance(value, (int, float)):
        return f"{value:,.0f} ms"
    if isinstance(value, str) and (moment := time_or_none(value)):
        return words.plain(clock.at(moment, now))
    return words.plain(words.CALL.get(str(value)) or words.said(str(value)))
