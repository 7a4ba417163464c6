"""Tracing port. Without a tracer, traceparents are only forwarded.

Adapter: ``OpenTelemetryTracer`` (opentelemetry.py). A parent is a traceparent; None begins a trace.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from yarl import URL

Answered = Callable[[int], None]
"""Called with the HTTP status of the response."""


class CallSpan(Protocol):
    """Span of a call to another service."""

    @property
    def traceparent(self) -> str:
        """The traceparent to send with the call."""

    def end(self, outcome: str, status: int | None = None, error: str | None = None) -> None:
        """End the span with its outcome, HTTP status and error."""


class Tracer(Protocol):
    """Creates spans; a context manager makes its span and traceparent current in its block."""

    def request(self, method: str, route: str, path: str, parent: str | None) -> AbstractContextManager[Answered]:
        """Span of a request to the API; ``route`` is the path with the names of its parameters."""

    def attempt(self, operation: str, method: str, url: URL, parent: str) -> CallSpan:
        """Span of one attempt of a call to the Inventory Service or the payment gateway."""

    def publishing(self, subject: str, event_id: str, order_id: str, parent: str | None) -> CallSpan:
        """Span of publishing one event."""

    def handling(
        self, subject: str, stream_seq: int, order_id: str | None, parent: str | None
    ) -> AbstractContextManager[None]:
        """Span of handling one delivery of an event."""

    def step(self, name: str, order_id: str, parent: str | None) -> AbstractContextManager[None]:
        """Span of background work on an order: a delayed retry, a sweep, an operator's command."""

    def became(self, order_id: str, statuses: Sequence[str]) -> None:
        """Add the statuses that an order went through to the current span."""

    def short_circuited(self, operation: str, reason: str) -> None:
        """Add a call that a circuit breaker denied to the current span."""

    async def close(self) -> None:
        """Export the remaining spans, within a time limit."""
