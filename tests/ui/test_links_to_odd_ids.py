"""A link leads to the very thing that it names, whatever its id is made of."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from urllib.parse import parse_qs

import pytest
from streamlit.testing.v1 import AppTest

from state.engine.database import Database
from state.tables import metadata
from tests.support.pages import PAGES, checked, text_of

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
    assert odd in text_of(checked(test.run()))


ODD = ["gid://shop/Product/1/", "a b&c=d#e+", "ü%2F?order=x&~"]
IDS = ("order_id", "product_id", "review_id")


def prefix_ids(database: Database, odd: str) -> None:
    """Put the odd text before every id of an order, a product and a case, wherever they are stored."""
    with closing(sqlite3.connect(str(database.url.database))) as connection, connection:
        for table in metadata.sorted_tables:
            for column in table.columns:
                if column.name in IDS:
                    connection.execute(
                        f'UPDATE "{table.name}" SET "{column.name}" = ? || "{column.name}" '
                        f'WHERE "{column.name}" IS NOT NULL AND "{column.name}" != \'\'',
                        (odd,),
                    )
        connection.execute(
            "UPDATE audit_log SET target = 'order:' || ? || substr(target, 7) WHERE target LIKE 'order:%'", (odd,)
        )


def followed(test: AppTest, page: str, query: dict[str, list[str]]) -> str:
    """What the page behind a link says."""
    test.query_params.clear()
    for name, values in query.items():
        test.query_params[name] = values
    test.switch_page(f"{page}.py" if page else "overview.py")
    return text_of(checked(test.run()))


@pytest.mark.slow
@pytest.mark.parametrize("odd", ODD)
def test_every_link_of_every_page_leads_to_what_it_names(busy: Database, show: Show, odd: str) -> None:
    prefix_ids(busy, odd)
    links: dict[tuple[str, frozenset[str]], tuple[str, dict[str, list[str]]]] = {}
    # The sandbox page shows what the reference service said, which names orders by ids of its own.
    for page in sorted(set(PAGES) - {"sandbox.py"}):
        for link in show(page, order=f"{odd}ORD-1002").get("page_link"):
            query = parse_qs(link.proto.query_string, keep_blank_values=True)
            named = frozenset(query) & {"order", "case", "q"}
            for name in named:
                assert query[name][0].startswith(odd), (page, query)
            if named:
                links.setdefault((link.proto.page, named), (page, query))
    assert {"order", "reviews", "orders"} <= {page for page, _ in links}
    test = show("overview.py")
    for (page, named), (_, query) in links.items():
        text = followed(test, page, query)
        assert not re.search(r"No (order|case) matches|is not known|No such", text), (page, query)
        for name in named - {"case"}:
            assert query[name][0] in text or name == "q", (page, query)
