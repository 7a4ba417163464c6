"""Manual review: the queue, its filters and groups, claims, one case's work area, undo and permission."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from services.base.settings import Settings
from services.console import facade
from services.console.facade import Console
from services.domain.commands import QUEUED, Outcome
from services.domain.conservation import StockState
from services.domain.reconciliation import CANNOT_ANSWER, LookupResult
from services.domain.reviews import ReviewAction
from state import audit, commands, inventory_lookups, orders, reviews
from state.commands import Command
from state.engine.database import Database
from state.inventory_lookups import StoredLookup
from state.review_queue import CaseFilter
from tests.support import seed_console
from tests.support.pages import NOON, as_role, checked, dialog, press, started_jobs, store_lookup, stored, text_of
from tests.support.pages import listed as linked

Show = Callable[..., AppTest]


def listed(test: AppTest) -> list[str]:
    """The orders of the cases shown; the notice of an open breaker has a link of its own."""
    return [name for name in linked(test) if name != "Breakers"]


def has(test: AppTest, key: str) -> bool:
    return any(button.key == key for button in test.button)


def at(moment: Any, database: Database) -> None:
    """The console's time from now on."""
    tick = count(step=60)
    settings = Settings.load(database_url=f"sqlite:///{database.url.database}")
    facade.install(Console(settings, lambda: moment, lambda: float(next(tick))))


def decided(database: Database) -> list[Command]:
    """The commands that resolve; opening a case or a preview also asks the Inventory Service."""
    return [command for command in stored(database) if not command.kind.startswith("ask_theirs")]


def answer(database: Database, order_id: str, statement: LookupResult, *, seconds_ago: float = 3) -> None:
    told = StoredLookup(order_id, statement, NOON - timedelta(seconds=seconds_ago), "olga")
    database.write_now(lambda connection: inventory_lookups.note(connection, told))


# ----------------------------------------------------------------------- queue


def test_the_most_urgent_cases_come_first_by_reservation_end_then_priority_then_age(busy: Database, show: Show) -> None:
    test = show("reviews.py")
    assert listed(test) == ["ORD-1006", "ORD-1004", "ORD-1004", "ORD-1003", "ORD-1002", "ORD-1007"]
    text = text_of(test)
    assert "6 waiting" in text
    assert "waits 65 min" in text
    assert "No answer to 3 requests for confirmation" in text
    assert "reservation ends in 16 min" in text
    assert "3 units · EUR 549.90" in text
    assert "olga@example.com until 12:11:00" in text


def test_the_sort_is_in_the_address(busy: Database, show: Show) -> None:
    assert listed(show("reviews.py", sort="Longest waiting"))[0] == "ORD-1003"
    assert listed(show("reviews.py", sort="Newest"))[0] == "ORD-1002"


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"reason": "Payment unknown"}, ["ORD-1003"]),
        ({"priority": "High priority"}, ["ORD-1004", "ORD-1004", "ORD-1002"]),
        ({"owner": "Unclaimed"}, ["ORD-1004", "ORD-1004", "ORD-1003", "ORD-1002", "ORD-1007"]),
        ({"owner": "Mine"}, []),
        ({"q": "ORD-1004"}, ["ORD-1004", "ORD-1004"]),
        ({"q": "USR-42"}, ["ORD-1002"]),
        ({"q": "REV-5"}, ["ORD-1007"]),
        ({"product": "SKU-NONE"}, []),
        ({"code": "INVENTORY_TIMEOUT"}, ["ORD-1002"]),
        ({"q": "ORD-1004", "reason": "No confirmation"}, ["ORD-1004"]),
    ],
)
def test_each_filter_comes_from_the_address(
    busy: Database, show: Show, parameters: dict[str, str], expected: list[str]
) -> None:
    assert listed(show("reviews.py", **parameters)) == expected


def test_mine_are_the_cases_of_the_person_at_the_console(busy: Database, show: Show) -> None:
    test = show("reviews.py", owner="Mine")
    test.user = {"is_logged_in": True, "email": "olga@example.com"}
    assert listed(checked(test.run())) == ["ORD-1006"]
    assert "you until 12:11:00" in text_of(test)


