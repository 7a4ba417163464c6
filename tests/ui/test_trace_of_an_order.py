"""The order's page names its trace, and leads to it where the tracing backend was named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update
from streamlit.testing.v1 import AppTest

from services.console.facade import console
from services.console.orders import Orders, Trace
from state.engine.database import Database
from state.tables import orders
from tests.support.pages import NOON, look_at
from tests.support.seed_console import S, order

Show = Callable[..., AppTest]
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.fixture
def traced(busy: Database) -> Database:
    """One of the orders was placed within a trace."""
    statement = update(orders).where(orders.c.order_id == "ORD-1002").values(traceparent=PARENT)
    busy.write_now(lambda connection: connection.execute(statement))
    return busy


def links(test: AppTest) -> list[Any]:
    return [link.proto.url for link in test.get("link_button")]


def test_the_trace_of_an_order_can_be_copied(traced: Database, show: Show) -> None:
    test = show("order.py", order="ORD-1002")
    assert [code.value for code in test.code] == [TRACE]
    assert links(test) == []


def test_an_order_outside_of_any_trace_shows_none(traced: Database, show: Show) -> None:
    assert not show("order.py", order="ORD-1001").code


def test_the_page_leads_to_the_trace_where_its_backend_was_named(
    traced: Database, show: Show, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACE_URL_TEMPLATE", "https://traces.example/trace/{trace_id}?view=x")
    look_at(sqlite_url)
    assert links(show("order.py", order="ORD-1002")) == [f"https://traces.example/trace/{TRACE}?view=x"]


@pytest.mark.parametrize(
    ("template", "traceparent", "trace"),
    [
        (None, None, None),
        ("https://t/{trace_id}", None, None),
        (None, PARENT, Trace(TRACE, None)),
        ("https://t/{trace_id}", PARENT, Trace(TRACE, f"https://t/{TRACE}")),
    ],
)
def test_a_trace_is_found_by_its_id(template: str | None, traceparent: str | None, trace: Trace | None) -> None:
    assert Orders(console().access, template).trace(order("ORD-1", S.PLACED, NOON, traceparent=traceparent)) == trace
