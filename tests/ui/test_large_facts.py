"""Facts stored with a step or an action: in words within bounds, and whole only as a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update
from streamlit.testing.v1 import AppTest

from state import tables
from state.engine.database import Database
from tests.support.pages import checked, text_of

Show = Callable[..., AppTest]

LARGE = "x" * 200_000


def hostile(database: Database, details: dict[str, Any]) -> None:
    table = tables.order_history
    database.write_now(
        lambda connection: connection.execute(
            update(table).where(table.c.order_id == "ORD-1002").values(details=details, title=LARGE)
        )
    )


@pytest.mark.parametrize("page", ["order.py", "audit.py", "handover.py", "reviews.py"])
def test_large_and_many_facts_are_cut_on_every_page(busy: Database, show: Show, page: str) -> None:
    hostile(busy, {"reason": LARGE, **{f"fact{number}": LARGE for number in range(60)}, "parts": [LARGE]})
    assert len(text_of(show(page, order="ORD-1002", case="REV-3"))) < 500_000


def test_a_large_payload_is_shown_cut_and_given_whole_as_a_file(busy: Database, show: Show) -> None:
    hostile(busy, {"items": [{"productId": LARGE}]})
    test = show("order.py", order="ORD-1002")
    first = next(box for box in test.expander if box.label == "Payload")
    test.query_params["open"] = first.proto.id.rpartition("unfold_")[2]
    checked(test.run())
    assert any("The first 4,096 of" in one.value for one in test.caption)
    assert [len(one.value) for one in test.code if LARGE[:99] in one.value] == [4_096]
    assert not test.json
    assert "Whole payload" in [one.proto.label for one in test.get("download_button")]
