"""Spans around events: what goes on the wire, and whose trace a delivery belongs to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.base.context import continuing, current_traceparent
from services.messaging.consumer import Delivery
from services.messaging.jetstream import Connection
from services.messaging.outbox_relay import OutboxRow
from services.messaging.publisher import ATOMIC_FROM, JetStreamPublisher, TracedPublisher
from services.runtime.messaging import traced

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
OWN = f"00-{TRACE}-b7ad6b7169203331-01"
ROW = OutboxRow(1, "e-1", "order.created", b"{}", "o-1", datetime(2026, 11, 1, tzinfo=UTC), PARENT)


class Sending:
    def __init__(self, traceparent: str) -> None:
        self.traceparent = traceparent
        self.ends: list[tuple[Any, ...]] = []

    def end(self, outcome: str, status: int | None = None, error: str | None = None) -> None:
        self.ends.append((outcome, status, error))


class Recording:
    """A tracer that remembers what it was told; the spans of rows are numbered."""

    def __init__(self) -> None:
        self.published: list[tuple[str, str, str, str | None]] = []
        self.sendings: list[Sending] = []
        self.handled: list[tuple[str, int, str | None, str | None]] = []

    def publishing(self, subject: str, event_id: str, order_id: str, parent: str | None) -> Sending:
        self.published.append((subject, event_id, order_id, parent))
        self.sendings.append(Sending(f"00-{TRACE}-{len(self.published):016x}-01"))
        return self.sendings[-1]

    @contextmanager
    def handling(self, subject: str, stream_seq: int, order_id: str | None, parent: str | None) -> Iterator[None]:
        self.handled.append((subject, stream_seq, order_id, parent))
        with continuing(OWN):
            yield

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


class Wire:
    """A publisher that refuses the rows it was told to."""

    is_available = True

    def __init__(self, refused: Mapping[int, str] | None = None, error: Exception | None = None) -> None:
        self.rows: list[OutboxRow] = []
        self._refused = refused or {}
        self._error = error

    async def publish(self, rows: Sequence[OutboxRow]) -> Mapping[int, str]:
        if self._error is not None:
            raise self._error
        self.rows += rows
        return self._refused


async def test_each_row_goes_out_with_the_traceparent_of_its_own_span() -> None:
    tracer, wire = Recording(), Wire({2: "no stream"})
    rows = [ROW, replace(ROW, id=2, event_id="e-2", traceparent=None)]
    assert await TracedPublisher(wire, cast("Any", tracer)).publish(rows) == {2: "no stream"}
    assert tracer.published == [("order.created", "e-1", "o-1", PARENT), ("order.created", "e-2", "o-1", None)]
    assert [row.traceparent for row in wire.rows] == [sending.traceparent for sending in tracer.sendings]
    assert [sending.ends for sending in tracer.sendings] == [
        [("published", None, None)],
        [("failed", None, "no stream")],
    ]


async def test_the_spans_of_rows_end_however_publishing_does() -> None:
    tracer = Recording()
    with pytest.raises(RuntimeError):
        await TracedPublisher(Wire(error=RuntimeError("broken")), cast("Any", tracer)).publish([ROW])
    assert tracer.sendings[0].ends == [("failed", None, "not published")]


class Broker:
    """A connection that keeps the headers of what is sent."""

    is_connected = True
    max_payload = 1 << 20

    def __init__(self) -> None:
        self.headers: list[dict[str, str]] = []
        self.js = self.client = self

    async def publish(self, subject: str, payload: bytes, *, headers: dict[str, str], **_: Any) -> Any:
        self.headers.append(headers)
        return SimpleNamespace(stream="ORDERS")

    async def stream_info(self, name: str) -> Any:
        return SimpleNamespace(config=SimpleNamespace(allow_atomic=True))

    async def request(self, subject: str, payload: bytes, *, headers: dict[str, str], **_: Any) -> Any:
        self.headers.append(headers)
        return SimpleNamespace(data=b"")


@pytest.mark.parametrize("count", [1, ATOMIC_FROM])
async def test_the_traceparent_of_a_row_is_a_header_and_none_is_none(count: int) -> None:
    broker = Broker()
    publisher = JetStreamPublisher(cast("Connection", broker))
    await publisher.publish([ROW])
    broker.headers.clear()
    rows = [replace(ROW, id=number, traceparent=PARENT if number % 2 else None) for number in range(count)]
    assert await publisher.publish(rows) == {}
    assert [headers.get("traceparent") for headers in broker.headers] == [row.traceparent for row in rows]
    assert all("traceparent" not in headers for headers in broker.headers[::2])


def delivery(payload: bytes = b'{"data": {"orderId": "o-1"}}', **headers: str) -> Delivery:
    return Delivery("inventory.confirmed", payload, headers, "INVENTORY", 7, 1, is_last_attempt=False)


@pytest.mark.parametrize(
    ("given", "parent", "asked"),
    [
        (delivery(traceparent=PARENT), PARENT, []),
        (delivery(), OWN, ["o-1"]),
        (delivery(traceparent="nonsense"), OWN, ["o-1"]),
        (delivery(b"not JSON"), None, []),
        (delivery(b"not JSON", traceparent=PARENT), PARENT, []),
        (delivery(b'{"data": {"productId": "p-1"}}'), None, []),
    ],
)
async def test_a_delivery_belongs_to_its_headers_trace_or_to_that_of_its_order(
    given: Delivery, parent: str | None, asked: list[str]
) -> None:
    tracer = Recording()
    looked_up: list[str] = []
    within: list[str | None] = []

    async def traceparent_of(order_id: str) -> str | None:
        looked_up.append(order_id)
        return OWN

    async def handle(_: Delivery) -> None:
        within.append(current_traceparent())

    await traced(cast("Any", tracer), given, handle, traceparent_of)
    assert (looked_up, within) == (asked, [OWN])
    order_id = None if b"orderId" not in given.payload else "o-1"
    assert tracer.handled == [("inventory.confirmed", 7, order_id, parent)]
