"""Texts of other systems on pages: their Markdown has no effect, their addresses are no links, long ones are cut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from streamlit.testing.v1 import AppTest

from pages.parts import labels
from state import alerts
from state.engine.database import Database
from tests.support import seed_alerts
from tests.support.pages import NOON

Show = Callable[..., AppTest]
HOSTILE = (
    "x](https://evil.example) ![b](https://evil.example/b.png) [Sign in again](https://evil.example) www.evil.example"
)


@pytest.mark.parametrize("page", ["overview.py", "alerts.py"])
def test_the_severity_of_a_received_alert_is_text(busy: Database, show: Show, page: str) -> None:
    alert = seed_alerts.received(NOON)
    named = replace(alert, labels={**alert.labels, "severity": HOSTILE})
    busy.write_now(lambda connection: alerts.put(connection, named))
    shown = [element.value for element in show(page).markdown if "evil" in element.value.lower()]
    assert shown
    for text in shown:
        assert "](" not in text
        assert "![" not in text
        assert "://" not in text
        assert "www." not in text.lower()


@pytest.mark.parametrize(
    "address", ["https://evil.example", "HTTP://evil.example", "WWW.evil.example", "a@evil.example"]
)
def test_an_address_is_no_link_and_comes_back_as_it_was_when_it_is_pasted(address: str) -> None:
    shown = labels.plain(address).replace("\\", "")
    assert "://" not in shown
    assert "www." not in shown.lower()
    assert "a@e" not in shown
    assert labels.typed(shown) == address


def test_a_long_text_shows_its_beginning() -> None:
    assert len(labels.plain("word " * 40_000)) < 2 * labels.MOST_TEXT
    assert len(labels.badge(labels.SEVERITY, "S" * 200_000)) < 200
