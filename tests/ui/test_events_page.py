"""Events: dead letters by cause, both directions with filters in the address, and how far behind each side is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update
from streamlit.testing.v1 import AppTest

from services.console.facade import console
from services.domain.bulk import BulkAction
from state import bulk_jobs, dead_letters
from state.dead_letters import DeadLetter
from state.engine.database import Database
from state.tables import operation_items
from tests.support.pages import NOON, checked, dialog, listed, press, started_jobs, stored, text_of

Show = Callable[..., AppTest]


def keys(test: AppTest, prefix: str) -> list[str]:
    """Rows by their container's key, as the buttons and expanders in them name them."""
    return [button.key for button in test.button if button.key and button.key.startswith(prefix)]


def test_the_flow_tiles_show_outbox_and_consumer_lag_with_their_time(busy: Database, show: Show) -> None:
    text = text_of(show("events.py"))
    assert "Behind on INVENTORY_EVENTS" in text
    assert "3 in hand, 1 again · as of 12:00:00" in text
    assert "### Publishing" in text


def test_dead_letters_with_the_same_cause_are_one_group(busy: Database, show: Show) -> None:
    text = text_of(show("events.py"))
    assert "inventory.confirmed** · 11 dead letters" in text
    assert "inventory.confirmed** · 1 dead letter" in text


def test_a_group_is_shown_from_the_address_and_every_cause_is_a_click_away(busy: Database, show: Show) -> None:
    test = press(show("events.py"), cause(show("events.py"), "show"))
    assert str(test.query_params["cause"]).startswith("inventory.confirmed|")
    assert len(keys(test, "replay_DL-")) == 11
    press(test, "every_cause")
    assert len(keys(test, "replay_DL-")) == 12


def test_a_dead_letter_is_replayed_with_one_click_and_once_at_a_time(busy: Database, show: Show) -> None:
    test = press(show("events.py"), "replay_DL-1")
    (command,) = stored(busy)
    assert (command.kind, command.target_id) == ("replay_dead_letter", "DL-1")
    assert test.button(key="replay_DL-1").disabled


def cause(test: AppTest, action: str) -> str:
    """The key of a button of the first, the largest group."""
    return keys(test, f"{action}_cause_")[0]


def test_the_payload_is_shown_as_json_or_as_bytes(busy: Database, show: Show) -> None:
    assert not show("events.py").code
    blocks = [code.value for code in show("events.py", open="letter-DL-200~letter-DL-1").code]
    assert '{\n  "orderId": "ORD-9000",\n  "reservationId": "RSV-9000"\n}' in blocks
    assert "000000  7b                                               {" in blocks


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        (b'{"note": "' + b"x" * 250_000 + b'"}', "The first 2,048 of 250,012 bytes."),
        (b"[" * 2000 + b"]" * 2000, "The first 2,048 of 4,000 bytes."),
        (b"[" * 1000 + b"]" * 1000, None),
    ],
    ids=["large", "deep and large", "deep"],
)
def test_a_large_or_deep_payload_is_shown_cut_and_whole_in_a_file(busy: Database, show: Show, payload, shown) -> None:
    dead_letter = DeadLetter("DL-BIG", "S", 9000, "inventory.confirmed", None, payload, {}, "r", 1, "OPEN", NOON)
    busy.write_now(lambda connection: dead_letters.add(connection, dead_letter))
    test = show("events.py", open="letter-DL-BIG")
    assert sum(len(code.value) for code in test.code) < 30_000
    captions = [caption.value for caption in test.caption]
    assert (shown in captions) is (shown is not None)
    assert bool(test.get("download_button")) is (shown is not None)


def test_open_expanders_are_restored_from_the_address(busy: Database, show: Show) -> None:
    test = show("events.py", view="Outgoing")
    assert not test.code
    first = next(box for box in test.expander if box.label == "Payload")
    test.query_params["open"] = first.proto.id.rpartition("unfold_")[2]
    assert len(checked(test.run()).code) == 1
    del test.query_params["open"]
    assert not checked(test.run()).code


def test_a_group_is_replayed_after_a_preview_of_exactly_the_dead_letters_shown(busy: Database, show: Show) -> None:
    test = show("events.py")
    assert test.button(key=cause(test, "replay")).label == "Replay 11 of 11"
    press(test, cause(test, "replay"))
    assert "Replay events: 11 items" in text_of(test)
    test.button(key=dialog(test, "do_")).click().run()
    assert stored(busy) == []
    (operation,) = started_jobs(busy)
    assert (operation.bulk_action, operation.total, operation.actor) == ("replay_event", 11, "console")
    assert operation.filter.startswith("inventory.confirmed: UnknownOrder: order")
    items = busy.read_now(lambda connection: bulk_jobs.item_page(connection, operation.job_id, limit=100))
    assert [item.item_id for item in items] == [f"DL-2{number:02}" for number in reversed(range(11))]
    assert {(item.order_id, item.version, item.state) for item in items[:1]} == {("ORD-9010", 8, "ASKED")}
    assert "**11** asked" in text_of(test)


