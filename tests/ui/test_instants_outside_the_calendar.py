"""Instants that have no place in the calendar of the browser's zone break no page."""

from __future__ import annotations

from collections.abc import Callable
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import update
from streamlit.testing.v1 import AppTest

from state import tables
from state.engine.database import Database
from tests.support.pages import text_of

Show = Callable[..., AppTest]


@pytest.mark.parametrize(
    ("zone", "written"),
    [
        # "Not set" of a service written in Go, and "never".
        ("America/New_York", "0001-01-01T00:00:00Z"),
        ("Asia/Tokyo", "9999-12-31T23:59:59Z"),
        ("UTC", "9999-12-31T23:59:59-05:00"),
        ("UTC", "2026-02-30T00:00:00Z"),
    ],
)
def test_pages_of_an_order_and_of_the_audit_are_drawn(
    busy: Database, show: Show, monkeypatch: pytest.MonkeyPatch, zone: str, written: str
) -> None:
    facts = {"expiresAt": written, "reason": written}

    def write(connection) -> None:
        connection.execute(update(tables.order_history).values(details=facts))
        connection.execute(update(tables.audit_log).values(after=facts))

    busy.write_now(write)
    show("overview.py")
    import pages.parts.widgets.clock  # type: ignore[import-not-found]

    monkeypatch.setattr(pages.parts.widgets.clock, "_of_browser", lambda: ZoneInfo(zone))
    for page in ("order.py", "audit.py"):
        assert "As of " in text_of(show(page, order="ORD-1002"))