def test_a_claim_that_has_ended_is_unclaimed(busy: Database, show: Show) -> None:
    at(NOON + timedelta(minutes=12), busy)
    assert "ORD-1006" in listed(show("reviews.py", owner="Unclaimed"))


def test_cases_are_grouped_by_cause_and_by_product_and_a_click_keeps_one_group(busy: Database, show: Show) -> None:
    test = show("reviews.py")
    assert "SKU-CHAIR **6**" in text_of(test)
    press(test, "cause_PENDING_INVENTORY_INVENTORY_TIMEOUT")
    assert listed(test) == ["ORD-1002"]
    assert test.selectbox(key="reason").value == "PENDING_INVENTORY"
    assert test.query_params["code"] == "INVENTORY_TIMEOUT"
    press(test, "drop_code")
    press(test, "product_SKU-CHAIR")
    assert test.text_input(key="product").value == "SKU-CHAIR"


def test_find_leaves_only_what_was_named(busy: Database, show: Show) -> None:
    test = press(show("reviews.py", priority="High priority"), "open_find_q")
    test.text_input(key="find_text_q").set_value("ORD-1003")
    test.button(key="find_do_q").click().run()
    assert listed(checked(test)) == ["ORD-1003"]


def test_resolved_cases_name_actor_and_action(busy: Database, show: Show) -> None:
    test = show("reviews.py", review_state="Resolved")
    assert "Confirm again by olga@example.com" in text_of(test)
    assert not test.checkbox


def test_nothing_to_review_has_a_text_of_its_own(database: Database, show: Show) -> None:
    assert "Nothing waits for a person." in text_of(show("reviews.py"))


def test_filters_that_leave_nothing_can_be_cleared(database: Database, show: Show) -> None:
    test = show("reviews.py", reason="Payment unknown", owner="Mine")
    assert "No case matches." in text_of(test)
    press(test, "clear_filters")
    assert "Nothing waits for a person." in text_of(test)


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
    assert "1 new · 1 gone · show" in text_of(test)
    press(test, "show_new_review")
    assert "ORD-1001" in listed(test)
    assert "ORD-1003" not in listed(test)
    assert test.checkbox(key="pick_review_REV-4").value


def test_selected_cases_are_previewed_by_id_and_version_before_one_bulk_job_on_them(busy: Database, show: Show) -> None:
    store_lookup(busy, StockState.RESERVED, "ORD-1006", "ORD-1004")
    test = show("reviews.py")
    for review_id in ("REV-2", "REV-3", "REV-5"):
        test.checkbox(key=f"pick_review_{review_id}").check().run()
    assert "**3 selected**" in text_of(test)
    press(test, "bulk_RECONFIRM")
    rows = test.table[-1].value.to_dict("records")
    assert [(row["Id"], row["Order"], row["Version"]) for row in rows] == [
        ("REV-2", "ORD-1006", "1"),
        ("REV-3", "ORD-1004", "1"),
    ]
    assert "2 of 3 selected, the others do not allow it" in text_of(test)
    test.button(key=dialog(test, "do_")).click().run()
    (operation,) = started_jobs(busy)
    assert (operation.bulk_action, operation.action, operation.total) == ("resolve_review", "RECONFIRM", 2)
    assert not test.checkbox(key="pick_review_REV-2").value
    assert stored(busy) == []


def test_several_irreversible_actions_need_the_count_typed(busy: Database, show: Show) -> None:
    store_lookup(busy, StockState.RESERVED, "ORD-1006", "ORD-1004", "ORD-1003", "ORD-1002", "ORD-1007")
    test = press(show("reviews.py"), "pick_all_reviews")
    press(test, "bulk_CANCEL_ORDER")
    test.text_area(key=dialog(test, "note_")).set_value("shop closes")
    test.text_input(key=dialog(test, "count_")).set_value("6")
    test.button(key=dialog(test, "do_")).click().run()
    assert started_jobs(busy) == []


# ---------------------------------------------------------------- all matching


