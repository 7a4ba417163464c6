"""Conservation: what waits, and that what people ask for is stored once."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from sqlalchemy import update
from streamlit.testing.v1 import AppTest

from services.console.paging import PAGE_SIZE
from services.domain.conservation import Difference
from state import conservation, order_search, tables
from state.engine.database import Database
from state.order_search import OrderQuery
from tests.support.pages import NOON, press, stored, text_of

Show = Callable[..., AppTest]


def test_a_difference_shows_what_its_compensation_does_and_stores_it_with_a_reason(busy: Database, show: Show) -> None:
    test = show("conservation.py")
    text = text_of(test)
    assert "1,234 comparisons, 1 difference" in text
    assert "1 differences" not in text
    assert "Reservation leaked" in text
    assert "Release the reservation by a release job." in text

    next(button for button in test.button if button.label == "Compensate").click().run()
    test.text_area[0].input("seen on the shelf")
    next(button for button in test.button if button.label == "Apply").click().run()

    command = next(command for command in stored(busy) if command.kind == "compensate")
    assert command.arguments["kind"] == "HOLD_LEAKED"
    assert command.arguments["reason"] == "seen on the shelf"


def test_a_difference_of_a_kind_that_is_not_known_here_can_be_looked_at(busy: Database, show: Show) -> None:
    busy.write_now(
        lambda connection: connection.execute(update(tables.conservation_differences).values(kind="LATER_KIND"))
    )
    test = show("conservation.py")
    next(button for button in test.button if button.label == "Compensate").click().run()
    assert "there is nothing to apply" in text_of(test)
    assert next(button for button in test.button if button.label == "Apply").disabled


def test_a_conservation_page_without_differences_shows_that_all_adds_up(database: Database, show: Show) -> None:
    assert "Nothing has been compared yet" in text_of(show("conservation.py"))


def test_differences_are_counted_in_the_database_and_paged(busy: Database, show: Show) -> None:
    def many(connection: Any) -> None:
        for order in order_search.find(connection, OrderQuery(), limit=PAGE_SIZE + 1).orders:
            conservation.note(connection, order.order_id, [Difference("NOT_PAID", "It was not paid.")], NOON, judged=())

    busy.write_now(many)
    test = show("conservation.py")
    (count,) = re.findall(r"(\d+) differences", text_of(test))
    assert int(count) > PAGE_SIZE
    first = {button.key for button in test.button if str(button.key).startswith("compensate_")}
    assert len(first) == PAGE_SIZE
    press(test, "difference_page_next")
    assert test.query_params["difference_page"] == "2"
    second = {button.key for button in test.button if str(button.key).startswith("compensate_")}
    assert len(second) == int(count) - PAGE_SIZE
    assert not first & second
