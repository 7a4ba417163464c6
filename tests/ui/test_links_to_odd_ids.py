"""A link leads to the very thing that it names, whatever its id is made of."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from urllib.parse import parse_qs

import pytest
from streamlit.testing.v1 import AppTest

from state.database import Database
from tests.ui.conftest import checked, said

Show = Callable[..., AppTest]


@pytest.mark.parametrize("odd", ["gid://shop/Order/1", "a b", "..", "Größe-M", "a&b=c#d", "100%25", "a+b", "?order=x"])
def test_the_link_of_an_order_in_the_list_opens_it(busy: Database, show: Show, odd: str) -> None:
    # Through a connection that checks no foreign keys, as those of sqlite3 are.
    with closing(sqlite3.connect(str(busy.url.database))) as connection, connection:
        connection.execute("UPDATE orders SET order_id = ? WHERE order_id = 'ORD-2000'", (odd,))
        connection.execute("UPDATE order_history SET order_id = ? WHERE order_id = 'ORD-2000'", (odd,))
    test = show("orders.py")
    queries = [parse_qs(link.proto.query_string) for link in test.get("page_link")]
    assert {"order": [odd]} in [{"order": query.get("order")} for query in queries]
    test.query_params["order"] = odd
    test.switch_page("order.py")
    assert odd in said(checked(test.run()))
