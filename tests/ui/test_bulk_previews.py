"""The preview of a bulk job: one lookup, then a frozen selection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete
from streamlit.testing.v1 import AppTest

from services.console.bulk import BulkRequest, BulkTarget, narrowed
from services.console.facade import console
from services.domain.bulk import BulkAction
from services.domain.commands import Outcome
from services.domain.conservation import StockState
from services.domain.reconciliation import MAX_ASKED, Agreement, freeze
from state import audit, bulk_jobs, commands, orders, tables
from state.engine.database import Database
from tests.support import seed_console
from tests.support.pages import (
    FAILED,
    NOON,
    UNAVAILABLE,
    as_role,
    dialog,
    press,
    started_jobs,
    store_lookup,
    stored,
    text_of,
)

Show = Callable[..., AppTest]
RESERVED, DEDUCTED, FREE = StockState.RESERVED, StockState.DEDUCTED, StockState.FREE


def rows(test: AppTest) -> dict[str, dict[str, str]]:
    """By id, without Markdown's escapes."""
    shown = test.table[-1].value.map(lambda cell: cell.replace("\\", "")).to_dict("records")
    return {row["Id"]: row for row in shown}


def form_button(test: AppTest) -> Any:
    return test.button(key=dialog(test, "do_"))


def test_opening_a_preview_requests_one_lookup_of_the_frozen_targets(busy: Database, show: Show) -> None:
    test = press(show("releases.py", job="Failed"), "mark_matching")
    (question,) = stored(busy)
    assert (question.kind, question.arguments) == ("ask_theirs_many", {"orderIds": list(FAILED)})
    assert "Asking the Inventory Service..." in text_of(test)
    assert {row["Inventory status"] for row in rows(test).values()} == {"Asking..."}
    button = form_button(test)
    assert (button.label, button.disabled) == ("Comparing with the Inventory Service", True)
    assert not [one for one in test.text_input if str(one.key).startswith("count_")]


def test_recent_lookups_are_not_repeated(busy: Database, show: Show) -> None:
    store_lookup(busy, FREE, *FAILED)
    test = press(show("releases.py", job="Failed"), "mark_matching")
    assert stored(busy) == []
    assert "Agreed: 3; would be refused: 0; not answered: 0." in text_of(test)
    assert not [row for row in rows(test).values() if "What follows" in row]
    assert form_button(test).label == "Mark released: 3 items"


def test_targets_refused_by_the_inventory_status_are_left_out_and_every_number_follows(
    busy: Database, show: Show
) -> None:
    store_lookup(busy, FREE, "ORD-1007", "ORD-3000")
    store_lookup(busy, RESERVED, "ORD-3001", said="ACTIVE")
    test = press(show("releases.py", job="Failed"), "mark_matching")
    shown = rows(test)
    assert {order_id: row["Inventory status"] for order_id, row in shown.items()} == {
        "ORD-1007": "Nothing reserved",
        "ORD-3000": "Nothing reserved",
        "ORD-3001": "Reserved",
    }
    assert [row["What follows"] for row in shown.values()] == ["", "Will be left out", ""]
    text = text_of(test)
    assert (
        "1 will be left out: The Inventory Service still has stock reserved for this order: retry the release" in text
    )
    assert "Agreed: 2; would be refused: 1; not answered: 0." in text
    assert "acts on 2 of 3" in text
    assert form_button(test).label == "Mark released: 2 items"
    assert test.text_input(key=dialog(test, "count_")).label == "Type 2 to confirm"
    test.text_area(key=dialog(test, "note_")).set_value("ticket 77")
    test.text_input(key=dialog(test, "count_")).set_value("2")
    form_button(test).click().run()
    (operation,) = started_jobs(busy)
    assert (operation.total, operation.unseen) == (2, 0)
    assert operation.filter == "Failed; 1 left out, the inventory status differs"
    items = busy.read_now(lambda c: bulk_jobs.item_page(c, operation.job_id, limit=10))
    assert {item.item_id for item in items} == {"ORD-1007", "ORD-3000"}
    (entry,) = [one for one in busy.read_now(audit.page) if one.action_id == operation.job_id]
    assert entry.before == {"filter": "Failed", "shown": 3, "leftOut": ["ORD-3001"]}


