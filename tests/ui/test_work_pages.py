"""Manual review and conservation: what waits, and that what people ask for is stored once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from services.domain.reviews import ReviewAction
from state import reviews
from state.database import Database
from tests.ui import seed_console
from tests.ui.conftest import NOON, begun, checked, press, said, stored
from tests.ui.test_orders_page import dialog, listed

Show = Callable[..., AppTest]


def test_open_cases_come_oldest_first_with_cause_age_and_priority(busy: Database, show: Show) -> None:
    test = show("reviews.py")
    assert listed(test) == ["ORD-1003", "ORD-1007", "ORD-1004", "ORD-1004", "ORD-1006", "ORD-1002"]
    text = said(test)
    assert "6 waiting" in text
    assert "waits 65 min" in text
    assert "No answer to 3 requests for confirmation" in text
    assert "hold ends in 20 min" in text


def test_each_case_offers_what_it_allows_and_nothing_more(busy: Database, show: Show) -> None:
    test = show("reviews.py")
    offered = {
        review_id: [action for action in ReviewAction if _has(test, f"{action}_{review_id}")]
        for review_id, *_ in seed_console.CASES
    }
    assert offered == {
        "REV-1": ["RETRY_RESERVATION", "CANCEL_ORDER"],
        "REV-2": ["RECONFIRM", "CANCEL_ORDER"],
        "REV-3": ["RECONFIRM", "CANCEL_ORDER"],
        "REV-4": ["APPROVE", "CANCEL_ORDER"],
        "REV-5": ["MARK_RELEASED"],
        "REV-6": ["APPROVE", "CANCEL_ORDER"],
    }


def _has(test: AppTest, key: str) -> bool:
    return any(button.key == key for button in test.button)


@pytest.mark.parametrize(
    ("review_id", "action", "note"),
    [
        ("REV-1", "RETRY_RESERVATION", ""),
        ("REV-2", "RECONFIRM", "stock is back"),
        ("REV-4", "APPROVE", "checked by phone"),
        ("REV-6", "CANCEL_ORDER", "customer gave up"),
        ("REV-5", "MARK_RELEASED", "seen in their ledger"),
    ],
)
def test_every_action_is_stored_with_its_note_and_the_version_seen(
    busy: Database, show: Show, review_id: str, action: str, note: str
) -> None:
    test = press(show("reviews.py"), f"{action}_{review_id}")
    test.text_area(key=dialog(test, "note_")).set_value(note)
    test.button(key=dialog(test, "do_")).click().run()
    (command,) = stored(busy)
    assert (command.kind, command.target_id) == ("resolve_review", review_id)
    assert command.arguments == {"action": action, "note": note, "version": 1}


def test_what_cannot_be_undone_needs_a_reason(busy: Database, show: Show) -> None:
    test = press(show("reviews.py"), "MARK_RELEASED_REV-5")
    assert "This cannot be undone." in said(test)
    test.button(key=dialog(test, "do_")).click().run()
    assert stored(busy) == []


def test_while_a_command_is_under_way_the_case_offers_nothing(busy: Database, show: Show) -> None:
    test = press(show("reviews.py"), "RETRY_RESERVATION_REV-1")
    press(test, dialog(test, "do_"))
    assert test.button(key="RETRY_RESERVATION_REV-1").disabled
    assert test.button(key="RETRY_RESERVATION_REV-1").help == "A command on this case is under way."
    assert "Stored] Retry reservation · console" in said(test)


def test_the_outcome_of_a_command_stands_on_its_case(busy: Database, show: Show) -> None:
    text = said(show("reviews.py"))
    assert "Refused] Confirm again: Somebody was faster · resolved by olga@example.com · ben" in text


def test_selected_cases_are_previewed_by_id_and_version_before_one_operation_on_them(
    busy: Database, show: Show
) -> None:
    test = show("reviews.py")
    for review_id in ("REV-2", "REV-3", "REV-5"):
        test.checkbox(key=f"pick_review_{review_id}").check().run()
    assert "**3 selected**" in said(test)
    press(test, "bulk_RECONFIRM")
    rows = test.dataframe[-1].value.to_dict("records")
    assert [(row["Id"], row["Order"], row["Version"]) for row in rows] == [
        ("REV-3", "ORD-1004", "1"),
        ("REV-2", "ORD-1006", "1"),
    ]
    assert "2 of 3 selected, the others do not allow it" in said(test)
    test.button(key=dialog(test, "do_")).click().run()
    (operation,) = begun(busy)
    assert (operation.verb, operation.action, operation.total) == ("resolve_review", "RECONFIRM", 2)
    assert not test.checkbox(key="pick_review_REV-2").value
    assert stored(busy) == []


def test_several_irreversible_actions_need_the_count_typed(busy: Database, show: Show) -> None:
    test = press(show("reviews.py"), "pick_all_reviews")
    press(test, "bulk_CANCEL_ORDER")
    test.text_area(key=dialog(test, "note_")).set_value("shop closes")
    test.text_input(key=dialog(test, "count_")).set_value("6")
    test.button(key=dialog(test, "do_")).click().run()
    assert begun(busy) == []


def test_cases_can_be_filtered_by_cause_from_the_address(busy: Database, show: Show) -> None:
    test = show("reviews.py", reason="Payment unknown")
    assert listed(test) == ["ORD-1003"]


def test_resolved_cases_say_who_did_what(busy: Database, show: Show) -> None:
    test = show("reviews.py", review_state="Resolved")
    assert "Confirm again by olga@example.com" in said(test)
    assert not test.checkbox


def test_nothing_to_review_is_good_news(database: Database, show: Show) -> None:
    assert "Nothing waits for a person." in said(show("reviews.py"))


def test_a_cause_that_nobody_has_is_a_filter_to_clear(database: Database, show: Show) -> None:
    test = show("reviews.py", reason="Payment unknown")
    assert "No case has this cause." in said(test)
    press(test, "clear_filters")
    assert "Nothing waits for a person." in said(test)


def test_a_selection_keeps_its_rows_when_a_case_comes_and_another_goes(busy: Database, show: Show) -> None:
    test = show("reviews.py")
    test.checkbox(key="pick_review_REV-4").check().run()
    before = listed(test)

    def meanwhile(connection: Any) -> None:
        reviews.open_case(connection, "REV-9", "ORD-1001", "CONFIRMATION_TIMEOUT", "new", NOON)
        first = reviews.get(connection, "REV-6")
        assert first is not None
        reviews.resolve(connection, first, by="ben", resolution="APPROVE", note="", at=NOON)

    busy.write_now(meanwhile)
    checked(test.run())
    assert listed(test) == before
    assert test.checkbox(key="pick_review_REV-4").value
    assert test.checkbox(key="pick_review_REV-6").disabled
    assert "1 new · 1 gone · show" in said(test)
    press(test, "show_new_review")
    assert "ORD-1001" in listed(test)
    assert "ORD-1003" not in listed(test)
    assert test.checkbox(key="pick_review_REV-4").value


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
