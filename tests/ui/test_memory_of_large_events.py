"""What the largest and the deepest events cost on a page: bytes sent to the browser, and memory of the console."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from google.protobuf.message import Message
from streamlit.testing.v1 import AppTest

from state import dead_letters, outbox
from state.dead_letters import DeadLetter
from state.engine.database import Database
from tests.support.pages import NOON

Show = Callable[..., AppTest]

MEGABYTE = 1024 * 1024
LARGEST = 4 * MEGABYTE
"""Bytes of one event; brokers are seldom allowed more."""

COUNT = 8
SENT_BYTES = 2 * MEGABYTE
PEAK_BYTES = 24 * MEGABYTE
"""Less than the payloads themselves take."""

DEEP = b'{"data":' + b"[" * (LARGEST // 2 - 8) + b"]" * (LARGEST // 2 - 8) + b"}"
WIDE = b'{"data":[' + b'"' + b"x" * (LARGEST - 14) + b'"]}'
MANY = b"{" + b",".join(b'"k%06d":%d' % (number, number) for number in range(250_000)) + b"}"
WITHIN = b'{"data":' + b"[" * 900 + b"]" * 900 + b"}"
"""The deepest that is stored whole in a list."""


@pytest.fixture(autouse=True)
def warm(busy: Database, show: Show) -> None:
    """What the first page of a process loads is not counted."""
    show("events.py")


@contextmanager
def peak() -> Iterator[list[int]]:
    """The most memory that Python took within the block, in bytes, put into the list at its end."""
    found: list[int] = []
    tracemalloc.start()
    try:
        yield found
        found.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


def sent(test: AppTest) -> int:
    """Bytes of all elements of the page, as the browser receives them."""
    protos = (getattr(element, "proto", None) for element in test.main)
    return sum(len(proto.SerializeToString()) for proto in protos if isinstance(proto, Message))


@pytest.mark.parametrize("payload", [DEEP, WIDE, MANY, WITHIN], ids=["deep", "wide", "many", "within"])
def test_open_dead_letters_of_the_largest_size_are_sent_cut(busy: Database, show: Show, payload: bytes) -> None:
    headers = {f"h-{number}": "v" * 9000 for number in range(60)}
    for number in range(COUNT):
        dead_letter = DeadLetter(
            f"DL-BIG{number}", "S", 9000 + number, "inventory.confirmed", None, payload, headers, "r" * 100_000, 1,
            "OPEN", NOON,
        )  # fmt: skip
        busy.write_now(lambda connection, dead_letter=dead_letter: dead_letters.add(connection, dead_letter))
    with peak() as found:
        test = show("events.py", open="~".join(f"letter-DL-BIG{number}" for number in range(COUNT)))
    assert len(test.code) == COUNT
    assert sent(test) < SENT_BYTES
    assert found[0] < PEAK_BYTES


@pytest.mark.parametrize("payload", [DEEP, WIDE, MANY, WITHIN], ids=["deep", "wide", "many", "within"])
def test_outgoing_events_of_the_largest_size_are_sent_cut(busy: Database, show: Show, payload: bytes) -> None:
    rows = [
        {"event_id": f"big-{number}", "subject": "order.created", "order_id": "ORD-2000", "payload": payload}
        for number in range(COUNT)
    ]
    busy.write_now(lambda connection: outbox.add(connection, [row | {"created_at": NOON} for row in rows]))
    listed = busy.read_now(lambda connection: outbox.listed(order_id="ORD-2000").page(connection, COUNT)).rows
    ids = [row.id for row in listed]
    with peak() as found:
        test = show("events.py", view="Outgoing", open="~".join(f"out-{row_id}" for row_id in ids))
    assert len(test.code) == COUNT
    assert sent(test) < SENT_BYTES
    assert found[0] < PEAK_BYTES
    with peak() as found:
        test = show("order.py", order="ORD-2000", open="~".join(f"out-{row_id}" for row_id in ids))
    assert sent(test) < SENT_BYTES
    assert found[0] < PEAK_BYTES


def test_undeliverable_events_of_the_largest_size_are_sent_cut(busy: Database, show: Show) -> None:
    row = {"subject": "order.created", "order_id": "ORD-2000", "payload": DEEP, "created_at": NOON}
    busy.write_now(lambda c: outbox.add(c, [row | {"event_id": f"big-{number}"} for number in range(COUNT)]))
    claimed = busy.write_now(lambda c: outbox.settle_and_claim(c, [], [], 100, NOON))
    never = [(one.id, "r" * 100_000) for one in claimed if one.event_id.startswith("big-")]
    busy.write_now(lambda c: outbox.settle_and_claim(c, [], [], 0, NOON, undeliverable=never))
    with peak() as found:
        test = show("events.py", open="~".join(f"undeliverable-{row_id}" for row_id, _ in never))
    assert len(test.code) == COUNT
    assert sent(test) < SENT_BYTES
    assert found[0] < PEAK_BYTES