def test_everything_at_once_is_not_offered_without_a_filter(busy: Database, show: Show) -> None:
    test = show("reviews.py")
    assert test.button(key="matching_RECONFIRM").label == "Queue: Confirm again 2 of 6 matching"
    assert test.button(key="matching_RECONFIRM").disabled
    assert "everything at once is not offered" in test.button(key="matching_RECONFIRM").help
    with pytest.raises(ValueError, match="narrows nothing"):
        facade.console().reviews.freeze(ReviewAction.RECONFIRM, CaseFilter(sort="newest"), "all")


def test_all_that_match_and_allow_it_are_previewed_frozen_and_stored_as_one_bulk_job(
    busy: Database, show: Show
) -> None:
    test = show("reviews.py", priority="High priority")
    assert test.button(key="matching_CANCEL_ORDER").label == "Cancel order 3 of 3 matching"
    press(test, "matching_RECONFIRM")
    rows = test.table[-1].value.to_dict("records")
    assert [(row["Id"], row["Version"], row["Cause"]) for row in rows] == [("REV-3", "1", "No confirmation")]
    test.button(key=dialog(test, "do_")).click().run()
    (operation,) = started_jobs(busy)
    assert (operation.bulk_action, operation.action, operation.total) == ("resolve_review", "RECONFIRM", 1)
    assert operation.filter == "High priority"
    assert stored(busy) == []


def test_what_changed_since_the_look_is_skipped_and_what_is_new_is_not_included(busy: Database, show: Show) -> None:
    store_lookup(busy, StockState.RESERVED, "ORD-1006", "ORD-1004")
    test = press(show("reviews.py", product="SKU-CHAIR"), "matching_RECONFIRM")

    def meanwhile(connection: Any) -> None:
        seen = reviews.get(connection, "REV-3")
        assert seen is not None
        assert reviews.touch(connection, seen, by="ben", at=NOON)
        orders.add(connection, seed_console.order("ORD-NEW", "PLACED", NOON), "h")
        for review_id, order_id in (("REV-8", "ORD-NEW"), ("REV-9", "ORD-1006")):
            reviews.open_case(connection, review_id, order_id, "CONFIRMATION_TIMEOUT", "new", NOON)

    busy.write_now(meanwhile)
    test.button(key=dialog(test, "do_")).click().run()
    (operation,) = started_jobs(busy)
    # The order of REV-9 stands where this action is not possible.
    assert (operation.total, operation.unseen, operation.tally) == (2, 1, {"ASKED": 1, "SKIPPED": 1})
    assert "Since 12:00:00: 1 of 2 changed since and is skipped; 1 new matches, not included" in text_of(test)


@pytest.mark.parametrize(("reason", "begins"), [("", 0), ("looked at them", 1)])
def test_approving_all_that_match_needs_a_reason(busy: Database, show: Show, reason: str, begins: int) -> None:
    test = press(show("reviews.py", reason="Availability unverified"), "matching_APPROVE")
    test.text_area(key=dialog(test, "note_")).set_value(reason)
    test.button(key=dialog(test, "do_")).click().run()
    assert len(started_jobs(busy)) == begins


# ---------------------------------------------------------------------- claims


def test_next_unclaimed_claims_the_most_urgent_free_case_and_opens_it(busy: Database, show: Show) -> None:
    test = press(show("reviews.py"), "next_unclaimed")
    # REV-2 is the most urgent one, but olga has it.
    (command,) = decided(busy)
    assert (command.kind, command.target_id, command.arguments) == ("claim_review", "REV-4", {})
    assert test.query_params["case"] == "REV-4"
    assert "version 1" in text_of(test)


def test_next_unclaimed_honours_the_filters_and_states_when_there_is_none(busy: Database, show: Show) -> None:
    test = press(show("reviews.py", reason="Confirmation failed"), "next_unclaimed")
    assert "No unclaimed case matches" in text_of(test)
    assert decided(busy) == []


def test_a_case_is_claimed_once_however_often_the_button_is_pressed(busy: Database, show: Show) -> None:
    first, second = show("reviews.py", case="REV-3"), show("reviews.py", case="REV-3")
    press(first, "claim_REV-3")
    press(second, "claim_REV-3")
    assert [command.kind for command in decided(busy)] == ["claim_review"]
    assert first.button(key="claim_REV-3").disabled


