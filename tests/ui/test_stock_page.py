"""Stock: what was heard, what it rests on, and who waits for it."""

from __future__ import annotations

from collections.abc import Callable

from streamlit.testing.v1 import AppTest

from services.console import facade
from state.engine.database import Database
from tests.support.pages import press, text_of

Show = Callable[..., AppTest]


def test_a_variant_shows_level_source_age_and_expiry(busy: Database, show: Show) -> None:
    text = text_of(show("stock.py"))
    assert "event: low stock · since 11:59:00 · 60 s ago · 4 available · low from 10" in text
    assert "without news it counts as available again in 23 min" in text


def test_an_expired_level_counts_as_available(busy: Database, show: Show) -> None:
    test = show("stock.py", level="Out of stock")
    text = text_of(test)
    assert "SKU-02 oak" in text
    assert "SKU-11 oak" not in text
    assert "no news for long" in text_of(show("stock.py", product="SKU-11"))


def test_orders_that_wait_are_counted_by_product_with_a_link_to_them(busy: Database, show: Show) -> None:
    test = show("stock.py")
    assert "1 order waits for inventory" in text_of(test)
    links = [link.proto.query_string for link in test.get("page_link") if link.proto.label == "Show orders"]
    assert links[0] == "q=SKU-CHAIR&status=Waiting+for+inventory"


def test_the_list_is_paged_and_goes_back(busy: Database, show: Show) -> None:
    test = press(show("stock.py"), "stock_before_step")
    assert "SKU-27 oak" in text_of(test)
    assert "SKU-00 oak" not in text_of(test)
    press(test, "stock_newest")
    assert "SKU-00 oak" in text_of(test)


def test_an_empty_list_shows_the_reason(database: Database, show: Show) -> None:
    assert "has not reported on any product yet" in text_of(show("stock.py"))
    assert "No product is reported as out of stock or low." in text_of(show("stock.py", level="Low"))
    test = show("stock.py", product="nothing")
    assert "Nothing was heard about this product." in text_of(test)
    press(test, "clear_filters")
    assert not test.text_input(key="product").value


def test_the_file_has_the_filtered_rows(busy: Database) -> None:
    lines = facade.console().stock.csv(level="low").splitlines()
    assert lines[0].startswith("productId,variantId,level")
    assert len(lines) == 1 + 10
    assert lines[1] == "SKU-00,oak,low,True,4,10,inventory.low_stock,2026-11-22T11:59:00.000Z,"
