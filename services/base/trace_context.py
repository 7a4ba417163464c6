"""The W3C ``traceparent`` of what is being done now: a plain string, carried whether or not we trace ourselves.

It names the trace and the span that caused the present work. Requests bring it in, calls and events
take it along, an order keeps its own for what happens later. Source: W3C Trace Context; ADR 0011.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

A = TypeVar("A")
R = TypeVar("R")

HEADER = "traceparent"
"""Of HTTP requests and of NATS messages, whose names are case sensitive."""

_MAX_RECEIVED = 512
_FORMAT = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<ids>[0-9a-f]{32}-[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?"
)
_SAMPLED = 1

_current: ContextVar[str | None] = ContextVar("traceparent", default=None)

current = _current.get
"""The traceparent of the present task or transaction; None outside of any trace."""


def received(value: str | None) -> str | None:
    """What a header says, as version 00; None when it says nothing that can be used.

    A later version is read as far as version 00 knows it, as the standard asks for.
    """
    if value is None or len(value) > _MAX_RECEIVED:
        return None
    match = _FORMAT.fullmatch(value.strip(" \t"))
    if match is None or match["version"] == "ff":
        return None
    trace, span = match["ids"].split("-")
    if not trace.strip("0") or not span.strip("0"):
        return None
    if match["version"] == "00":
        return None if match["more"] is not None else match.group()
    return f"00-{trace}-{span}-{int(match['flags'], 16) & _SAMPLED:02x}"


def trace_id(traceparent: str) -> str:
    """The 32 hexadecimal digits by which tracing backends find a trace."""
    return traceparent[3:35]


def begin(header: str | None) -> None:
    """From here to the end of the present task, work belongs to the trace that the header names, or to none."""
    _current.set(None if header is None else received(header))


@contextmanager
def continuing(traceparent: str | None) -> Iterator[None]:
    """Work within belongs to this trace."""
    token = _current.set(traceparent)
    try:
        yield
    finally:
        _current.reset(token)


def carried(transaction: Callable[[A], R]) -> Callable[[A], R]:
    """The transaction, with the present traceparent taken along to the thread that will run it."""
    traceparent = _current.get()
    if traceparent is None:
        return transaction

    def run(connection: A) -> R:
        with continuing(traceparent):
            return transaction(connection)

    return run