def test_another_persons_case_names_its_owner_and_offers_nothing(busy: Database, show: Show) -> None:
    test = show("reviews.py", case="REV-2")
    for key in ("claim_REV-2", "RECONFIRM_REV-2", "CANCEL_ORDER_REV-2"):
        assert test.button(key=key).disabled
        assert test.button(key=key).help == "olga@example.com works on this case until 12:11:00."


def test_an_admin_may_take_a_case_over_and_resolve_it(busy: Database, show: Show) -> None:
    as_role(busy, "admin")
    test = show("reviews.py", case="REV-2")
    assert not test.button(key="RECONFIRM_REV-2").disabled
    assert test.button(key="claim_REV-2").label == "Take over"
    press(test, "claim_REV-2")
    (command,) = decided(busy)
    assert (command.arguments, command.role) == ({"takeOver": True}, "admin")


def test_an_owner_releases_a_claim(busy: Database, show: Show) -> None:
    test = show("reviews.py", case="REV-2")
    test.user = {"is_logged_in": True, "email": "olga@example.com"}
    press(checked(test.run()), "release_claim_REV-2")
    assert [command.kind for command in decided(busy)] == ["release_claim"]


# ------------------------------------------------------------------- work area


def test_each_case_offers_what_the_order_allows_while_the_inventory_status_is_unknown(
    busy: Database, show: Show
) -> None:
    offered = {}
    for review_id in ("REV-1", "REV-2", "REV-3", "REV-4", "REV-5", "REV-6"):
        test = show("reviews.py", case=review_id)
        offered[review_id] = [action for action in ReviewAction if has(test, f"{action}_{review_id}")]
    assert offered == {
        "REV-1": ["RETRY_RESERVATION", "CANCEL_ORDER"],
        "REV-2": ["RECONFIRM", "CANCEL_ORDER"],
        "REV-3": ["RECONFIRM", "CANCEL_ORDER"],
        "REV-4": ["APPROVE", "CANCEL_ORDER"],
        "REV-5": ["MARK_RELEASED"],
        "REV-6": ["APPROVE", "CANCEL_ORDER"],
    }


def test_the_work_area_shows_the_reconciliation_past_resolutions_and_the_timeline(busy: Database, show: Show) -> None:
    text = text_of(show("reviews.py", case="REV-3"))
    assert "Confirmation requested" in text
    assert "answered as ACTIVE" in text
    assert "Asked 11:59:57 · 3 s ago by olga@example.com" in text
    assert "Stock reserved" in text
    assert "This cause" not in text


def test_past_resolutions_have_action_count_outcome_and_actor(busy: Database, show: Show) -> None:
    test = show("reviews.py", case="REV-2")
    rows = next(table.value.to_dict("records") for table in test.table if "Action" in table.value.columns)
    assert [(row["Action"], row["Times"], row["Lasted"]) for row in rows] == [
        ("Confirm again", "5", "5 of 5"),
        ("Cancel order", "1", "not known yet"),
    ]
    assert rows[0]["Last"] == "ben, 24 h ago: stock was recounted"


def test_opening_a_case_requests_one_lookup(busy: Database, show: Show) -> None:
    test = show("reviews.py", case="REV-1")
    checked(test.run())
    (command,) = [command for command in stored(busy) if command.kind == "ask_theirs"]
    assert (command.target_id, command.arguments) == ("ORD-1002", {"reviewId": "REV-1"})
    assert "Asking..." in text_of(test)
    assert test.button(key="look_up_ORD-1002").disabled


def test_a_fresh_lookup_is_not_repeated(busy: Database, show: Show) -> None:
    show("reviews.py", case="REV-3")
    assert stored(busy) == []


def test_an_action_refused_by_the_inventory_status_is_disabled_with_the_reason(busy: Database, show: Show) -> None:
    answer(busy, "ORD-1002", LookupResult(StockState.DEDUCTED, "CONFIRMED"))
    test = show("reviews.py", case="REV-1")
    assert test.button(key="RETRY_RESERVATION_REV-1").disabled
    assert "reserving again would take it twice" in test.button(key="RETRY_RESERVATION_REV-1").help
    assert not test.button(key="CANCEL_ORDER_REV-1").disabled
    assert "Retry reservation: The Inventory Service has already deducted" in text_of(test)


