"""No stored text, of whatever column, takes effect as Markdown on any page: states, names and words unknown here."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import select
from streamlit.testing.v1 import AppTest

from state import tables
from state.engine.database import Database
from tests.support.foreign_texts import ODD, PHASES, RAW, make_odd, raw_texts, shown_texts
from tests.support.pages import PAGES

Show = Callable[..., AppTest]

pytestmark = pytest.mark.slow

VIEWS: list[tuple[str, dict[str, str]]] = [
    *((page, {"order": "ORD-1002"}) for page in PAGES),
    ("order.py", {"order": "ORD-1001"}),
    ("order.py", {"order": "ORD-3000"}),
    ("events.py", {"view": "Outgoing"}),
    ("events.py", {"view": "Incoming"}),
    ("events.py", {"open": "letter-DL-1~letter-DL-200~letter-DL-201~letter-DL-202", "operation": "OP-1"}),
    ("alerts.py", {"section": "Lately resolved"}),
    ("alerts.py", {"section": "Silences"}),
    ("alerts.py", {"section": "All alerts"}),
    ("alerts.py", {"section": "Notifications"}),
    ("alerts.py", {"section": "History"}),
    ("reviews.py", {"case": "REV-1"}),
    ("reviews.py", {"case": "REV-3"}),
    ("releases.py", {"job": "Failed", "release": "ORD-3000"}),
    ("releases.py", {"operation": "OP-1"}),
    ("sandbox.py", {"drill": "DRL-1"}),
]


@pytest.mark.parametrize("phase", range(PHASES))
def test_no_stored_text_takes_effect(busy: Database, show: Show, phase: int) -> None:
    assert make_odd(str(busy.url.database), phase) > 100
    found: list[str] = []
    seen = 0
    for page, parameters in VIEWS:
        test = show(page, **parameters)
        seen += sum("mark" in text for _, text in shown_texts(test))
        found += [f"{page} {parameters} {text}" for text in raw_texts(test)]
    assert not found, "\n".join(found)
    # The odd text is on the pages, escaped.
    assert seen > 100


def test_the_odd_text_is_found_where_it_takes_effect() -> None:
    assert RAW.search(ODD)
    assert RAW.search(ODD.capitalize())


def test_the_views_open_what_they_name(busy: Database) -> None:
    reviews = set(busy.read_now(lambda c: c.scalars(select(tables.reviews.c.review_id)).all()))
    assert {"REV-1", "REV-3"} <= reviews