def test_the_number_of_everything_shown_is_not_the_number_to_type(busy: Database, show: Show) -> None:
    store_lookup(busy, FREE, "ORD-1007", "ORD-3000")
    store_lookup(busy, RESERVED, "ORD-3001")
    test = press(show("releases.py", job="Failed"), "mark_matching")
    test.text_area(key=dialog(test, "note_")).set_value("ticket 77")
    test.text_input(key=dialog(test, "count_")).set_value("3")
    form_button(test).click().run()
    assert started_jobs(busy) == []


def test_without_any_agreeing_target_there_is_no_button(busy: Database, show: Show) -> None:
    store_lookup(busy, RESERVED, *FAILED)
    test = press(show("releases.py", job="Failed"), "mark_matching")
    assert "rules out every one of them" in text_of(test)
    assert not [one for one in test.button if str(one.key).startswith("do_")]


def test_a_retry_of_what_is_released_already_goes_along_and_shows_what_it_does(busy: Database, show: Show) -> None:
    store_lookup(busy, FREE, "ORD-1007")
    store_lookup(busy, RESERVED, "ORD-3000")
    store_lookup(busy, DEDUCTED, "ORD-3001")
    test = press(show("releases.py", cause=UNAVAILABLE), "retry_matching")
    shown = {order_id: row["What follows"] for order_id, row in rows(test).items()}
    assert shown == {
        "ORD-1007": "Harmless: nothing reserved, closes the job",
        "ORD-3001": "Will be left out",
        "ORD-3000": "Releases the reservation",
    }
    assert form_button(test).label == "Retry release: 2 items"


def test_cases_are_compared_by_their_reason_and_their_orders_status(busy: Database, show: Show) -> None:
    store_lookup(busy, DEDUCTED, "ORD-1006", "ORD-1004", seconds_ago=1)
    test = press(show("reviews.py", product="SKU-CHAIR"), "matching_RECONFIRM")
    shown = {review_id: row["What follows"] for review_id, row in rows(test).items()}
    assert shown == {"REV-3": "", "REV-2": "Will be left out"}
    assert "reserving anew would take it twice" in text_of(test)
    form_button(test).click().run()
    (operation,) = started_jobs(busy)
    items = busy.read_now(lambda c: bulk_jobs.item_page(c, operation.job_id, limit=10))
    assert [item.item_id for item in items] == ["REV-3"]


@pytest.mark.parametrize(
    ("role", "follows"), [("operator", "refused when the turn comes"), ("admin", "you act over that claim")]
)
def test_a_preview_names_claimed_cases_and_the_consequence(busy: Database, show: Show, role: str, follows: str) -> None:
    as_role(busy, role)
    test = press(show("reviews.py", product="SKU-CHAIR"), "matching_RECONFIRM")
    assert f"1 claimed by olga@example.com: {follows}." in text_of(test)
    notes = {review_id: row["Note"] for review_id, row in rows(test).items()}
    assert notes["REV-2"].startswith("olga")
    assert "works on it" not in notes["REV-3"]


@pytest.mark.parametrize("problem", ["CANNOT_ANSWER", "NO_ANSWER"])
def test_an_unknown_inventory_status_leaves_nothing_out(busy: Database, show: Show, problem: str) -> None:
    store_lookup(busy, None, *FAILED, problem=problem)
    test = press(show("releases.py", job="Failed"), "mark_matching")
    assert "Agreed: 0; would be refused: 0; not answered: 3." in text_of(test)
    assert form_button(test).label == "Mark released: 3 items"


