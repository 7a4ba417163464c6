"""Releases and conservation: what waits, and that what people ask for is stored once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamlit.testing.v1 import AppTest

from state import commands, releases
from state.database import Database
from tests.ui.conftest import NOON, press, said, stored
from tests.ui.test_orders_page import dialog, listed

Show = Callable[..., AppTest]


def _has(test: AppTest, key: str) -> bool:
    return any(button.key == key for button in test.button)


def test_jobs_say_attempts_latest_error_and_next_try(busy: Database, show: Show) -> None:
    text = said(show("releases.py"))
    assert "3 failed, 3 pending" in text
    assert "4 attempts, next in 7 min" in text
    assert "INVENTORY_UNAVAILABLE: 503 from the Inventory Service" in text


def test_a_retry_needs_no_dialog_and_three_clicks_are_one_command(busy: Database, show: Show) -> None:
    first, second, third = show("releases.py"), show("releases.py"), show("releases.py")
    for test in (first, second, third):
        test.button(key="retry_ORD-3000").click().run()
    (command,) = stored(busy)
    assert (command.kind, command.target_id, command.arguments) == ("retry_release", "ORD-3000", {})
    assert "Stored] Retry release · console" in said(third)


def test_when_a_retry_has_ended_it_can_be_asked_for_again(busy: Database, show: Show) -> None:
    test = show("releases.py")
    test.button(key="retry_ORD-3000").click().run()
    assert test.button(key="retry_ORD-3000").disabled
    (command,) = stored(busy)
    busy.write_now(lambda c: commands.finish(c, command.command_id, "REFUSED", {"title": "Breaker open"}, NOON))
    test.run()
    assert "Refused] Retry release: Breaker open" in said(test)
    test.button(key="retry_ORD-3000").click().run()
    assert len(stored(busy)) == 2


def test_a_running_or_stored_retry_keeps_its_button_off(busy: Database, show: Show) -> None:
    assert show("releases.py").button(key="retry_ORD-3002").disabled


def test_selected_jobs_are_previewed_and_each_becomes_one_command(busy: Database, show: Show) -> None:
    test = show("releases.py")
    for order_id in ("ORD-3000", "ORD-3001", "ORD-3002"):
        test.checkbox(key=f"pick_release_{order_id}").check().run()
    # A retry of ORD-3002 is stored already.
    assert test.button(key="bulk_retry").label == "Retry 2"
    press(test, "bulk_retry")
    assert [row["Order"] for row in test.table[-1].value.to_dict("records")] == ["ORD-3000", "ORD-3001"]
    test.button(key=dialog(test, "do_")).click().run()
    assert [command.target_id for command in stored(busy)] == ["ORD-3000", "ORD-3001"]


def test_a_job_that_is_done_meanwhile_is_not_acted_on(busy: Database, show: Show) -> None:
    test = show("releases.py")
    test.checkbox(key="pick_release_ORD-3000").check().run()
    test.checkbox(key="pick_release_ORD-3001").check().run()

    def done(connection: Any) -> None:
        job = releases.get(connection, "ORD-3000")
        assert job is not None
        releases.settle(connection, job, NOON, state="DONE")

    busy.write_now(done)
    test.run()
    assert test.button(key="bulk_retry").label == "Retry 1"


def test_released_jobs_can_be_seen_but_not_retried(busy: Database, show: Show) -> None:
    def done(connection: Any) -> None:
        job = releases.get(connection, "ORD-3000")
        assert job is not None
        releases.settle(connection, job, NOON, state="DONE")

    busy.write_now(done)
    test = show("releases.py", job="Released")
    assert listed(test) == ["ORD-3000"]
    assert not _has(test, "retry_ORD-3000")
    assert test.checkbox(key="pick_release_ORD-3000").disabled


def test_nothing_to_release_is_good_news(database: Database, show: Show) -> None:
    assert "Nothing waits to be released." in said(show("releases.py"))
    assert "No job is in this state." in said(show("releases.py", job="Released"))


def test_a_difference_shows_what_its_compensation_does_and_stores_it_with_a_reason(busy: Database, show: Show) -> None:
    test = show("conservation.py")
    text = said(test)
    assert "1,234 comparisons, 1 difference" in text
    assert "1 differences" not in text
    assert "Hold leaked" in text
    assert "Release the hold by a release job." in text

    next(button for button in test.button if button.label == "Compensate").click().run()
    test.text_area[0].input("seen on the shelf")
    next(button for button in test.button if button.label == "Apply").click().run()

    command = next(command for command in stored(busy) if command.kind == "compensate")
    assert command.arguments["kind"] == "HOLD_LEAKED"
    assert command.arguments["reason"] == "seen on the shelf"


def test_a_conservation_page_without_differences_says_that_all_adds_up(database: Database, show: Show) -> None:
    assert "Nothing has been compared yet" in said(show("conservation.py"))
