"""Where an order's trace is found: its id, and the page of a tracing backend if one was named."""

from __future__ import annotations

from dataclasses import dataclass

from services.base.trace_context import trace_id
from services.domain.orders.model import Order


@dataclass(frozen=True, slots=True)
class Trace:
    """The trace that an order belongs to."""

    trace_id: str
    url: str | None
    """Of the tracing backend's page; None without TRACE_URL_TEMPLATE."""


class Traces:
    """Knows nothing but the template: whether the trace was kept, its backend knows."""

    def __init__(self, url_template: str | None) -> None:
        self._url_template = url_template

    def of(self, order: Order) -> Trace | None:
        """None for an order that was placed outside of any trace."""
        if order.traceparent is None:
            return None
        found = trace_id(order.traceparent)
        return Trace(found, self._url_template.replace("{trace_id}", found) if self._url_template else None)