def test_without_a_worker_nobody_waits_for_an_answer(busy: Database, show: Show) -> None:
    busy.write_now(lambda c: c.execute(delete(tables.replicas)))
    test = press(show("releases.py", job="Failed"), "mark_matching")
    assert form_button(test).label == "Mark released: 3 items"
    assert {row["Inventory status"] for row in rows(test).values()} == {"Not answered"}


# -- the facade -------------------------------------------------------------------------------------


def many(number: int) -> BulkRequest:
    targets = tuple(
        BulkTarget(f"REV-{one}", f"ORD-8{one:03}", 1, "OPEN", "CONFIRMATION_TIMEOUT") for one in range(number)
    )
    return BulkRequest(BulkAction.RESOLVE_REVIEW, "RECONFIRM", targets, NOON, "all")


@pytest.fixture
def sixty(database: Database) -> BulkRequest:
    bulk = many(60)

    def fill(connection: Any) -> None:
        for target in bulk.targets:
            orders.add(connection, seed_console.order(target.order_id, "PLACED", NOON - timedelta(minutes=9)), "h")

    database.write_now(fill)
    return bulk


def test_a_lookup_has_the_first_fifty_targets_and_the_others_are_compared_later(
    database: Database, sixty: BulkRequest
) -> None:
    question = console().previews.ask(sixty, actor="ada", command_id="q-1")
    assert question is not None
    assert question.arguments["orderIds"] == [target.order_id for target in sixty.targets[:MAX_ASKED]]
    compared = console().previews.compared(sixty, "q-1").value
    assert compared is not None
    assert compared.is_asking
    standings = [one.agreement for one in compared.items.values()]
    assert standings == [Agreement.UNANSWERED] * MAX_ASKED + [Agreement.LATER] * 10


def test_the_same_question_is_stored_once(database: Database, sixty: BulkRequest) -> None:
    for _ in range(3):
        console().previews.ask(sixty, actor="ada", command_id="q-1")
    assert len(stored(database)) == 1


def test_an_answer_that_comes_after_the_freezing_changes_neither_the_items_nor_their_number(
    database: Database, sixty: BulkRequest
) -> None:
    store_lookup(database, FREE, *(target.order_id for target in sixty.targets[:MAX_ASKED]))
    marking = replace(sixty, bulk_action=BulkAction.MARK_RELEASED, action=None)
    first = console().previews.compared(marking, "q-1").value
    assert first is not None
    frozen = freeze(first.items, NOON, is_asking=first.is_asking, waited=timedelta(0))
    assert frozen is not None
    store_lookup(database, RESERVED, sixty.targets[0].order_id, seconds_ago=1)
    console().expire()
    later = console().previews.compared(marking, "q-1").value
    assert later is not None
    assert later.items["REV-0"].agreement == Agreement.REFUSED
    assert narrowed(marking, frozen).targets == marking.targets


def test_an_answer_that_is_too_old_or_from_before_the_order_changed_counts_for_nothing(
    database: Database, sixty: BulkRequest
) -> None:
    store_lookup(database, RESERVED, sixty.targets[0].order_id, seconds_ago=301)
    store_lookup(database, RESERVED, sixty.targets[1].order_id, seconds_ago=540)
    compared = console().previews.compared(sixty, "q-1").value
    assert compared is not None
    assert {one.agreement for one in list(compared.items.values())[:2]} == {Agreement.UNANSWERED}


def test_lookups_of_several_orders_are_not_listed_as_actions(busy: Database, show: Show) -> None:
    press(show("releases.py", job="Failed"), "mark_matching")
    assert [command.kind for command in stored(busy)] == ["ask_theirs_many"]
    assert "about several orders" not in text_of(show())
    busy.write_now(lambda c: commands.finish(c, stored(busy)[0].command_id, "DONE", Outcome("x"), NOON))
    assert "about several orders" not in text_of(show())