def test_a_reservation_that_lasts_is_released_again_and_not_marked(busy: Database, show: Show) -> None:
    answer(busy, "ORD-1007", LookupResult(StockState.RESERVED, "ACTIVE"))
    test = show("reviews.py", case="REV-5")
    assert test.button(key="MARK_RELEASED_REV-5").disabled
    press(test, "retry_release_ORD-1007")
    assert [(command.kind, command.target_id) for command in decided(busy)] == [("retry_release", "ORD-1007")]


def test_a_retry_is_harmless_for_free_stock_and_disabled_for_deducted_stock(busy: Database, show: Show) -> None:
    answer(busy, "ORD-1007", LookupResult(StockState.FREE, "RELEASED"))
    test = show("reviews.py", case="REV-5")
    assert not test.button(key="MARK_RELEASED_REV-5").disabled
    retry = test.button(key="retry_release_ORD-1007")
    assert (retry.disabled, "harmless" in retry.help) == (False, True)
    assert "marking it released is right" in "".join(str(one.value) for one in test.info)
    answer(busy, "ORD-1007", LookupResult(StockState.DEDUCTED, "DEDUCTED"))
    retry = show("reviews.py", case="REV-5").button(key="retry_release_ORD-1007")
    assert (retry.disabled, "would refuse the release again" in retry.help) == (True, True)


def test_a_service_that_cannot_answer_is_shown_and_refuses_nothing(busy: Database, show: Show) -> None:
    answer(busy, "ORD-1002", LookupResult(None, problem=CANNOT_ANSWER))
    test = show("reviews.py", case="REV-1")
    assert "Cannot answer" in text_of(test)
    assert "our record alone decides what is offered" in text_of(test)
    assert not test.button(key="RETRY_RESERVATION_REV-1").disabled


def test_an_old_answer_is_shown_with_its_age_and_refuses_nothing(busy: Database, show: Show) -> None:
    answer(busy, "ORD-1002", LookupResult(StockState.DEDUCTED, "CONFIRMED"), seconds_ago=301)
    test = show("reviews.py", case="REV-1")
    assert "5 min ago by olga" in text_of(test)
    assert not test.button(key="RETRY_RESERVATION_REV-1").disabled


def test_an_unknown_case_is_reported_as_unknown(busy: Database, show: Show) -> None:
    assert "No case REV-99 exists." in text_of(show("reviews.py", case="REV-99"))


def test_half_typed_text_outlives_a_refresh(busy: Database, show: Show) -> None:
    test = show("reviews.py", case="REV-3")
    test.text_area(key="note_REV-3").set_value("half a sen").run()
    checked(test.run())
    assert test.text_area(key="note_REV-3").value == "half a sen"


# --------------------------------------------------------------------- breakers


def guarded(database: Database, state: str, wait: int | None = None, name: str = "inventoryServiceReserver") -> None:
    guard = seed_console.breaker(name, state, NOON - timedelta(seconds=12), retryInMs=wait)
    database.write_now(lambda c: seed_console.heartbeat(c, NOON, [guard]))


@pytest.mark.parametrize(
    ("state", "wait", "text"),
    [
        ("closed", None, ""),
        ("open", 18_000, ": queue (half-open in 18 s)"),
        ("half_open", None, ": queue (half-open now)"),
        ("forced_open", 60_000, ": queue (forced open, 60 s left)"),
    ],
)
def test_an_action_that_calls_shows_what_its_breaker_makes_of_it_and_the_others_do_not(
    busy: Database, show: Show, state: str, wait: int | None, text: str
) -> None:
    guarded(busy, state, wait)
    labels = {}
    for review_id, actions in (("REV-1", ("RETRY_RESERVATION", "CANCEL_ORDER")), ("REV-3", ("RECONFIRM",))):
        test = show("reviews.py", case=review_id)
        labels |= {action: test.button(key=f"{action}_{review_id}").label for action in actions}
    assert labels == {
        "RETRY_RESERVATION": f"Retry reservation{text}",
        "CANCEL_ORDER": "Cancel order",
        # Asked for by event: no call of the Inventory Service waits for a breaker.
        "RECONFIRM": "Confirm again",
    }
    as_role(busy, "admin")
    assert show("reviews.py", case="REV-2").button(key="RECONFIRM_REV-2").label == f"Confirm again{text}"


