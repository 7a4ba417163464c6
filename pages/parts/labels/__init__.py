"""Labels of states, actions and messages, one module per topic; each state has a word, an icon and a color.

Word and icon are sufficient without the color, so that a label is readable in grey. Addresses contain the words of
a filter's options, so that a changed word breaks saved links.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pages.parts.labels.alerts import ALERT, ALERT_EVENT, ALERT_SOURCE, NOTIFICATION, SEVERITY
from pages.parts.labels.breakers import BREAKER, IMPACT, breaker
from pages.parts.labels.bulk import BULK_ITEM, BULK_JOB, CONSEQUENCES, CONTROLS
from pages.parts.labels.commands import AUDIT, COMMAND, KINDS, kind
from pages.parts.labels.events import DEAD_LETTER, INCOMING, OUTGOING
from pages.parts.labels.markdown import MOST_STATE, MOST_TEXT, Word, badge, named, plain, text, texts, typed, word
from pages.parts.labels.metrics import CALL, FAILURE, QUEUE
from pages.parts.labels.orders import INVENTORY, ORDER, PAYMENT, PRIORITY, TIMELINE, WITH_RESERVATION
from pages.parts.labels.releases import FAILURES, PAST_ACTIONS, RELEASE
from pages.parts.labels.reviews import (
    ACTIONS,
    FIELDS,
    LOOKUP_PROBLEM,
    RESOLUTION_REASONS,
    REVIEW,
    STOCK_STATE,
    resolution,
)
from pages.parts.labels.sandbox import DRILL
from pages.parts.labels.stock import DIFFERENCE, DIFFERENCE_STATE, SOURCES, STOCK
from services.console.status import NAMES

__all__ = [
    "ACTIONS",
    "ALERT",
    "ALERT_EVENT",
    "ALERT_SOURCE",
    "AUDIT",
    "BREAKER",
    "BULK_ITEM",
    "BULK_JOB",
    "CALL",
    "COMMAND",
    "CONSEQUENCES",
    "CONTROLS",
    "DEAD_LETTER",
    "DIFFERENCE",
    "DIFFERENCE_STATE",
    "DRILL",
    "FAILURE",
    "FAILURES",
    "FIELDS",
    "FILTERS",
    "GONE",
    "IMPACT",
    "INCOMING",
    "INVENTORY",
    "KINDS",
    "LOOKUP_PROBLEM",
    "MOST_STATE",
    "MOST_TEXT",
    "NOTIFICATION",
    "ORDER",
    "OUTGOING",
    "PAST_ACTIONS",
    "PAYMENT",
    "PRIORITY",
    "QUEUE",
    "RELEASE",
    "RESOLUTION_REASONS",
    "REVIEW",
    "SEVERITY",
    "SOURCES",
    "STOCK",
    "STOCK_STATE",
    "TIMELINE",
    "WITH_RESERVATION",
    "Word",
    "badge",
    "breaker",
    "cause_text",
    "in_address",
    "kind",
    "named",
    "plain",
    "resolution",
    "said",
    "text",
    "texts",
    "told",
    "typed",
    "word",
]  # fmt: skip

GONE = " · no longer in this list"
"""Text after the facts of a row that is no longer in its paused list."""

FILTERS = {"status": ORDER, "job": RELEASE, "reason": REVIEW}
"""Filters whose values are words in addresses, with the table of those words."""

_SAID = (
    {name: word.text for table in (ORDER, REVIEW, DIFFERENCE) for name, word in table.items()}
    | ACTIONS
    | {breaker: name.lower() for breaker, name in NAMES.items()}
)
_NAMED = re.compile(rf"\b({'|'.join(_SAID)})\b")


def in_address(filters: Mapping[str, str]) -> dict[str, str] | None:
    """Convert filters from the service's names to the words in a page's address; None without filters."""
    said = {name: word(FILTERS[name], state).text if name in FILTERS else state for name, state in filters.items()}
    return said or None


def said(text: str) -> str:
    """A sentence of the service with the names of states, actions and breakers replaced by their labels."""
    return _NAMED.sub(lambda name: _SAID[name[0]], text)


def told(text: str) -> str:
    """The result of said(), escaped for Markdown."""
    return plain(said(text))


def cause_text(key: str) -> str:
    """The cause of a release job or a review case: the key of a failure, or another code."""
    failure, _, status = key.partition(":")
    if failure not in FAILURES:
        return said(key)
    return f"{FAILURES[failure]} (HTTP {status})" if status else FAILURES[failure]
