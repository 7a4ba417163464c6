"""Events: dead letters by cause, both directions with filters in the address, and how far behind each side is."""

from __future__ import annotations

from collections.abc import Callable

from streamlit.testing.v1 import AppTest

from state.database import Database
from tests.ui.conftest import press, said, stored
from tests.ui.test_orders_page import dialog

Show = Callable[..., AppTest]


def keys(test: AppTest, prefix: str) -> list[str]:
    """Rows by their container's key, as the buttons and expanders in them name them."""
    return [button.key for button in test.button if button.key and button.key.startswith(prefix)]


def test_flow_says_what_waits_how_far_behind_the_consumer_is_and_from_when(busy: Database, show: Show) -> None:
    text = said(show("events.py"))
    assert "Behind on INVENTORY_EVENTS" in text
    assert "3 in hand, 1 again · as of 12:00:00" in text
    assert "### Publishing" in text


def test_letters_with_the_same_cause_are_one_group_whatever_their_ids(busy: Database, show: Show) -> None:
    text = said(show("events.py"))
    assert "inventory.confirmed** · 11 letters" in text
    assert "inventory.confirmed** · 1 letter" in text


def test_a_group_is_shown_from_the_address_and_every_cause_is_a_click_away(busy: Database, show: Show) -> None:
    test = press(show("events.py"), "show_cause_0")
    assert str(test.query_params["cause"]).startswith("inventory.confirmed|")
    assert len(keys(test, "replay_DL-")) == 11
    press(test, "every_cause")
    assert len(keys(test, "replay_DL-")) == 12


def test_one_letter_is_replayed_with_one_click_and_not_again_while_it_is_under_way(busy: Database, show: Show) -> None:
    test = press(show("events.py"), "replay_DL-1")
    (command,) = stored(busy)
    assert (command.kind, command.target_id) == ("replay_dead_letter", "DL-1")
    assert test.button(key="replay_DL-1").disabled


def test_the_payload_is_shown_as_json_or_as_bytes(busy: Database, show: Show) -> None:
    blocks = [code.value for code in show("events.py").code]
    assert '{\n  "orderId": "ORD-9000",\n  "reservationId": "RSV-9000"\n}' in blocks
    assert "000000  7b                                               {" in blocks


def test_a_group_is_replayed_after_a_preview_of_exactly_the_letters_shown(busy: Database, show: Show) -> None:
    test = press(show("events.py"), "replay_cause_0")
    assert "11 of 11 open letters" in said(test)
    test.button(key=dialog(test, "do_")).click().run()
    (command,) = stored(busy)
    assert command.kind == "replay_dead_letters"
    assert sorted(command.arguments["ids"]) == [f"DL-2{number:02}" for number in range(11)]


def test_a_group_is_discarded_only_with_a_reason_and_its_typed_count(busy: Database, show: Show) -> None:
    test = press(show("events.py"), "discard_cause_0")
    do = dialog(test, "do_")
    key = do.removeprefix("do_")
    test.text_area(key=f"note_{key}").set_value("test data")
    test.text_input(key=f"count_{key}").set_value("12")
    test.button(key=do).click().run()
    assert stored(busy) == []
    press(test, "discard_cause_0")
    do = dialog(test, "do_")
    key = do.removeprefix("do_")
    test.text_area(key=f"note_{key}").set_value("test data")
    test.text_input(key=f"count_{key}").set_value("11")
    test.button(key=do).click().run()
    (command,) = stored(busy)
    assert (command.kind, command.arguments["note"], len(command.arguments["ids"])) == (
        "discard_dead_letters", "test data", 11,
    )  # fmt: skip


def test_outgoing_events_are_paged_and_filtered_by_the_address(busy: Database, show: Show) -> None:
    test = show("events.py", view="Outgoing")
    assert "event evt-p29" in said(test)
    press(test, "outgoing_before_step")
    assert "outgoing_before" in test.query_params
    assert "event evt-p29" not in said(test)
    refused = said(show("events.py", view="Outgoing", out_state="Refused, tried again"))
    assert "no response from stream" in refused
    assert "event evt-p" not in refused
    assert "No event matches" in said(show("events.py", view="Outgoing", event_order="nobody"))


def test_incoming_events_say_what_became_of_them(busy: Database, show: Show) -> None:
    text = said(show("events.py", view="Incoming"))
    assert "Changed nothing]" in text
    assert "came again 1x" in text
    ignored = said(show("events.py", view="Incoming", in_state="Changed nothing"))
    assert "in-07" in ignored
    assert "in-06" not in ignored


def test_the_four_empty_states_differ(database: Database, show: Show) -> None:
    assert "Every event that came in was handled." in said(show("events.py"))
    assert "No event has been stored yet." in said(show("events.py", view="Outgoing"))
    assert "Every event is published." in said(show("events.py", view="Outgoing", out_state="Not published"))
    assert "No letter is in this state." in said(show("events.py", letters="Discarded"))
