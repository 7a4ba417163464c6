"""Labels as text: badges, escaped Markdown, and the label of an unknown state."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

Color = Literal["red", "orange", "blue", "green", "violet", "gray"]

_BREAK = "\u200b"
_LINKED = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?=@)", re.IGNORECASE)
"""Places for an invisible break. Without it, Markdown makes links of bare addresses, even of escaped ones."""

_BROKEN = re.compile("\u200b" r"(?=//|\.|@)")

MOST_TEXT = 2_000
"""Maximum characters that a page shows of a text of unknown origin."""
MOST_STATE = 60
"""Maximum characters that a page shows of an unknown state."""

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~$:&])")


class Word(NamedTuple):
    """The label of a state: its word, icon and color."""

    text: str
    icon: str
    color: Color


def named(table: Mapping[str, str], name: str) -> str:
    """The label of a name; an unknown name is shown without underscores."""
    return table.get(name) or name.replace("_", " ").capitalize()


def word(table: dict[str, Word], state: str) -> Word:
    """The label of a state; an unknown state is shown as its own name."""
    return table.get(state) or Word(state.replace("_", " ").capitalize(), "help", "gray")


def text(table: Mapping[str, Word], state: str) -> str:
    """The word of a state, escaped for Markdown; an unknown state is cut to MOST_STATE characters."""
    said = word(dict(table), state).text
    return said if state in table else plain(_cut(said, MOST_STATE))


def badge(table: dict[str, Word], state: str, *, grey: bool = False) -> str:
    """A state as a Markdown badge; ``grey`` if the data is old."""
    _, icon, color = word(table, state)
    return f":{'gray' if grey else color}-badge[:material/{icon}: {text(table, state)}]"


def texts(table: dict[str, Word], states: Iterable[str]) -> list[str]:
    """The words of several states, as a filter writes them into the address."""
    return [word(table, state).text for state in states]


def plain(text: object) -> str:
    """Text of unknown origin, escaped for Markdown, on one line and cut to MOST_TEXT characters."""
    line = " ".join(_cut(str(text), MOST_TEXT).split())
    return _SPECIAL.sub(r"\\\1", _LINKED.sub(_BREAK, line))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def typed(text: object) -> str:
    """Typed or pasted text without the invisible breaks of plain()."""
    return _BROKEN.sub("", str(text or "")).strip()