def test_only_the_breaker_of_the_call_counts(busy: Database, show: Show) -> None:
    guarded(busy, "open", 18_000, "inventoryServiceReleaser")
    test = show("reviews.py", case="REV-1")
    assert test.button(key="RETRY_RESERVATION_REV-1").label == "Retry reservation"
    assert "reservation breaker" not in text_of(test)
    store_lookup(busy, StockState.RESERVED, "ORD-1007")
    label = show("reviews.py", case="REV-5").button(key="retry_release_ORD-1007").label
    assert label == "Retry release: queue (half-open in 18 s)"


def test_several_cases_are_queued_while_the_breaker_of_their_call_is_open(busy: Database, show: Show) -> None:
    test = show("reviews.py", priority="High priority")
    assert "reservation breaker, half-open in 18 s" in text_of(test)
    assert test.button(key="matching_RETRY_RESERVATION").label == "Queue: Retry reservation 1 of 3 matching"
    # Of these, only the one that waits for its confirmation can be confirmed again: no call.
    assert test.button(key="matching_RECONFIRM").label == "Confirm again 1 of 3 matching"
    store_lookup(busy, StockState.FREE, "ORD-1002")
    press(test, "matching_RETRY_RESERVATION")
    assert "Queue until it closes (half-open in 18 s): the queue then drains" in str(test.info[-1].value)


def test_what_waits_for_a_breaker_reports_it_and_can_be_undone(busy: Database, show: Show) -> None:
    test = press(show("reviews.py", case="REV-1"), "RETRY_RESERVATION_REV-1")
    (command,) = decided(busy)
    outcome = Outcome("reworded", code=QUEUED)

    def queue(connection: Any) -> None:
        commands.claim(connection, NOON, NOON + timedelta(minutes=1), 8, by="w")
        before = NOON - timedelta(seconds=1)
        assert commands.postpone(connection, command.command_id, "w", before, command.arguments, outcome)

    busy.write_now(queue)
    checked(test.run())
    assert "Retry reservation: reworded" in text_of(test)
    assert test.button(key="undo_REV-1").label == "Undo (queued)"
    press(test, "undo_REV-1")
    assert [one.state for one in decided(busy)] == ["WITHDRAWN"]


# ----------------------------------------------------------- resolving, undoing


@pytest.mark.parametrize(
    ("review_id", "action", "reason", "note", "is_held"),
    [
        ("REV-1", "RETRY_RESERVATION", None, "", False),
        ("REV-3", "RECONFIRM", None, "stock is back", False),
        ("REV-4", "APPROVE", None, "", True),
        ("REV-6", "APPROVE", "PAYMENT_SEEN", "", True),
        ("REV-6", "CANCEL_ORDER", "OTHER", "customer gave up", True),
        ("REV-5", "MARK_RELEASED", "SEEN_RELEASED", "", True),
    ],
)
def test_one_case_is_resolved_without_a_dialog_and_final_actions_are_delayed(
    busy: Database, show: Show, review_id: str, action: str, reason: str | None, note: str, is_held: bool
) -> None:
    test = show("reviews.py", case=review_id)
    if reason:
        test.selectbox(key=f"why_{review_id}").select(reason)
    test.text_area(key=f"note_{review_id}").set_value(note)
    press(test, f"{action}_{review_id}")
    (command,) = decided(busy)
    assert (command.kind, command.target_id, command.role) == ("resolve_review", review_id, "operator")
    explained = {"reason": reason} if reason else {}
    assert command.arguments == {"action": action, "note": note, "version": 1} | explained
    assert command.undo_until == (NOON + timedelta(seconds=10) if is_held else None)
    assert has(test, f"undo_{review_id}") is is_held


