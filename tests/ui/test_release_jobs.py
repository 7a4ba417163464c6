"""One release job: compared on demand, what a retry does, what is refused, and what helped before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from services.domain.conservation import StockState
from state.engine.database import Database
from tests.support.pages import UNAVAILABLE, as_role, checked, dialog, press, store_lookup, stored, text_of

Show = Callable[..., AppTest]
RESERVED, DEDUCTED, FREE = StockState.RESERVED, StockState.DEDUCTED, StockState.FREE


def past_resolutions(test: AppTest) -> list[dict[str, Any]]:
    return next(table.value.to_dict("records") for table in test.table if "Action" in table.value.columns)


def warnings(test: AppTest) -> str:
    return "\n".join(str(one.value) for one in [*test.warning, *test.success])


def test_the_reconciliation_of_a_job_is_shown_on_demand_with_one_lookup(busy: Database, show: Show) -> None:
    test = press(show("releases.py"), "open_ORD-3000")
    assert test.query_params["release"] in ("ORD-3000", ["ORD-3000"])
    text = text_of(checked(test.run()))
    assert "version 2" in text
    assert "Inventory status" in text
    (question,) = stored(busy)
    assert (question.kind, question.target_id) == ("ask_theirs", "ORD-3000")


def test_the_list_requests_no_lookup(busy: Database, show: Show) -> None:
    show("releases.py")
    assert stored(busy) == []


@pytest.mark.parametrize(
    ("stock", "reason"), [(RESERVED, "still has stock reserved"), (DEDUCTED, "has already deducted the stock")]
)
def test_reserved_or_deducted_stock_is_not_marked_and_the_reason_is_shown(
    busy: Database, show: Show, stock: StockState, reason: str
) -> None:
    store_lookup(busy, stock, "ORD-3000")
    listed = show("releases.py")
    assert listed.button(key="mark_ORD-3000").disabled
    assert reason in listed.button(key="mark_ORD-3000").help
    assert f"{'reserved' if stock == RESERVED else 'deducted'} at the Inventory Service, asked 3 s ago" in text_of(
        listed
    )
    opened = show("releases.py", release="ORD-3000")
    assert opened.button(key=dialog(opened, "do_")).disabled
    assert reason in warnings(opened)


def test_the_dialog_that_marks_requests_the_inventory_status_first(busy: Database, show: Show) -> None:
    test = press(show("releases.py"), "mark_ORD-3000")
    assert "Not asked yet." in text_of(test)
    assert [command.kind for command in stored(busy)] == ["ask_theirs"]
    assert not test.button(key=dialog(test, "do_")).disabled


def test_free_stock_supports_the_proof_and_a_retry_is_harmless(busy: Database, show: Show) -> None:
    store_lookup(busy, FREE, "ORD-3000", said="RELEASED")
    test = show("releases.py", release="ORD-3000")
    assert "that supports the proof" in warnings(test)
    assert "a retry is harmless, finds no reservation and closes the job" in text_of(test)
    assert not test.button(key="retry_open_ORD-3000").disabled
    test.text_area(key=dialog(test, "note_")).set_value("seen in their ledger")
    test.button(key=dialog(test, "do_")).click().run()
    (command,) = stored(busy)
    assert (command.kind, command.arguments) == ("mark_released", {"proof": "seen in their ledger", "version": 2})


def test_three_proofs_given_on_one_sight_are_one_command(busy: Database, show: Show) -> None:
    store_lookup(busy, FREE, "ORD-3000")
    tests = [show("releases.py", release="ORD-3000") for _ in range(3)]
    for test in tests:
        test.text_area(key=dialog(test, "note_")).set_value("ticket 77")
        test.button(key=dialog(test, "do_")).click().run()
    assert [command.kind for command in stored(busy)] == ["mark_released"]
    assert "A command on this job is under way." in warnings(tests[-1])


def test_deducted_stock_is_not_retried(busy: Database, show: Show) -> None:
    store_lookup(busy, DEDUCTED, "ORD-3000")
    test = show("releases.py", release="ORD-3000")
    for key in ("retry_open_ORD-3000", "retry_ORD-3000"):
        assert test.button(key=key).disabled
        assert "would refuse the release again" in test.button(key=key).help


@pytest.mark.parametrize(("stock", "more"), [(None, {"problem": "NO_ANSWER"}), (RESERVED, {"seconds_ago": 301})])
def test_an_unknown_or_old_inventory_status_refuses_nothing(
    busy: Database, show: Show, stock: StockState | None, more: dict[str, Any]
) -> None:
    store_lookup(busy, stock, "ORD-1007", **more)
    test = show("releases.py", release="ORD-1007")
    assert not test.button(key=dialog(test, "do_")).disabled
    assert not test.button(key="mark_ORD-1007").disabled


def test_a_retry_from_the_work_area_and_from_the_list_is_one_command(busy: Database, show: Show) -> None:
    store_lookup(busy, RESERVED, "ORD-3000")
    first, second = show("releases.py", release="ORD-3000"), show("releases.py", release="ORD-3000")
    press(first, "retry_open_ORD-3000")
    press(second, "retry_ORD-3000")
    assert [command.kind for command in stored(busy)] == ["retry_release"]


def test_a_viewer_sees_the_reconciliation_and_every_action_disabled(busy: Database, show: Show) -> None:
    as_role(busy, "viewer")
    test = show("releases.py", release="ORD-3000")
    for key in ("retry_open_ORD-3000", "look_up_ORD-3000", dialog(test, "do_")):
        assert test.button(key=key).disabled
    assert stored(busy) == []


def test_an_order_without_a_job_is_reported_as_having_none(busy: Database, show: Show) -> None:
    assert "No release job of ORD-2000 exists." in text_of(show("releases.py", release="ORD-2000"))


@pytest.mark.parametrize("parameters", [{"release": "ORD-3000"}, {"cause": UNAVAILABLE}], ids=["job", "cause"])
def test_the_past_resolutions_of_a_release_cause_have_action_and_actor_and_how_often_it_lasted(
    busy: Database, show: Show, parameters: dict[str, str]
) -> None:
    found = past_resolutions(show("releases.py", **parameters))
    assert [(row["Action"], row["Times"], row["Lasted"]) for row in found] == [
        ("Bulk retry", "3", "2 of 2, 1 under way"),
        ("Retry", "2", "1 of 2"),
        ("Automatic retries", "1", "0 of 1"),
        ("Marked released", "1", "1 of 1"),
    ]
    assert found[0]["Last"] == "olga, 2 h ago: service is back"
    assert found[-1]["Last"] == "ben, 60 min ago: ticket 41"


def test_a_cause_about_which_nothing_was_done_reports_it(busy: Database, show: Show) -> None:
    assert "Nothing has been done yet about a release with the cause" in text_of(
        show("releases.py", release="ORD-3003")
    )
