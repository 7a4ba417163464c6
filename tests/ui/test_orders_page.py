"""Finding orders, and the page of one order."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from streamlit.testing.v1 import AppTest

from services.console import facade
from services.console.orders import OrderFilter
from state import audit, commands
from state.engine.database import Database
from tests.support.pages import NOON, checked, dialog, listed, press, stored, text_of

Show = Callable[..., AppTest]


def test_orders_come_newest_first_a_page_at_a_time(busy: Database, show: Show) -> None:
    test = show("orders.py")
    first = listed(test)
    assert first[:3] == ["ORD-2000", "ORD-1999", "ORD-1000"]
    assert len(first) == 20
    assert "56 orders" in text_of(test)
    assert test.button(key="orders_after_step").disabled


def test_next_and_previous_walk_through_every_order_once_and_back(busy: Database, show: Show) -> None:
    test = show("orders.py")
    pages = [listed(test)]
    while not test.button(key="orders_before_step").disabled:
        press(test, "orders_before_step")
        pages.append(listed(test))
    seen = [order_id for page in pages for order_id in page]
    assert len(seen) == len(set(seen)) == 56
    assert [len(page) for page in pages] == [20, 20, 16]
    press(test, "orders_after_step")
    assert listed(test) == pages[1]
    press(test, "orders_after_step")
    assert listed(test) == pages[0]


def test_the_page_of_the_list_is_in_the_address(busy: Database, show: Show) -> None:
    test = press(show("orders.py"), "orders_before_step")
    cursor = test.query_params["orders_before"]
    assert listed(show("orders.py", orders_before=cursor)) == listed(test)


def test_an_address_that_makes_no_sense_shows_the_newest(busy: Database, show: Show) -> None:
    assert listed(show("orders.py", orders_before="yesterday", **{"from": "noon"}))[0] == "ORD-2000"


@pytest.mark.parametrize(
    ("text", "found"),
    [("ORD-1002", 1), ("USR-12", 6), ("SKU-LAMP", 56), ("USR-77", 5), ("ORD-10", 0), ("' OR 1=1 --", 0)],
)
def test_search_takes_whole_ids_of_orders_users_and_products(busy: Database, show: Show, text: str, found: int) -> None:
    test = show("orders.py")
    test.text_input(key="q").set_value(text).run()
    assert f"{found} {'order matches' if found == 1 else 'orders match'}" in text_of(test)


def test_filters_come_from_the_address_and_combine(busy: Database, show: Show) -> None:
    cancelled = show("orders.py", status="Cancelled", inventory="RELEASE_PENDING")
    assert len(listed(cancelled)) == 5
    assert listed(show("orders.py", flagged="true", status="Placed")) == ["ORD-1004"]


def test_the_address_has_inventory_statuses_themselves_and_not_their_labels(busy: Database, show: Show) -> None:
    test = show("orders.py")
    test.multiselect(key="inventory").select("RELEASE_PENDING").select("RESERVED").run()
    assert test.query_params["inventory"] == "RELEASE_PENDING,RESERVED"
    chosen = listed(test)
    assert 0 < len(chosen) < 20
    assert listed(show("orders.py", inventory="RELEASE_PENDING,RESERVED")) == chosen
    test.multiselect(key="inventory").set_value([]).run()
    assert "inventory" not in test.query_params
    assert len(listed(test)) == 20


def test_inventory_statuses_are_cleared_with_the_other_filters(busy: Database, show: Show) -> None:
    test = press(show("orders.py", q="nobody", inventory="RELEASE_PENDING"), "clear_filters")
    assert "inventory" not in test.query_params
    assert len(listed(test)) == 20


def test_a_changed_filter_leads_back_to_the_newest(busy: Database, show: Show) -> None:
    test = press(show("orders.py"), "orders_before_step")
    test.multiselect(key="status").select("PAYING").run()
    assert "orders_before" not in test.query_params
    assert listed(test) == ["ORD-1003"]


def test_nothing_matches_is_shown_with_a_way_out(busy: Database, show: Show) -> None:
    test = show("orders.py", q="nobody")
    assert "No order matches." in text_of(test)
    press(test, "clear_filters")
    assert len(listed(test)) == 20


def test_an_interval_from_another_page_is_shown_and_can_be_dropped(busy: Database, show: Show) -> None:
    test = show("orders.py", **{"from": "2026-11-22T11:48:00+00:00", "to": "2026-11-22T11:51:31+00:00"})
    assert "Created 11:48:00 to 11:51:31" in text_of(test)
    assert 0 < len(listed(test)) < 20
    press(test, "drop_between")
    assert len(listed(test)) == 20


def test_back_from_an_order_the_filters_are_as_they_were(busy: Database, show: Show) -> None:
    test = show("orders.py")
    test.multiselect(key="status").select("PAYING").select("REJECTED").run()
    filtered = listed(test)
    assert len(filtered) == 2
    assert "ORD-1003" in filtered
    # What a browser's step back brings: this page without its bound parameters, with the order's.
    test.session_state["status"] = []
    test.query_params["order"] = "ORD-1003"
    test.run()
    assert listed(test) == filtered
    assert "order" not in test.query_params


def test_the_page_of_an_order_leads_back_to_the_list_as_a_step_back_does(busy: Database, show: Show) -> None:
    links = {link.proto.label: link.proto for link in show("order.py", order="ORD-1003").get("page_link")}
    assert (links["Orders"].page, links["Orders"].query_string) == ("orders", "order=ORD-1003")


def test_no_order_yet_is_not_a_filter_that_matches_nothing(database: Database, show: Show) -> None:
    assert "No order has been placed yet." in text_of(show("orders.py"))


def test_the_page_of_an_order_opens_from_its_link(busy: Database, show: Show) -> None:
    text = text_of(show("order.py", order="ORD-1002"))
    assert "Order ORD-1002" in text
    for state in ("Waiting for inventory]", "Nothing reserved]", "Not charged]", "High priority]"):
        assert state in text


def test_the_timeline_shows_kind_fact_and_time_of_every_step(busy: Database, show: Show) -> None:
    text = text_of(show("order.py", order="ORD-1002"))
    assert "Reserve: no answer" in text
    assert "outcome timeout · duration 3,000 ms · attempt 3" in text
    assert ":red-badge[:material/error: Call]" in text
    steps = ["Order received", "Checked availability", "Reserve: no answer", "**Facts**"]
    assert [text.index(step) for step in steps] == sorted(text.index(step) for step in steps)


def test_an_order_shows_its_release_job_and_its_commands(busy: Database, show: Show) -> None:
    text = text_of(show("order.py", order="ORD-3003"))
    assert "3 attempts" in text
    assert "Latest error: INVENTORY_TIMEOUT" in text
    assert "Done] Retry release: Released · nothing was held any more · olga@example.com" in text


def test_the_inventory_service_is_asked_about_an_order_only_when_a_person_wants_to_compare(
    busy: Database, show: Show
) -> None:
    test = show("order.py", order="ORD-1007")
    assert stored(busy) == []
    assert "Inventory status" not in text_of(test)
    test.toggle(key="compare_ORD-1007").set_value(True).run()
    test.run()
    assert "Inventory status" in text_of(test)
    (asked,) = stored(busy)
    assert (asked.kind, asked.target_id) == ("ask_theirs", "ORD-1007")


def test_an_unknown_order_is_distinguished_from_a_missing_address(busy: Database, show: Show) -> None:
    assert "No order ORD-0 exists." in text_of(show("order.py", order="ORD-0"))
    assert "The address names no order." in text_of(show("order.py"))


def test_text_of_others_is_shown_and_not_interpreted(busy: Database, show: Show) -> None:
    (shown,) = [m.value for m in show("order.py", order="**x** :red[y]").markdown if "exists" in m.value]
    assert "\\*\\*x\\*\\* \\:red\\[y\\]" in shown


def test_a_cancel_is_stored_with_its_reason_and_nothing_else_happens(busy: Database, show: Show) -> None:
    test = press(show("order.py", order="ORD-1002"), "cancel_order")
    assert "Nothing was charged; a reservation is released. For 10 seconds it can be taken back" in text_of(test)
    test.text_area(key=dialog(test, "note_")).set_value(" customer called ")
    key = dialog(test, "do_")
    test.button(key=key).click().run()
    (command,) = stored(busy)
    assert (command.kind, command.target_id, command.state) == ("cancel_order", "ORD-1002", "STORED")
    assert command.arguments == {"reason": "customer called"}
    assert command.command_id == key.removeprefix("do_")
    assert "Cancel order: stored" in text_of(test)


def test_after_a_cancel_is_stored_the_button_shows_that_it_is_under_way(busy: Database, show: Show) -> None:
    test = press(show("order.py", order="ORD-1002"), "cancel_order")
    test.text_area(key=dialog(test, "note_")).set_value("customer called")
    press(test, dialog(test, "do_"))
    assert test.button(key="cancel_order").disabled
    assert "A cancel is under way." in text_of(test)
    assert "Stored] Cancel order · console" in text_of(test)


def test_a_cancel_without_a_reason_is_not_stored(busy: Database, show: Show) -> None:
    test = press(show("order.py", order="ORD-1002"), "cancel_order")
    test.text_area(key=dialog(test, "note_")).set_value("   ")
    test.button(key=dialog(test, "do_")).click().run()
    assert stored(busy) == []


def cancelled(show: Show) -> AppTest:
    """The page of an order right after somebody has asked for its cancel."""
    test = press(show("order.py", order="ORD-1002"), "cancel_order")
    test.text_area(key=dialog(test, "note_")).set_value("customer called")
    return press(test, dialog(test, "do_"))


def test_a_cancel_is_delayed_and_every_console_offers_the_undo(busy: Database, show: Show) -> None:
    cancelled(show)
    (command,) = stored(busy)
    assert command.undo_until == NOON + timedelta(seconds=10)
    test = show("order.py", order="ORD-1002")
    test.text_input(key="display_name").set_value("ben").run()
    undo = test.button(key=f"undo_{command.command_id}")
    assert undo.label == "Undo (10 s)"
    assert "Stored] Cancel order · console" in text_of(test)
    press(test, f"undo_{command.command_id}")
    (command,) = stored(busy)
    assert (command.state, command.outcome.title) == ("WITHDRAWN", "Taken back by ben")  # type: ignore[index]
    assert not test.button(key="cancel_order").disabled


def test_an_undo_of_a_cancel_is_on_the_timeline_and_in_the_audit_log(busy: Database, show: Show) -> None:
    test = cancelled(show)
    (command,) = stored(busy)
    press(test, f"undo_{command.command_id}")
    entry = busy.read_now(lambda connection: audit.page(connection, limit=1))[0]
    assert (entry.actor, entry.action, entry.target, entry.order_id, entry.reason) == (
        "console", "UNDO", "order:ORD-1002", "ORD-1002", "CANCEL_ORDER asked for by console",
    )  # fmt: skip
    assert (entry.before, entry.after) == (
        {"command": command.command_id, "state": "STORED"}, {"command": command.command_id, "state": "WITHDRAWN"},
    )  # fmt: skip
    assert "Taken back before it ran: Cancel order" in text_of(checked(test.run()))


def test_a_cancel_that_runs_already_cannot_be_undone(busy: Database, show: Show) -> None:
    test = cancelled(show)
    (command,) = stored(busy)
    later = NOON + timedelta(seconds=11)
    busy.write_now(lambda connection: commands.claim(connection, later, later + timedelta(minutes=1), 8))
    press(test, f"undo_{command.command_id}")
    assert "Too late: it has run already" in text_of(test)
    assert [one.state for one in stored(busy)] == ["RUNNING"]


def test_a_delayed_command_on_a_case_is_on_the_page_of_its_order_too(busy: Database, show: Show) -> None:
    press(show("reviews.py", case="REV-4"), "APPROVE_REV-4")
    (command,) = [one for one in stored(busy) if one.kind == "resolve_review"]
    press(show("order.py", order="ORD-1004"), f"undo_{command.command_id}")
    assert [one.state for one in stored(busy) if one.kind == "resolve_review"] == ["WITHDRAWN"]


def test_what_is_compared_is_in_the_address(busy: Database, show: Show) -> None:
    test = show("order.py", order="ORD-1007", **{"compare_ORD-1007": "true"})
    assert test.toggle(key="compare_ORD-1007").value is True


@pytest.mark.parametrize(("order_id", "word"), [("ORD-1007", "cancelled"), ("ORD-1010", "returned")])
def test_an_order_that_has_ended_cannot_be_cancelled_and_states_the_reason(
    busy: Database, show: Show, order_id: str, word: str
) -> None:
    test = show("order.py", order=order_id)
    assert test.button(key="cancel_order").disabled
    assert f"An order that is {word} cannot be cancelled." in text_of(test)


def test_a_release_is_retried_from_the_page_of_its_order(busy: Database, show: Show) -> None:
    press(show("order.py", order="ORD-3000"), "retry_release")
    (command,) = stored(busy)
    assert (command.kind, command.target_id, command.arguments) == ("retry_release", "ORD-3000", {})


def test_orders_are_found_by_their_payment(busy: Database, show: Show) -> None:
    assert "5 orders match" in text_of(show("orders.py", payment="Refunded", inventory="RELEASE_PENDING"))
    assert len(listed(show("orders.py", payment="Captured"))) == 20


def test_the_file_has_the_filtered_orders(busy: Database) -> None:
    lines = facade.console().orders.csv(OrderFilter(text="USR-77")).splitlines()
    assert lines[0].startswith("orderId,userId,customerPriority,status")
    assert [line.split(",")[0] for line in lines[1:]] == [f"ORD-300{number}" for number in range(5)]


def test_the_order_page_has_the_raw_events_in_both_directions(busy: Database, show: Show) -> None:
    test = show("order.py", order="ORD-2000")
    assert not test.code
    event = next(box for box in test.expander if box.label.startswith("Out: "))
    test = show("order.py", order="ORD-2000", open=event.proto.id.rpartition("unfold_")[2])
    assert any('"type": "inventory.confirm_requested"' in code.value for code in test.code)
    assert "In: inventory.confirmed · 11:59:56" in text_of(test)


def test_a_return_is_requested_by_line_with_a_reason(busy: Database, show: Show) -> None:
    test = press(show("order.py", order="ORD-1005"), "return_items")
    do = dialog(test, "do_")
    key = do.removeprefix("do_")
    test.text_area(key=f"note_{key}").set_value("a scratch")
    test.button(key=do).click().run()
    assert stored(busy) == []
    do = dialog(press(test, "return_items"), "do_")
    key = do.removeprefix("do_")
    test.text_area(key=f"note_{key}").set_value("a scratch")
    test.number_input(key=f"return_0_{key}").set_value(1)
    test.toggle(key=f"restock_{key}").set_value(False)
    test.button(key=do).click().run()
    (command,) = stored(busy)
    assert (command.kind, command.target_id) == ("return_items", "ORD-1005")
    assert command.arguments == {
        "items": [{"productId": "SKU-CHAIR", "variantId": "oak", "quantity": 1}],
        "reason": "a scratch",
        "restockable": False,
    }


def test_what_cannot_be_returned_states_the_reason(busy: Database, show: Show) -> None:
    button = show("order.py", order="ORD-1004").button(key="return_items")
    assert button.disabled
    assert "confirmed" in button.help
