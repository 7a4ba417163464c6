"""Sandbox: drills are set up, stopped and read; where there is no sandbox there is nothing of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from streamlit.testing.v1 import AppTest

from state.engine.database import Database
from tests.support import seed_console
from tests.support.pages import NOON, begin, dialog, press, stored, text_of

Show = Callable[..., AppTest]
REPORT_LINES = (
    "detected after 3.1 s · 44 orders hurt · recovered after",
    "Nothing lost]",
)


def test_a_drill_is_stored_with_its_length_level_and_reason(busy: Database, show: Show) -> None:
    test = press(show("sandbox.py"), "drill_error_rate")
    test.button(key=dialog(test, "do_")).click().run()
    assert stored(busy) == []
    do = dialog(press(test, "drill_error_rate"), "do_")
    key = do.removeprefix("do_")
    test.text_area(key=f"note_{key}").set_value("before the sale")
    test.number_input(key=f"seconds_{key}").set_value(20)
    test.number_input(key=f"level_{key}").set_value(0.25)
    test.button(key=do).click().run()
    (command,) = stored(busy)
    assert (command.kind, command.target_id) == ("start_drill", "error_rate")
    assert command.arguments == {"seconds": 20, "level": 0.25, "reason": "before the sale"}


def test_an_active_drill_can_be_stopped_and_blocks_a_second_one(busy: Database, show: Show) -> None:
    begin(busy, noticed={"breaker": (NOON - timedelta(seconds=17)).isoformat()})
    test = show("sandbox.py")
    text = text_of(test)
    assert "40 s left" in text
    assert "Noticed by: a breaker opened after 3 s." in text
    assert all(test.button(key=f"drill_{kind}").disabled for kind in ("outage", "latency", "sold_out"))
    press(test, "stop_drill")
    (command,) = stored(busy)
    assert (command.kind, command.target_id) == ("stop_drill", "DRL-2")


@pytest.mark.parametrize("phase", ["RESTORING", "RECOVERING", "CHECKING"])
def test_faults_that_are_over_cannot_be_stopped(busy: Database, show: Show, phase: str) -> None:
    begin(busy, phase, ended_at=NOON)
    assert show("sandbox.py").button(key="stop_drill").disabled


def test_past_drills_are_listed_and_have_links(busy: Database, show: Show) -> None:
    test = show("sandbox.py")
    for line in REPORT_LINES:
        assert line in text_of(test)
    press(test, "open_DRL-1")
    assert test.query_params["drill"] in ("DRL-1", ["DRL-1"])
    text = text_of(test)
    assert "a breaker opened after 3.1 s" in text
    assert "Every order is settled or waits for a person; all adds up." in text
    links = {link.proto.label: link.proto.query_string for link in test.get("page_link")}
    assert links["Show exactly these orders"].startswith("from=2026-11-22T10")
    press(test, "every_drill")
    assert "Past drills" in text_of(test)


def test_an_unknown_drill_is_reported(busy: Database, show: Show) -> None:
    assert "No such drill is known" in text_of(show("sandbox.py", drill="nobody"))


def test_stock_ledger_and_faults_are_shown_with_the_time_they_were_read(busy: Database, show: Show) -> None:
    text = text_of(show("sandbox.py"))
    assert "As read by the worker 11:59:58 · 2 s ago · no faults" in text
    assert "reserve · Oak chair, model 1 · +2 reserved" in text


def test_setting_the_traffic_rate_stores_a_command(busy: Database, show: Show) -> None:
    test = show("sandbox.py")
    test.number_input(key="traffic_rate").set_value(4.0)
    press(test, "set_traffic")
    (command,) = stored(busy)
    assert (command.kind, command.arguments) == ("set_traffic", {"ordersPerSecond": 4.0})


def test_without_traffic_the_page_warns_that_a_drill_shows_nothing(busy: Database, show: Show) -> None:
    busy.write_now(lambda connection: seed_console.heartbeat(connection, NOON, sandboxTraffic=0.0))
    test = show("sandbox.py")
    assert "proves nothing" in text_of(test)
    assert test.button(key="set_traffic").disabled


def test_with_a_real_inventory_service_there_is_no_drill(busy: Database, show: Show) -> None:
    busy.write_now(lambda connection: seed_console.heartbeat(connection, NOON, sandbox=False))
    test = show("sandbox.py")
    assert [button.key for button in test.button if button.key and button.key.startswith("drill_")] == []
    assert "A real Inventory Service is in use" in test.info[0].value