@pytest.mark.parametrize(
    ("review_id", "action"), [("REV-5", "MARK_RELEASED"), ("REV-3", "CANCEL_ORDER"), ("REV-6", "APPROVE")]
)
def test_what_matters_needs_an_explanation_and_the_complaint_names_field_value_and_what_is_allowed(
    busy: Database, show: Show, review_id: str, action: str
) -> None:
    test = press(show("reviews.py", case=review_id), f"{action}_{review_id}")
    assert decided(busy) == []
    assert "Note '' is not valid; allowed: 1 character or more, unless resolutionReason is one of" in text_of(test)


def test_three_clicks_are_one_command(busy: Database, show: Show) -> None:
    tests = [show("reviews.py", case="REV-4") for _ in range(3)]
    for test in tests:
        press(test, "APPROVE_REV-4")
    assert len(decided(busy)) == 1
    assert tests[-1].button(key="APPROVE_REV-4").help == "A command on this case is under way."


def test_undo_withdraws_a_delayed_command_and_is_audited(busy: Database, show: Show) -> None:
    test = press(show("reviews.py", case="REV-4"), "APPROVE_REV-4")
    press(test, "undo_REV-4")
    (command,) = decided(busy)
    assert (command.state, command.outcome) == (
        "WITHDRAWN",
        Outcome("Taken back by console"),
    )
    entry = busy.read_now(lambda connection: audit.page(connection, limit=1))[0]
    assert (entry.actor, entry.action, entry.target) == ("console", "UNDO", "review:REV-4")
    assert entry.reason == "APPROVE asked for by console"
    assert "Taken back" in text_of(test)


def test_after_an_undo_the_same_can_be_requested_again(busy: Database, show: Show) -> None:
    test = press(show("reviews.py", case="REV-4"), "APPROVE_REV-4")
    press(test, "undo_REV-4")
    press(test, "APPROVE_REV-4")
    assert [command.state for command in decided(busy)] in (["WITHDRAWN", "STORED"], ["STORED", "WITHDRAWN"])


def test_an_undo_that_comes_too_late_reports_it(busy: Database, show: Show) -> None:
    test = press(show("reviews.py", case="REV-4"), "APPROVE_REV-4")
    busy.write_now(lambda c: commands.claim(c, NOON + timedelta(seconds=11), NOON + timedelta(minutes=1), 8))
    press(test, "undo_REV-4")
    assert "Too late: it has run already" in text_of(test)
    assert [command.state for command in decided(busy)] == ["RUNNING"]


def test_the_queue_offers_the_undo_as_well(busy: Database, show: Show) -> None:
    test = press(show("reviews.py", case="REV-4"), "APPROVE_REV-4")
    del test.query_params["case"]
    press(checked(test.run()), "undo_row_REV-4")
    assert [command.state for command in decided(busy)] == ["WITHDRAWN"]


def test_the_outcome_of_a_command_is_shown_on_its_case(busy: Database, show: Show) -> None:
    text = text_of(show("reviews.py"))
    assert "Refused] Confirm again: Somebody was faster · resolved by olga@example.com · ben" in text


# ------------------------------------------------------------------ permission


@pytest.mark.parametrize("page", ["overview.py", "reviews.py", "releases.py"])
def test_who_may_not_look_sees_the_reason_only(busy: Database, show: Show, page: str) -> None:
    as_role(busy, "none")
    text = text_of(show(page, case="REV-3"))
    assert "Your role here is none: it may not read this page." in text
    assert "ORD-" not in text


def test_a_person_who_logs_in_has_the_role_listed_for_them(busy: Database, show: Show) -> None:
    as_role(busy, "none", **{"olga@example.com": "operator"})
    test = show("reviews.py")
    test.user = {"is_logged_in": True, "email": "olga@example.com"}
    assert "6 waiting" in text_of(checked(test.run()))


def test_nobody_gets_a_listed_persons_role_by_typing_their_name(busy: Database, show: Show) -> None:
    as_role(busy, "viewer", **{"olga@example.com": "admin"})
    test = show("reviews.py", case="REV-3")
    test.text_input(key="display_name").set_value("olga@example.com").run()
    assert test.button(key="RECONFIRM_REV-3").disabled
