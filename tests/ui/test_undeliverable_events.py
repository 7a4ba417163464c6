"""Events that cannot be published: listed on the Events page, published again or given up, by whom and why."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from streamlit.testing.v1 import AppTest

from services.console.events import UNDELIVERABLE_SHOWN
from state import alerts, commands, outbox
from state.alerts import Alert
from state.engine.database import Database
from tests.support.pages import NOON, checked, dialog, press, stored, text_of

Show = Callable[..., AppTest]
REASON = "nats: maximum payload exceeded"
TITLE = "Cannot be published:"


def undeliverable(database: Database, count: int = 1, payload: bytes = b'{"id": "large"}') -> list[int]:
    """Events that the broker cannot take since three minutes ago; returns the ids of their rows."""
    at = NOON - timedelta(minutes=3)
    rows = [
        {"event_id": f"large-{n}", "subject": "order.created", "order_id": "ORD-2000", "payload": payload}
        for n in range(count)
    ]
    database.write_now(lambda c: outbox.add(c, [row | {"created_at": at} for row in rows]))
    claimed = database.write_now(lambda c: outbox.settle_and_claim(c, [], [], 1000, NOON + timedelta(hours=1)))
    ids = [row.id for row in claimed if row.event_id.startswith("large-")]
    never = [(row_id, REASON) for row_id in ids]
    database.write_now(lambda c: outbox.settle_and_claim(c, [], [], 0, at, undeliverable=never))
    return ids


def test_an_event_is_listed_with_its_order_its_time_its_size_and_the_reason(busy: Database, show: Show) -> None:
    undeliverable(busy)
    test = show("events.py")
    text = text_of(test)
    assert f"{TITLE} 1 event**" in text
    assert f"{REASON} · 15 bytes · 1 attempt" in text
    assert "since 11:57:00" in text
    assert any("order=ORD-2000" in link.proto.query_string for link in test.get("page_link"))


def test_the_list_stays_away_while_there_is_none(busy: Database, show: Show) -> None:
    assert TITLE not in text_of(show("events.py"))


def test_it_is_published_again_with_one_click_and_not_again_while_that_is_under_way(busy: Database, show: Show) -> None:
    (row_id,) = undeliverable(busy)
    test = press(show("events.py"), f"publish_{row_id}")
    (command,) = stored(busy)
    assert (command.kind, command.target_id, command.actor) == ("retry_outgoing_event", str(row_id), "console")
    assert test.button(key=f"publish_{row_id}").disabled
    assert test.button(key=f"give_up_{row_id}").disabled


def test_two_people_who_click_at_the_same_sight_store_one_command(busy: Database, show: Show) -> None:
    (row_id,) = undeliverable(busy)
    first, second = show("events.py"), show("events.py")
    press(first, f"publish_{row_id}")
    press(second, f"publish_{row_id}")
    assert len(stored(busy)) == 1


def test_it_is_given_up_only_with_a_reason(busy: Database, show: Show) -> None:
    (row_id,) = undeliverable(busy)
    test = press(show("events.py"), f"give_up_{row_id}")
    do = dialog(test, "do_")
    checked(test.button(key=do).click().run())
    assert stored(busy) == []
    test.text_area(key=f"note_{do.removeprefix('do_')}").set_value("told them by phone")
    checked(test.button(key=do).click().run())
    (command,) = stored(busy)
    assert (command.kind, command.target_id) == ("discard_outgoing_event", str(row_id))
    assert command.arguments == {"note": "told them by phone"}


def test_a_command_on_an_order_of_the_same_number_is_not_shown_there(busy: Database, show: Show) -> None:
    (row_id,) = undeliverable(busy)
    other = commands.Command("CMD-9", "cancel_order", str(row_id), {}, "ben", "STORED", NOON)
    busy.write_now(lambda c: commands.store(c, other))
    test = show("events.py")
    assert not test.button(key=f"publish_{row_id}").disabled


def test_many_are_listed_in_part_and_their_number_is_shown(busy: Database, show: Show) -> None:
    undeliverable(busy, UNDELIVERABLE_SHOWN + 7)
    test = show("events.py")
    assert f"{TITLE} {UNDELIVERABLE_SHOWN + 7} events**" in text_of(test)
    assert "7 more come up as these are settled." in text_of(test)
    shown = [button.key for button in test.button if button.key and button.key.startswith("publish_")]
    assert len(shown) == UNDELIVERABLE_SHOWN


def test_the_list_of_outgoing_events_distinguishes_them_from_those_that_are_tried_again(
    busy: Database, show: Show
) -> None:
    undeliverable(busy)
    chosen = text_of(show("events.py", view="Outgoing", out_state="Cannot be published"))
    assert "event large-0" in chosen
    assert "event evt-p" not in chosen
    for other in ("Refused, tried again", "Not published", "Published"):
        assert "event large-0" not in text_of(show("events.py", view="Outgoing", out_state=other))


def test_the_alert_leads_to_the_list(busy: Database, show: Show) -> None:
    labels = {"alertname": "OrdersNeedingAttention", "severity": "critical"}
    firing = Alert(
        "needing", "worker", "OrdersNeedingAttention", labels, {"summary": "s"}, "", "firing", 1.0, NOON, NOON, None,
        NOON, is_notified=True,
    )  # fmt: skip
    busy.write_now(lambda c: alerts.put(c, firing))
    test = show("alerts.py", alert="OrdersNeedingAttention")
    assert {"reviews", "events"} <= {link.proto.page for link in test.get("page_link")}
    assert "Look at Events, Cannot be published" in text_of(test)
