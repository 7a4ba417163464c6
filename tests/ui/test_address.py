"""The address of a page as the session knows it, when the browser still has an older one."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

PAGES = Path(__file__).resolve().parents[2] / "pages"


def page() -> None:
    import streamlit as st

    from pages.parts import address

    def swap() -> None:
        address.drop("case")
        address.put("case", "REV-9")

    address.arrive(st.session_state.get("page", "reviews"))
    st.button("Open", key="open", on_click=address.put, args=("case", "REV-1"))
    st.button("Close", key="close", on_click=address.drop, args=("case", "group"))
    st.button("Swap", key="swap", on_click=swap)
    st.button("Other", key="other", on_click=address.put, args=("group", "late"))
    st.text(address.get("case") or "none")


@pytest.fixture
def test(monkeypatch: pytest.MonkeyPatch) -> AppTest:
    monkeypatch.syspath_prepend(str(PAGES))
    return AppTest.from_function(page)


def shown(test: AppTest) -> str:
    return str(test.text[0].value)


def click(test: AppTest, key: str, **from_browser: str) -> str:
    """Click a button in a browser whose address is the given one; returns the case that the page then shows."""
    if from_browser:
        test.query_params.clear()
        for name, value in from_browser.items():
            if value:
                test.query_params[name] = value
    test.button(key=key).click().run()
    assert not test.exception
    return shown(test)


def test_a_click_from_before_the_closing_does_not_open_again(test: AppTest) -> None:
    test.query_params["case"] = "REV-1"
    assert shown(test.run()) == "REV-1"
    assert click(test, "close") == "none"
    assert click(test, "other", case="REV-1") == "none"
    assert "case" not in test.query_params
    assert test.query_params["group"] in ("late", ["late"])


def test_a_click_from_before_the_opening_does_not_close(test: AppTest) -> None:
    test.run()
    assert click(test, "open") == "REV-1"
    assert click(test, "other", case="") == "REV-1"


def test_every_former_value_is_known_as_one(test: AppTest) -> None:
    test.query_params["case"] = "REV-1"
    test.run()
    assert click(test, "swap") == "REV-9"
    assert click(test, "other", case="REV-1") == "REV-9"
    assert click(test, "other", case="") == "REV-9"


def test_another_value_is_a_navigation(test: AppTest) -> None:
    test.query_params["case"] = "REV-1"
    test.run()
    click(test, "close")
    assert click(test, "other", case="REV-7") == "REV-7"
    assert click(test, "other", case="REV-1") == "REV-1"


def test_after_a_while_a_former_value_is_a_navigation(test: AppTest, monkeypatch: pytest.MonkeyPatch) -> None:
    test.query_params["case"] = "REV-1"
    test.run()
    click(test, "close")
    later = time.monotonic() + 60
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert click(test, "other", case="REV-1") == "REV-1"


def test_another_page_has_an_address_of_its_own(test: AppTest) -> None:
    test.query_params["case"] = "REV-1"
    test.run()
    click(test, "close")
    test.session_state["page"] = "order"
    test.query_params["case"] = "REV-1"
    assert shown(test.run()) == "REV-1"


def test_every_page_reads_and_writes_its_address_through_the_one_part_for_it() -> None:
    direct = re.compile(r"st\.query_params\b")
    users = {file.relative_to(PAGES).as_posix() for file in PAGES.rglob("*.py") if direct.search(file.read_text())}
    assert users == {"parts/address.py"}
