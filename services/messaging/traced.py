"""Spans around what is published and around what is delivered; composed in only when tracing is on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from services.base.context import HEADER, received
from services.messaging.consumer import Delivery, Handler
from services.messaging.dead_letters import order_id_in
from services.messaging.outbox_relay import OutboxRow, Publisher
from services.tracing.port import Tracer

TraceparentOf = Callable[[str], Awaitable[str | None]]
"""The traceparent that an order keeps; None for an unknown order and for one that has none."""


class TracedPublisher:
    """A Publisher that gives every row a span, whose traceparent goes with it instead of the stored one."""

    def __init__(self, publisher: Publisher, tracer: Tracer) -> None:
        self._publisher = publisher
        self._tracer = tracer

    @property
    def is_available(self) -> bool:
        return self._publisher.is_available

    async def publish(self, rows: Sequence[OutboxRow]) -> Mapping[int, str]:
        """As the publisher does."""
        spans = [
            self._tracer.publishing(row.subject, row.event_id, row.order_id, parent=row.traceparent) for row in rows
        ]
        sent = [replace(row, traceparent=span.traceparent) for row, span in zip(rows, spans, strict=True)]
        failures: Mapping[int, str] = dict.fromkeys((row.id for row in rows), "not published")
        try:
            failures = await self._publisher.publish(sent)
        finally:
            for row, span in zip(rows, spans, strict=True):
                reason = failures.get(row.id)
                span.end("published" if reason is None else "failed", error=reason)
        return failures


def traced_handler(handle: Handler, tracer: Tracer, traceparent_of: TraceparentOf) -> Handler:
    """The handler within a span of the trace that the delivery's header names, else of its order's own."""

    async def traced(delivery: Delivery) -> None:
        order_id = order_id_in(delivery.payload)
        parent = received(delivery.headers.get(HEADER))
        if parent is None and order_id is not None:
            parent = await traceparent_of(order_id)
        with tracer.handling(delivery.subject, delivery.stream_seq, order_id, parent):
            await handle(delivery)

    return traced
