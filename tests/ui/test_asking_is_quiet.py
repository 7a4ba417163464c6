"""Questions to the other side change nothing, and so they crowd out nothing that people have done."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from streamlit.testing.v1 import AppTest

from state import commands
from state.commands import Command
from state.engine.database import Database
from tests.support.pages import NOON, text_of


def test_lookups_are_not_listed_as_actions(busy: Database, show: Callable[..., AppTest]) -> None:
    asked = [
        Command(f"q-{n}", "ask_theirs", "ORD-3003", {}, "ben", "STORED", NOON + timedelta(seconds=n)) for n in range(9)
    ]
    busy.write_now(lambda connection: [commands.store(connection, command) for command in asked])
    text = text_of(show("order.py", order="ORD-3003"))
    assert "Retry release: Released" in text
    assert "Ask the Inventory Service" not in text
    assert "Ask the Inventory Service" not in text_of(show())
