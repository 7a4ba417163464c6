"""Releases: by cause, one at a time or in bulk from a frozen selection, with the result of each item."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text, update
from streamlit.testing.v1 import AppTest

from pages.parts.labels import cause_text
from services.console.facade import console
from services.domain.commands import Outcome
from services.domain.conservation import StockState
from state import audit, bulk_jobs, commands, releases, tables
from state.engine.database import Database
from state.releases import ReleaseFilter
from tests.support import seed_console
from tests.support.pages import (
    FAILED,
    NOON,
    UNAVAILABLE,
    dialog,
    listed,
    press,
    started_jobs,
    store_lookup,
    stored,
    text_of,
)

Show = Callable[..., AppTest]
UNAVAILABLE_TEXT = cause_text(UNAVAILABLE)
SAID = "INVENTORY_UNAVAILABLE: 503 from the Inventory Service"
TIMED_OUT = "INVENTORY_TIMEOUT"


def _has(test: AppTest, key: str) -> bool:
    return any(button.key == key for button in test.button)


def test_jobs_show_attempts_latest_error_and_next_try(busy: Database, show: Show) -> None:
    text = text_of(show("releases.py"))
    assert "3 failed, 3 pending" in text
    assert "4 attempts, next in 7 min" in text
    assert SAID in text


def test_a_retry_needs_no_dialog_and_three_clicks_are_one_command(busy: Database, show: Show) -> None:
    first, second, third = show("releases.py"), show("releases.py"), show("releases.py")
    for test in (first, second, third):
        test.button(key="retry_ORD-3000").click().run()
    (command,) = stored(busy)
    assert (command.kind, command.target_id, command.arguments) == ("retry_release", "ORD-3000", {})
    assert "Stored] Retry release · console" in text_of(third)


def test_when_a_retry_has_ended_it_can_be_requested_again(busy: Database, show: Show) -> None:
    test = show("releases.py")
    test.button(key="retry_ORD-3000").click().run()
    assert test.button(key="retry_ORD-3000").disabled
    (command,) = stored(busy)
    busy.write_now(lambda c: commands.finish(c, command.command_id, "REFUSED", Outcome("Breaker open"), NOON))
    test.run()
    assert "Refused] Retry release: Breaker open" in text_of(test)
    test.button(key="retry_ORD-3000").click().run()
    assert len(stored(busy)) == 2


def test_a_running_or_stored_retry_keeps_its_button_off(busy: Database, show: Show) -> None:
    assert show("releases.py").button(key="retry_ORD-3002").disabled


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


def test_nothing_to_release_has_a_text_of_its_own(database: Database, show: Show) -> None:
    assert "Nothing waits to be released." in text_of(show("releases.py"))
    assert "No job matches." in text_of(show("releases.py", job="Released"))


# -- causes and filters ------------------------------------------------------------------------


def test_jobs_are_grouped_by_cause_without_what_differs_between_them(busy: Database, show: Show) -> None:
    text = text_of(show("releases.py"))
    assert "3 failed" in text
    assert UNAVAILABLE_TEXT in text
    assert cause_text(TIMED_OUT) in text


def test_a_cause_is_a_filter_in_the_address(busy: Database, show: Show) -> None:
    test = press(show("releases.py"), "cause_0")
    assert test.query_params["cause"] in (UNAVAILABLE, [UNAVAILABLE])
    assert listed(test) == ["ORD-3000", "ORD-3001", "ORD-1007"]
    assert listed(show("releases.py", cause=TIMED_OUT)) == ["ORD-3002", "ORD-3003", "ORD-3004"]
    press(test, "cause_0")
    assert len(listed(test)) == 6


def test_order_state_and_sort_come_from_the_address(busy: Database, show: Show) -> None:
    assert listed(show("releases.py", find="ORD-3003")) == ["ORD-3003"]
    assert listed(show("releases.py", job="Failed", release_sort="Longest untouched first")) == [
        "ORD-1007",
        "ORD-3001",
        "ORD-3000",
    ]
    most = listed(show("releases.py", job="Pending", release_sort="Most attempts first"))
    assert most == ["ORD-3004", "ORD-3003", "ORD-3002"]


def test_a_filter_that_finds_nothing_can_be_cleared(busy: Database, show: Show) -> None:
    test = show("releases.py", cause="nobody has this", find="ORD-0")
    assert "No job matches." in text_of(test)
    press(test, "clear_filters")
    assert len(listed(test)) == 6


# -- bulk ----------------------------------------------------------------------------------------


def test_everything_at_once_is_not_offered_without_a_filter(busy: Database, show: Show) -> None:
    test = show("releases.py")
    assert test.button(key="retry_matching").label == "Retry 6 of 6 matching"
    assert test.button(key="retry_matching").disabled
    assert "first" in test.button(key="retry_matching").help
    assert not show("releases.py", job="Failed").button(key="retry_matching").disabled


def test_all_matching_are_previewed_frozen_and_stored_as_one_bulk_job(busy: Database, show: Show) -> None:
    store_lookup(busy, StockState.RESERVED, "ORD-1007", "ORD-3001", "ORD-3000")
    test = press(show("releases.py", cause=UNAVAILABLE), "retry_matching")
    shown = test.table[-1].value.to_dict("records")
    assert [row["Id"] for row in shown] == ["ORD-1007", "ORD-3001", "ORD-3000"]
    test.text_area(key=dialog(test, "note_")).set_value("they are back")
    test.button(key=dialog(test, "do_")).click().run()
    (operation,) = started_jobs(busy)
    assert (operation.bulk_action, operation.total, operation.reason) == ("retry_release", 3, "they are back")
    assert operation.filter == f"Pending, Failed; {UNAVAILABLE_TEXT}"
    assert operation.causes == [UNAVAILABLE]
    items = busy.read_now(lambda c: bulk_jobs.item_page(c, operation.job_id, limit=10))
    assert [(item.item_id, item.version, item.state) for item in items] == [
        ("ORD-1007", 2, "ASKED"),
        ("ORD-3001", 2, "ASKED"),
        ("ORD-3000", 2, "ASKED"),
    ]
    (entry,) = [e for e in busy.read_now(audit.page) if e.action_id == operation.job_id]
    assert (entry.actor, entry.action, entry.reason) == ("console", "BULK_RETRY_RELEASE", "they are back")
    assert stored(busy) == []


def test_what_changed_since_the_look_is_skipped_and_what_is_new_is_not_included(busy: Database, show: Show) -> None:
    store_lookup(busy, StockState.RESERVED, "ORD-1007", "ORD-3001", "ORD-3000")
    test = press(show("releases.py", cause=UNAVAILABLE), "retry_matching")

    failed = releases.failure_values(SAID, seed_console.UNAVAILABLE)

    def meanwhile(connection: Any) -> None:
        job = releases.get(connection, "ORD-3000")
        assert job is not None
        releases.settle(connection, job, NOON, state="FAILED")
        for order_id in ("ORD-3002", "ORD-3003"):
            other = releases.get(connection, order_id)
            assert other is not None
            releases.settle(connection, other, NOON, state="FAILED", **failed)

    busy.write_now(meanwhile)
    test.button(key=dialog(test, "do_")).click().run()
    (operation,) = started_jobs(busy)
    assert (operation.total, operation.unseen, operation.tally) == (3, 2, {"ASKED": 2, "SKIPPED": 1})
    text = text_of(test)
    assert "Since 12:00:00: 1 of 3 changed since and is skipped; 2 new match, not included" in text
    assert "Not included: 2 new ones matched at the commit." in text
    items = busy.read_now(lambda c: bulk_jobs.item_page(c, operation.job_id, limit=10))
    assert {item.item_id for item in items} == {"ORD-1007", "ORD-3000", "ORD-3001"}


def test_the_same_start_again_is_the_same_bulk_job(busy: Database) -> None:
    frozen = console().releases.freeze("retry_release", ReleaseFilter(("FAILED",)), "Failed")
    first, second, third = (console().bulk.start(frozen, "", actor="ada", job_id="key-1") for _ in range(3))
    assert first.job == second.job == third.job
    assert len(started_jobs(busy)) == 1
    again = [entry.action for entry in busy.read_now(audit.page) if entry.at == NOON]
    assert again == ["BULK_RETRY_RELEASE"]


def test_what_must_not_be_stored_is_refused_by_the_facade_too(busy: Database) -> None:
    everything = ReleaseFilter(("FAILED", "PENDING"))
    with pytest.raises(ValueError, match="narrows nothing"):
        console().releases.freeze("retry_release", everything, "all")
    frozen = console().releases.freeze("mark_released", ReleaseFilter(("FAILED", "PENDING"), UNAVAILABLE), "x")
    assert {target.state for target in frozen.targets} == {"FAILED"}
    with pytest.raises(ValueError, match="reason"):
        console().bulk.start(frozen, " ", actor="ada", job_id="key-1")
    too_many = replace(frozen, targets=frozen.targets * 400)
    with pytest.raises(ValueError, match="1 to 1000"):
        console().bulk.start(too_many, "proof", actor="ada", job_id="key-1")
    assert started_jobs(busy) == []


def test_a_file_of_items_is_safe_to_open_in_a_spreadsheet(busy: Database) -> None:
    busy.write_now(
        lambda c: c.execute(update(tables.operation_items).where(text("state = 'FAILED'")).values(detail="=cmd()"))
    )
    lines = console().bulk.csv("OP-1").splitlines()
    assert len(lines) == 13
    assert lines[0].startswith("item_id,order_id,version")
    assert lines[1].endswith(",'=cmd()")


def test_selected_release_jobs_become_one_bulk_job_by_id_and_version(busy: Database, show: Show) -> None:
    store_lookup(busy, StockState.RESERVED, "ORD-3000", "ORD-3001")
    test = show("releases.py")
    for order_id in ("ORD-3000", "ORD-3001", "ORD-3002"):
        test.checkbox(key=f"pick_release_{order_id}").check().run()
    # A retry of ORD-3002 is stored already.
    assert test.button(key="bulk_retry").label == "Retry 2"
    press(test, "bulk_retry")
    assert [row["Id"] for row in test.table[-1].value.to_dict("records")] == ["ORD-3000", "ORD-3001"]
    test.button(key=dialog(test, "do_")).click().run()
    (operation,) = started_jobs(busy)
    assert (operation.total, operation.filter, operation.unseen) == (2, "2 selected", 0)
    assert not test.checkbox(key="pick_release_ORD-3000").value


def test_one_chosen_job_is_retried_by_its_key_without_a_dialog(busy: Database, show: Show) -> None:
    test = show("releases.py")
    test.checkbox(key="pick_release_ORD-3000").check().run()
    button = test.button(key="bulk_retry")
    assert (button.label, button.proto.shortcut.lower()) == ("Retry 1", "t")
    # The key of the row's own button: both together are one command.
    press(test, "bulk_retry")
    (command,) = stored(busy)
    assert (command.kind, command.target_id) == ("retry_release", "ORD-3000")
    assert started_jobs(busy) == []
    assert not test.checkbox(key="pick_release_ORD-3000").value


@pytest.mark.parametrize(("proof", "count"), [("", "3"), ("ticket 77", "2"), ("ticket 77", "")])
def test_marking_several_needs_a_proof_and_the_count_typed(busy: Database, show: Show, proof: str, count: str) -> None:
    store_lookup(busy, StockState.FREE, *FAILED)
    test = press(show("releases.py", job="Failed"), "mark_matching")
    test.text_area(key=dialog(test, "note_")).set_value(proof)
    test.text_input(key=dialog(test, "count_")).set_value(count)
    test.button(key=dialog(test, "do_")).click().run()
    assert started_jobs(busy) == []


def test_marking_several_is_one_bulk_job_with_its_proof(busy: Database, show: Show) -> None:
    store_lookup(busy, StockState.FREE, *FAILED)
    test = press(show("releases.py", job="Failed"), "mark_matching")
    test.text_area(key=dialog(test, "note_")).set_value("ticket 77")
    test.text_input(key=dialog(test, "count_")).set_value("3")
    test.button(key=dialog(test, "do_")).click().run()
    (operation,) = started_jobs(busy)
    assert (operation.bulk_action, operation.total, operation.reason) == ("mark_released", 3, "ticket 77")


@pytest.mark.parametrize("proof", ["", "seen in their ledger"])
def test_one_failed_job_is_marked_with_proof_and_the_version_seen(busy: Database, show: Show, proof: str) -> None:
    test = press(show("releases.py"), "mark_ORD-3000")
    assert not _has(test, "mark_ORD-3002")
    assert "Inventory status" in text_of(test)
    test.text_area(key=dialog(test, "note_")).set_value(proof)
    test.button(key=dialog(test, "do_")).click().run()
    asked, *others = stored(busy)
    assert (asked.kind, asked.target_id) == ("ask_theirs", "ORD-3000")
    given = [(command.kind, command.target_id, command.arguments) for command in others]
    expected = [("mark_released", "ORD-3000", {"proof": proof, "version": 2})]
    assert given == (expected if proof else [])


# -- the breaker ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "wait", "label"),
    [
        ("closed", None, "Retry now"),
        ("open", 18_000, "Queue until it closes (half-open in 18 s)"),
        ("half_open", None, "Queue until it closes (half-open now)"),
        ("forced_open", 60_000, "Queue until it closes (forced open, 60 s left)"),
    ],
)
def test_the_button_shows_what_the_release_breaker_makes_of_a_retry(
    busy: Database, show: Show, state: str, wait: int | None, label: str
) -> None:
    guard = seed_console.breaker("inventoryServiceReleaser", state, NOON - timedelta(seconds=12), retryInMs=wait)
    busy.write_now(lambda c: seed_console.heartbeat(c, NOON, [guard]))
    test = show("releases.py", job="Failed")
    assert test.button(key="retry_ORD-3000").label == label
    matching = "Retry 3 of 3 matching" if state == "closed" else "Queue 3 of 3 matching"
    assert test.button(key="retry_matching").label == matching


# -- operations ------------------------------------------------------------------------------------


def test_a_bulk_job_shows_its_items_why_it_stopped_and_new_failures(busy: Database, show: Show) -> None:
    text = text_of(show("releases.py"))
    assert "Stopped itself" in text
    assert "**12** asked :gray[·] **1** sent :gray[·] **0** accepted :gray[·] **0** confirmed" in text
    assert "Stopped by itself: 1 of 1 in the stage of 1 not confirmed." in text
    assert "3 new failures of the same cause since." in text
    assert "Done] **Retry release: 6 items**" in text


@pytest.mark.parametrize("move", ["resume", "cancel"])
def test_a_stopped_bulk_job_is_resumed_or_cancelled_by_one_command(busy: Database, show: Show, move: str) -> None:
    first, second = show("releases.py"), show("releases.py")
    for test in (first, second):
        test.button(key=f"{move}_OP-1").click().run()
    (command,) = stored(busy)
    assert (command.kind, command.target_id, command.arguments) == ("steer_operation", "OP-1", {"move": move})
    assert not _has(first, f"{move}_OP-2")


def test_the_items_of_a_bulk_job_are_a_link_with_a_file(busy: Database, show: Show) -> None:
    test = press(show("releases.py"), "items_OP-1")
    rows = test.dataframe[0].value.to_dict("records")
    assert (rows[0]["State"], rows[0]["Detail"]) == ("Failed again", SAID)
    assert len(rows) == 12
    again = show("releases.py", operation="OP-2")
    assert [row["State"] for row in again.dataframe[0].value.to_dict("records")] == [
        *["Confirmed"] * 5,
        "Skipped, changed",
    ]
    assert len(again.get("download_button")) == 1


def test_a_bulk_job_that_waits_for_the_breaker_shows_until_when(busy: Database, show: Show) -> None:
    until = NOON + timedelta(seconds=18)
    busy.write_now(lambda c: bulk_jobs.change(c, "OP-1", state="RUNNING", waits_until=until))
    assert "Queued until the breaker closes (half-open in 18 s)." in text_of(show("releases.py"))


def test_a_bulk_job_that_ended_without_every_confirmation_is_not_called_done(busy: Database, show: Show) -> None:
    busy.write_now(lambda c: bulk_jobs.change(c, "OP-2", tally={"CONFIRMED": 5, "UNANSWERED": 1}))
    assert "Ended, not all confirmed] **Retry release: 6 items**" in text_of(show("releases.py"))


def test_running_bulk_jobs_appear_on_the_overview(busy: Database, show: Show) -> None:
    assert "Stopped itself] Retry release: 12 items, 0 of 12 confirmed" in text_of(show())
