"""What can be told to whoever traces us. Without a Tracer nothing is: traceparents are passed on as they came.

Adapter: ``OpenTelemetryTracer`` (tracing.py). Parents are traceparents, None beginning a trace.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from yarl import URL

Answered = Callable[[int], None]
"""Called with the HTTP status of the answer."""


class CallSpan(Protocol):
    """Something sent to another service whose outcome is awaited."""

    @property
    def traceparent(self) -> str:
        """What is sent along."""

    def end(self, outcome: str, status: int | None = None, error: str | None = None) -> None:
        """The outcome, the HTTP status of the reply if there was one, and what went wrong if anything did."""


class Tracer(Protocol):
    """Makes spans; those made by context managers are the present ones within, and so is their traceparent."""

    def request(self, method: str, route: str, path: str, parent: str | None) -> AbstractContextManager[Answered]:
        """A request to our API; ``route`` is the path with its parameters' names."""

    def attempt(self, operation: str, method: str, url: URL, parent: str) -> CallSpan:
        """One attempt of a call to the Inventory Service or the payment gateway."""

    def publishing(self, subject: str, event_id: str, order_id: str, parent: str | None) -> CallSpan:
        """One event on its way to the broker."""

    def handling(
        self, subject: str, stream_seq: int, order_id: str | None, parent: str | None
    ) -> AbstractContextManager[None]:
        """One delivery of one event."""

    def step(self, name: str, order_id: str, parent: str | None) -> AbstractContextManager[None]:
        """Work on an order that no request waits for: a delayed retry, a sweep, a person's move."""

    def became(self, order_id: str, statuses: Sequence[str]) -> None:
        """The present span moved an order through these statuses."""

    def short_circuited(self, operation: str, reason: str) -> None:
        """A circuit breaker kept the present span from making a call."""

    async def close(self) -> None:
        """Send what is left, for as long as that may take and no longer."""
