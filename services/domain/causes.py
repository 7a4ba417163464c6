"""What lies behind a review case, as a word that cases with the same cause share.

Source: console, "what none of them has" 6.
"""

from __future__ import annotations

import re

_CODE = re.compile(r"\b[A-Z]{2,}(?:_[A-Z]+)+\b")
_NOT_SENT = re.compile(r"\bCircuit breaker \S+ is open; nothing was sent\b")
MAX_LENGTH = 40
"""Of a Word column."""

READ_LENGTH = 2000
"""Characters of a detail that are looked at; it repeats what others said."""


def cause_of(detail: str) -> str:
    """The first code named in a case's detail, such as ``INVENTORY_TIMEOUT``; empty when there is none.

    Numbers and sentences differ from case to case; the code is what they have in common.
    """
    found = _CODE.search(detail[:READ_LENGTH])
    return found.group()[:MAX_LENGTH] if found else ""


def was_not_sent(detail: str) -> bool:
    """Whether a case's detail says that the circuit breaker kept the last try from being sent."""
    return _NOT_SENT.search(detail[:READ_LENGTH]) is not None
