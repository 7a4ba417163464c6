"""The string that names a trace: what is taken from strangers, and how far it reaches."""

from __future__ import annotations

import asyncio
import string
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.base.context import begin, carried, continuing, current_traceparent, received, trace_id

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"

HEX = st.sampled_from("0123456789abcdef")


def hexadecimal(digits: int) -> st.SearchStrategy[str]:
    return st.text(HEX, min_size=digits, max_size=digits).filter(lambda text: text.strip("0") != "")


@given(hexadecimal(32), hexadecimal(16), st.text(HEX, min_size=2, max_size=2))
def test_a_valid_one_is_taken_as_it_is(trace: str, span: str, flags: str) -> None:
    value = f"00-{trace}-{span}-{flags}"
    assert received(value) == value
    assert trace_id(value) == trace
    assert len(value) == 55


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        (f" \t{PARENT} ", PARENT),
        (f"01-{TRACE}-{SPAN}-01", PARENT),
        (f"01-{TRACE}-{SPAN}-01-what-comes-later", PARENT),
        (f"cc-{TRACE}-{SPAN}-fe", f"00-{TRACE}-{SPAN}-00"),
    ],
)
def test_spaces_around_it_and_later_versions_are_understood(value: str, taken: str) -> None:
    assert received(value) == taken


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        " ",
        "00",
        TRACE,
        PARENT.upper(),
        f"ff-{TRACE}-{SPAN}-01",
        f"{PARENT}-more",
        f"{PARENT}, {PARENT}",
        f"{PARENT}\n",
        f"{PARENT}\r\nX-Injected: yes",
        f"{PARENT}\x00",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}0-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        # Digits to Python, not to the standard.
        f"00-{TRACE[:-1]}\u0661-{SPAN}-01",
        f"01-{TRACE}-{SPAN}-01" + "-" * 1000,
        f"01-{TRACE}-{SPAN}-01.more",
    ],
)
def test_anything_else_is_not_taken(value: str | None) -> None:
    assert received(value) is None


@given(st.text(max_size=80) | st.text(string.hexdigits + "-", max_size=80))
def test_whatever_is_sent_nothing_or_a_traceparent_of_version_00_comes_of_it(value: str) -> None:
    taken = received(value)
    assert taken is None or (len(taken) == 55 and received(taken) == taken)


def test_work_within_belongs_to_the_trace_and_work_after_it_does_not() -> None:
    assert current_traceparent() is None
    with continuing(PARENT):
        assert current_traceparent() == PARENT
        with continuing(None):
            assert current_traceparent() is None
        assert current_traceparent() == PARENT
    assert current_traceparent() is None


async def test_a_task_that_begins_without_a_header_leaves_the_trace_that_it_was_started_in() -> None:
    async def request(header: str | None) -> str | None:
        begin(header)
        await asyncio.sleep(0)
        return current_traceparent()

    async def first() -> list[str | None]:
        begin(PARENT)
        # A server starts the next request of a connection in the context of the one before.
        return await asyncio.gather(asyncio.create_task(request(None)), asyncio.create_task(request("nonsense")))

    assert await asyncio.create_task(first()) == [None, None]
    assert await asyncio.create_task(request(PARENT)) == PARENT
    assert current_traceparent() is None


def test_a_transaction_takes_its_trace_along_to_another_thread_and_leaves_nothing_there() -> None:
    with ThreadPoolExecutor(1) as writer:
        with continuing(PARENT):
            transaction = carried(lambda connection: (connection, current_traceparent()))
        assert writer.submit(transaction, "connection").result() == ("connection", PARENT)
        assert writer.submit(current_traceparent).result() is None


def test_outside_of_any_trace_a_transaction_stays_what_it_is() -> None:
    def transaction(_: object) -> None:
        return None

    assert carried(transaction) is transaction
