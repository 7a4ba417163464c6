"""Circuit breakers: their states and names, and how an incident affected orders."""

from __future__ import annotations

from pages.parts.labels.markdown import Word, plain
from services.console.status import NAMES

BREAKER: dict[str, Word] = {
    "closed": Word("Closed", "check_circle", "green"),
    "open": Word("Open", "block", "red"),
    "half_open": Word("Half-open", "hourglass_top", "orange"),
    "forced_open": Word("Forced open", "front_hand", "red"),
    "forced_closed": Word("Forced closed", "front_hand", "orange"),
}
IMPACT: dict[str, Word] = {
    "denied": Word("Call denied", "block", "red"),
    "fallback": Word("Fallback served", "alt_route", "orange"),
    "flagged": Word("Flagged", "flag", "orange"),
    "refused": Word("Order refused", "cancel", "red"),
    "timeout": Word("Timed out", "timer_off", "violet"),
}


def breaker(name: str) -> str:
    """The label of a breaker; an unknown name is escaped for Markdown."""
    return NAMES.get(name) or plain(name)