def test_a_group_is_discarded_only_with_a_reason_and_its_typed_count(busy: Database, show: Show) -> None:
    test = show("events.py")
    for typed, count in (("12", 0), ("11", 1)):
        press(test, cause(test, "discard"))
        do = dialog(test, "do_")
        key = do.removeprefix("do_")
        test.text_area(key=f"note_{key}").set_value("test data")
        test.text_input(key=f"count_{key}").set_value(typed)
        test.button(key=do).click().run()
        assert len(started_jobs(busy)) == count
    (operation,) = started_jobs(busy)
    assert (operation.bulk_action, operation.reason, operation.total) == ("discard_event", "test data", 11)


def another(number: int) -> DeadLetter:
    """One more letter of the largest group."""
    return DeadLetter(
        f"DL-3{number:02}", "INVENTORY_EVENTS", 300 + number, "inventory.confirmed", None, b"{}", {},
        f"UnknownOrder: order ORD-9{number:03} is not known", 8, "OPEN", NOON,
    )  # fmt: skip


def test_dead_letters_that_changed_since_the_look_are_skipped_and_new_ones_are_not_included(busy: Database) -> None:
    group = console().events.dead_letters_by_cause().value.groups[0]  # type: ignore[union-attr]
    frozen = console().events.freeze(BulkAction.REPLAY_EVENT, group)

    def meanwhile(connection: Any) -> None:
        dead_letters.resolve(connection, "DL-203", "DISCARDED", by="ben", note="no", at=NOON)
        dead_letters.note_failure(connection, "DL-204", "UnknownOrder: order ORD-9004 is not known")
        for number in range(3):
            dead_letters.add(connection, another(number))

    busy.write_now(meanwhile)
    commit = console().bulk.start(frozen, "", actor="olga", job_id="op-1")
    assert commit.sentence == "2 of 11 changed since and are skipped; 3 new match, not included"
    items = busy.read_now(lambda connection: bulk_jobs.item_page(connection, "op-1", limit=100))
    assert {item.item_id: item.detail for item in items if item.state == "SKIPPED"} == {
        "DL-203": "Changed between preview and start: it is DISCARDED at version 8.",
        "DL-204": "Changed between preview and start: it is OPEN at version 9.",
    }


def test_what_must_not_be_stored_of_dead_letters_is_refused_by_the_facade_too(busy: Database) -> None:
    group = console().events.dead_letters_by_cause().value.groups[0]  # type: ignore[union-attr]
    frozen = console().events.freeze(BulkAction.DISCARD_EVENT, group)
    with pytest.raises(ValueError, match="needs a reason"):
        console().bulk.start(frozen, "  ", actor="olga", job_id="op-1")
    assert started_jobs(busy) == []


def test_the_items_of_dead_letters_are_open_from_the_address_and_link_to_known_orders(
    busy: Database, show: Show
) -> None:
    test = press(show("events.py"), cause(show("events.py"), "replay"))
    test.button(key=dialog(test, "do_")).click().run()
    (operation,) = started_jobs(busy)

    def fail(connection: Any) -> None:
        for item in bulk_jobs.item_page(connection, operation.job_id, limit=2):
            sent = bulk_jobs.settle(connection, item, ("ASKED",), state="FAILED", detail="no such order")
            assert sent
        lost = bulk_jobs.item_page(connection, operation.job_id, limit=1)[0]
        connection.execute(update(operation_items).where(operation_items.c.item_id == lost.item_id).values(order_id=""))

    busy.write_now(fail)
    shown = show("events.py", operation=operation.job_id)
    (ledger,) = shown.dataframe
    assert list(ledger.value["State"])[:3] == ["Failed again", "Failed again", "Waits for its turn"]
    assert "ORD-9009" in listed(shown)[:1]


def test_outgoing_events_are_paged_and_filtered_by_the_address(busy: Database, show: Show) -> None:
    test = show("events.py", view="Outgoing")
    assert "event evt-p29" in text_of(test)
    press(test, "outgoing_before_step")
    assert "outgoing_before" in test.query_params
    assert "event evt-p29" not in text_of(test)
    refused = text_of(show("events.py", view="Outgoing", out_state="Refused, tried again"))
    assert "no response from stream" in refused
    assert "event evt-p" not in refused
    assert "No event matches" in text_of(show("events.py", view="Outgoing", event_order="nobody"))


def test_incoming_events_show_their_outcome(busy: Database, show: Show) -> None:
    text = text_of(show("events.py", view="Incoming"))
    assert "Changed nothing]" in text
    assert "came again 1x" in text
    ignored = text_of(show("events.py", view="Incoming", in_state="Changed nothing"))
    assert "in-07" in ignored
    assert "in-06" not in ignored


def test_the_four_empty_states_differ(database: Database, show: Show) -> None:
    assert "Every event that came in was handled." in text_of(show("events.py"))
    assert "No event has been stored yet." in text_of(show("events.py", view="Outgoing"))
    assert "Every event is published." in text_of(show("events.py", view="Outgoing", out_state="Not published"))
    assert "No dead letter is in this state." in text_of(show("events.py", letters="Discarded"))
