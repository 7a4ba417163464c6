"""A preview over several refreshes: it waits for the answers and freezes once, before a number is typed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from services.domain.commands import Outcome
from services.domain.conservation import StockState
from state import commands
from state.engine.database import Database
from tests.support.pages import FAILED, NOON, checked, press, started_jobs, store_lookup, stored, text_of

PAGES = Path(__file__).resolve().parents[2] / "pages"
RESERVED, FREE = StockState.RESERVED, StockState.FREE
KEY = "preview"


def preview() -> None:
    """The dialog's fragment as a page of its own, so that a run of the page is one of its refreshes."""
    import streamlit as st

    from pages.parts import bulk, bulk_comparison
    from services.console.facade import console
    from state.releases import ReleaseFilter

    if "shown" not in st.session_state:
        st.session_state["shown"] = console().releases.freeze("mark_released", ReleaseFilter(("FAILED",)), "Failed")
        bulk_comparison.begin(st.session_state["shown"], "preview")
    bulk._preview(st.session_state["shown"], "preview", ("", ()))


@pytest.fixture
def opened(busy: Database, monkeypatch: pytest.MonkeyPatch) -> Callable[[], AppTest]:
    monkeypatch.setattr(sys, "path", [str(PAGES), *sys.path])
    return lambda: checked(AppTest.from_function(preview, default_timeout=30).run())


def answered(database: Database, held: str | None = "ORD-3001", seconds_ago: float = 3) -> None:
    """The worker has asked: one of the three is still held over there."""
    (question,) = [command for command in stored(database) if command.state == "STORED"]
    store_lookup(database, FREE, *(order_id for order_id in FAILED if order_id != held), seconds_ago=seconds_ago)
    if held:
        store_lookup(database, RESERVED, held, seconds_ago=seconds_ago)
    database.write_now(lambda c: commands.finish(c, question.command_id, "DONE", Outcome("x"), NOON))


def button(test: AppTest) -> tuple[str, bool]:
    one = test.button(key=f"do_{KEY}")
    return one.label, one.disabled


def numbers(test: AppTest) -> list[str]:
    return [one.label for one in test.text_input]


def test_no_count_is_requested_before_the_preview_is_frozen(busy: Database, opened: Callable[[], AppTest]) -> None:
    test = opened()
    assert (button(test), numbers(test)) == (("Comparing with the Inventory Service", True), [])
    answered(busy)
    checked(test.run())
    assert (button(test), numbers(test)) == (("Mark released: 2 items", False), ["Type 2 to confirm"])


def test_what_comes_after_the_freezing_changes_no_number_and_is_shown(
    busy: Database, opened: Callable[[], AppTest]
) -> None:
    test = opened()
    answered(busy)
    checked(test.run())
    store_lookup(busy, RESERVED, "ORD-3000", seconds_ago=1)
    checked(test.run())
    assert (button(test), numbers(test)) == (("Mark released: 2 items", False), ["Type 2 to confirm"])
    assert "1 more would be refused by now: ask again to leave them out." in text_of(test)
    test.text_area(key=f"note_{KEY}").set_value("ticket 77")
    test.text_input(key=f"count_{KEY}").set_value("2")
    test.button(key=f"do_{KEY}").click().run()
    assert [operation.total for operation in started_jobs(busy)] == [2]


def test_the_preview_can_be_frozen_before_every_answer_is_there(busy: Database, opened: Callable[[], AppTest]) -> None:
    store_lookup(busy, RESERVED, "ORD-3001")
    test = press(opened(), f"now_{KEY}")
    assert button(test) == ("Mark released: 2 items", False)


def test_asking_again_freezes_anew(busy: Database, opened: Callable[[], AppTest]) -> None:
    test = opened()
    answered(busy, held=None)
    checked(test.run())
    assert button(test) == ("Mark released: 3 items", False)
    store_lookup(busy, RESERVED, "ORD-3000", seconds_ago=-1)
    # The others' answers are a moment old: nobody has to be asked, and what is known by now is frozen.
    press(test, f"again_{KEY}")
    assert button(test) == ("Mark released: 2 items", False)
    assert len(stored(busy)) == 1


def test_asking_again_after_a_while_is_another_question_and_the_number_is_open_again(
    busy: Database, opened: Callable[[], AppTest]
) -> None:
    test = opened()
    answered(busy, held=None, seconds_ago=60)
    checked(test.run())
    assert button(test) == ("Mark released: 3 items", False)
    press(test, f"again_{KEY}")
    assert (button(test), numbers(test)) == (("Comparing with the Inventory Service", True), [])
    first, second = stored(busy)
    assert (first.kind, first.arguments) == (second.kind, second.arguments)
    assert second.state == "STORED"
