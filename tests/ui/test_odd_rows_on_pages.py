"""One broken row never breaks a page: every page is drawn over rows with odd values in every column."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select
from streamlit.testing.v1 import AppTest

from state import tables
from state.engine.database import Database
from tests.support.odd_rows import corrupt
from tests.support.pages import PAGES, text_of

Show = Callable[..., AppTest]

pytestmark = pytest.mark.slow


@pytest.fixture
def odd(busy: Database) -> Database:
    corrupt(str(busy.url.database))
    return busy


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_drawn_over_odd_rows(odd: Database, show: Show, page: str) -> None:
    column = tables.order_history.c.order_id
    first = odd.read_now(lambda c: c.scalar(select(column).where(column.like("ORD-%")).limit(1)))
    assert "As of 12:00:00" in text_of(show(page, order=first))


@pytest.mark.parametrize(
    ("page", "parameter", "column"),
    [("order.py", "order", tables.orders.c.order_id), ("reviews.py", "case", tables.reviews.c.review_id)],
    ids=["orders", "cases"],
)
def test_every_odd_row_has_a_page(odd: Database, show: Show, page: str, parameter: str, column: Any) -> None:
    ids = odd.read_now(lambda c: c.scalars(select(column).where(column.like("odd-%"))).all())
    assert len(ids) > 20
    test = show(page, **{parameter: ids[0]})
    for row_id in ids[1::3]:
        test.query_params[parameter] = row_id
        test.run()
        assert not test.exception, (row_id, [problem.value for problem in test.exception])
