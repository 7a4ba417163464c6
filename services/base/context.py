"""The context of the present task: its W3C traceparent and its correlation id.

A request, command or event sets both. Tasks that it starts inherit them, and ``carried`` passes them to the thread that
runs a transaction. A traceparent is forwarded even when this service exports no traces.
Source: W3C Trace Context; ADR 0011.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple, TypeVar

A = TypeVar("A")
R = TypeVar("R")

HEADER = "traceparent"
"""Name of the header in HTTP requests and NATS messages. NATS header names are case-sensitive."""

_MAX_RECEIVED = 512
_FORMAT = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<ids>[0-9a-f]{32}-[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?"
)
_SAMPLED = 1


class _Context(NamedTuple):
    traceparent: str | None = None
    correlation_id: str | None = None


_EMPTY = _Context()
_current: ContextVar[_Context] = ContextVar("context", default=_EMPTY)


def current_traceparent() -> str | None:
    """The traceparent of the present task or transaction; None without a trace."""
    return _current.get().traceparent


def current_correlation_id() -> str | None:
    """The correlation id in the audit entries of the present request or command; None when none is set."""
    return _current.get().correlation_id


def received(value: str | None) -> str | None:
    """The traceparent of a header, as version 00; None for an absent or invalid header.

    From a header of a later version only the fields of version 00 are read, as the standard requires.
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
    """Set the trace of the present task to the trace of the header; None or an invalid header clears it."""
    traceparent = None if header is None else received(header)
    _current.set(_current.get()._replace(traceparent=traceparent))


@contextmanager
def continuing(traceparent: str | None) -> Iterator[None]:
    """Context manager: set the trace of the present task for the block."""
    token = _current.set(_current.get()._replace(traceparent=traceparent))
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def correlated(correlation_id: str) -> Iterator[None]:
    """Context manager: set the correlation id of the present task for the block."""
    token = _current.set(_current.get()._replace(correlation_id=correlation_id))
    try:
        yield
    finally:
        _current.reset(token)


def carried(transaction: Callable[[A], R]) -> Callable[[A], R]:
    """Return the transaction bound to the present context, for a call on any thread."""
    context = _current.get()
    if context == _EMPTY:
        return transaction

    def run(connection: A) -> R:
        token = _current.set(context)
        try:
            return transaction(connection)
        finally:
            _current.reset(token)

    return run
