"""What failures have in common: an error message without what is different in each of them.

Pure. Jobs that failed for one cause form one group, whatever order or moment the message names.
"""

from __future__ import annotations

import re

NOT_TRIED = "Not tried yet"
"""The cause of a job that has no error."""

BREAKER_OPEN = "The circuit breaker is open"
"""Nothing was sent; the other service has said nothing about this job."""

MAX_LENGTH = 160
GAP = "…"

_BREAKER = re.compile(r"^Circuit breaker \S+ is open", re.IGNORECASE)
_PARTICULAR = (
    re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.IGNORECASE),
    re.compile(r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?)?(?:Z|[+-]\d\d:?\d\d)?\b"),
    re.compile(r"(?:\b\d{1,3}(?:\.\d{1,3}){3}\b|\[[0-9a-f:]+\])(?::\d{1,5})?", re.IGNORECASE),
    re.compile(r"(?<=[\w.]):\d{2,5}\b"),
    re.compile(r"\b[A-Za-z]\w{0,127}(?:-\w{1,127}){0,7}-\d\w*\b"),
    re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b", re.IGNORECASE),
    re.compile(r"\b\d+(?:\.\d+)?(?= ?(?:ms|s|seconds|bytes)\b)"),
    re.compile(r"\b\d{4,}\b"),
)
"""Ids, times, addresses, durations and long numbers; a number of three digits is an HTTP status and stays."""


def cause_of(error: str | None) -> str:
    """The cause behind an error message, at most MAX_LENGTH characters; NOT_TRIED without a message."""
    if error is None or not error.strip():
        return NOT_TRIED
    error = error[: 10 * MAX_LENGTH]
    if _BREAKER.match(error):
        return BREAKER_OPEN
    text = " ".join(error.split())
    for particular in _PARTICULAR:
        text = particular.sub(GAP, text)
    return text[:MAX_LENGTH].rstrip(" .")
