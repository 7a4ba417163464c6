"""The Alerts page: what fires and what to do, acknowledge, silence with preview and end, history, notifications."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import text
from streamlit.testing.v1 import AppTest

from services.alerting.state_machine import Matcher
from services.console.alerts import would_silence
from services.console.facade import console
from state import alerts, replicas
from state.alerts import Alert
from state.engine.database import Database
from tests.support import seed_alerts
from tests.support.pages import NOON, checked, press, stored, text_of

Show = Callable[..., AppTest]
OPEN_ID = seed_alerts.breaker_open(NOON).alert_id
LOW_ID = seed_alerts.success_low(NOON).alert_id


def submit(test: AppTest) -> AppTest:
    (button,) = [button for button in test.button if button.key and button.key.startswith("do_")]
    return checked(button.click().run())


def area(test: AppTest) -> object:
    (found,) = [area for area in test.text_area if area.key and area.key.startswith("note_")]
    return found


def test_a_firing_alert_is_shown_with_value_threshold_and_since(busy: Database, show: Show) -> None:
    shown = text_of(show("alerts.py"))
    assert "4 firing, 1 of them silenced · 1 pending" in shown
    assert "87.1 %, threshold < 95.0 %" in shown
    assert "firing since 11:52:00 · 8 min ago" in shown
    assert "**InventoryCircuitBreakerOpen (Reservation)**" in shown
    assert "1,420 ms, threshold > 1,000 ms" in shown
    assert "fires after 60 s" in shown
    assert "evaluated every 5 s by worker-1, last 2 s ago" in shown


def test_critical_firing_alerts_come_first_and_pending_ones_last(busy: Database, show: Show) -> None:
    names = [
        name
        for line in text_of(show("alerts.py")).splitlines()
        for name in ("SuccessLow", "BreakerOpen", "DiskFull", "LettersPresent", "AvailabilitySlow")
        if name in line and line.startswith("**") and line.endswith("**")
    ]
    assert names == ["SuccessLow", "BreakerOpen", "DiskFull", "LettersPresent", "AvailabilitySlow"]


def test_a_runbook_shows_what_to_do_and_links_with_filters_set(busy: Database, show: Show) -> None:
    test = show("alerts.py")
    assert "Look at Breakers: which operation" in text_of(test)
    links = {link.proto.label: link.proto for link in test.get("page_link")}
    assert {"Open Breakers", "Open Events"} <= set(links)


def test_a_received_alert_reports_it_and_leads_to_its_sender(busy: Database, show: Show) -> None:
    test = show("alerts.py")
    assert "received from prometheus" in text_of(test)
    (link,) = test.get("link_button")
    assert link.proto.url.startswith("http://prometheus.example")


def test_acknowledging_stores_one_command_however_often_it_is_clicked(busy: Database, show: Show) -> None:
    test = press(show("alerts.py"), f"ack_{OPEN_ID}")
    area(test).set_value("on it")
    submit(test)
    (command,) = stored(busy)
    assert (command.kind, command.target_id, command.arguments) == ("acknowledge_alert", OPEN_ID, {"note": "on it"})
    button = checked(test.run()).button(key=f"ack_{OPEN_ID}")
    assert button.disabled
    assert "under way" in button.help


def test_the_actor_of_an_acknowledgement_is_shown_and_the_button_explains_itself(busy: Database, show: Show) -> None:
    test = show("alerts.py")
    assert "Acknowledged] olga@example.com, 6 min ago: asked the inventory team" in text_of(test)
    assert test.button(key=f"ack_{LOW_ID}").disabled
    assert test.button(key=f"ack_{LOW_ID}").help == "It is acknowledged already."


def test_a_silence_is_previewed_and_stored_with_reason_and_end(busy: Database, show: Show) -> None:
    test = press(show("alerts.py"), f"silence_{OPEN_ID}")
    assert "Silences now: **1** of 5 standing" in text_of(test)
    area(test).set_value("planned work")
    submit(test)
    (command,) = stored(busy)
    assert (command.kind, command.arguments["reason"]) == ("silence_alert", "planned work")
    assert command.arguments["expiresIn"] == 3_600_000
    assert {m["name"]: m["value"] for m in command.arguments["matchers"]}["breaker"] == "inventoryServiceReserver"


def test_a_silence_without_a_reason_is_not_stored(busy: Database, show: Show) -> None:
    submit(press(show("alerts.py"), f"silence_{OPEN_ID}"))
    assert stored(busy) == []


def test_fewer_labels_silence_more_and_none_silence_nothing(busy: Database) -> None:
    page = console().alerts.page().value
    assert page is not None
    every = Matcher.all_of(seed_alerts.breaker_open(NOON).labels)
    assert [alert.alert_id for alert in would_silence(every, page)] == [OPEN_ID]
    severity = [matcher for matcher in every if matcher.name == "severity"]
    assert {alert.alert_id for alert in would_silence(severity, page)} == {OPEN_ID, LOW_ID}
    assert would_silence([], page) == ()


def test_running_silences_are_listed_and_can_be_ended_once(busy: Database, show: Show) -> None:
    test = show("alerts.py", section="Silences")
    assert "ends in 41 min, at 12:41:00 · silences 1 now · ben@example.com: replayed at noon, known case" in text_of(
        test
    )
    press(test, f"end_{seed_alerts.SILENCE}")
    (command,) = stored(busy)
    assert (command.kind, command.target_id) == ("end_silence", seed_alerts.SILENCE)
    assert checked(test.run()).button(key=f"end_{seed_alerts.SILENCE}").disabled


def test_notifications_that_cannot_be_sent_are_shown_at_the_top(busy: Database, show: Show) -> None:
    test = show("alerts.py")
    assert [warning.value for warning in test.warning] == ["1 message to be sent. Last attempt: answered 502"]
    assert "Sign of life" in text_of(show("alerts.py", section="Notifications"))


def test_history_names_actor_and_action(busy: Database, show: Show) -> None:
    shown = text_of(show("alerts.py", section="History"))
    assert "by olga@example.com · asked the team" in shown
    assert "(until 22 Nov 12:41 UTC)" in shown


def test_every_alert_is_listed_with_its_value_and_threshold(busy: Database, show: Show) -> None:
    rows = [
        row
        for table in show("alerts.py", section="All alerts").table
        for row in table.value.to_dict("records")
        if "Threshold" in row
    ]
    assert len(rows) == 12
    assert (rows[5]["Alert"], rows[5]["Value"], rows[5]["Fires after"]) == (
        "InventoryReservationQueueDeep",
        "1",
        "60 s",
    )


def test_a_link_shows_the_one_alert_and_the_filter_can_be_cleared(busy: Database, show: Show) -> None:
    test = show("alerts.py", alert=OPEN_ID)
    assert f"ack_{OPEN_ID}" in {button.key for button in test.button}
    assert f"ack_{LOW_ID}" not in {button.key for button in test.button}
    test = show("alerts.py", alert="nothing like it")
    assert "No alert that stands fits the filter." in text_of(test)
    assert f"ack_{LOW_ID}" in {button.key for button in press(test, "clear_filters").button}


def test_severity_is_a_filter(busy: Database, show: Show) -> None:
    keys = {button.key for button in show("alerts.py", severity="Critical").button}
    assert f"ack_{OPEN_ID}" in keys
    assert len([key for key in keys if key and key.startswith("ack_")]) == 2


def quiet(connection: object) -> None:
    from tests.support.seed_console import heartbeat

    heartbeat(connection, NOON)
    seed_alerts._evaluated(connection, NOON)


def test_all_well_is_quiet(database: Database, show: Show) -> None:
    database.write_now(quiet)
    test = show("alerts.py")
    assert "No alert fires." in text_of(test)
    assert "Nothing is silenced." in text_of(show("alerts.py", section="Silences"))
    assert not test.warning
    assert "firing]" not in text_of(test)
    assert "Alerts: what to do" not in text_of(show())


def test_nothing_evaluated_yet_is_not_all_well(database: Database, show: Show) -> None:
    shown = text_of(show("alerts.py"))
    assert "Nothing has been evaluated yet" in shown
    assert "No alert fires." not in shown


def test_alerts_that_no_worker_evaluates_are_marked_as_old(busy: Database, show: Show) -> None:
    noted = {"evaluatedAt": "2026-11-22T11:40:00.000Z", "intervalSeconds": 5.0}
    busy.write_now(lambda connection: replicas.note_lease(connection, "alerts", noted))
    assert "No worker has evaluated the alerts since 11:40:00 · 20 min ago." in text_of(show("alerts.py"))


def test_without_a_webhook_the_page_shows_that_nothing_is_sent(database: Database, show: Show) -> None:
    assert "Set ALERT_WEBHOOK_URL" in text_of(show("alerts.py", section="Notifications"))


@pytest.mark.parametrize("page", ["overview.py", "releases.py"])
def test_every_page_shows_how_many_fire(busy: Database, show: Show, page: str) -> None:
    assert "3 firing]" in text_of(show(page))


def test_overview_lists_what_fires_and_is_not_silenced(busy: Database, show: Show) -> None:
    shown = text_of(show())
    assert "**InventoryReservationSuccessLow** Too many reservations" in shown
    assert "taken by olga@example.com" in shown
    assert "**InventoryCircuitBreakerOpen (Reservation)**" in shown
    assert "**DeadLettersPresent**" not in shown


def test_labels_of_unknown_origin_are_shown_as_they_are(busy: Database, show: Show) -> None:
    odd = seed_alerts.received(NOON)
    labels = odd.labels | {"mount": "[x](http://evil.example)", "severity": "page"}
    row = {"labels": labels}
    busy.write_now(
        lambda c: c.execute(alerts.alerts.update().where(alerts.alerts.c.alert_id == odd.alert_id).values(row))
    )
    test = show("alerts.py")
    assert any("\\[x\\]\\(http\\:\u200b//evil" in caption.value for caption in test.caption)
    assert "Page]" in text_of(test)
    busy.write_now(lambda c: c.execute(text("DELETE FROM alerts")))


def test_the_alert_about_the_database_is_listed_quiet_while_others_are_evaluated(busy: Database, show: Show) -> None:
    (table,) = show("alerts.py", section="All alerts").table
    (row,) = [row for row in table.value.to_dict("records") if row["Alert"] == "DatabaseNotWritable"]
    assert "Quiet" in row["State"]
    assert (row["Severity"], row["Fires after"]) == ("Critical", "5 s")


def test_an_outage_of_the_database_is_shown_when_it_is_over(busy: Database, show: Show) -> None:
    labels = {"alertname": "DatabaseNotWritable", "severity": "critical", "replica": "here"}
    over = Alert(
        "outage", "worker", "DatabaseNotWritable", labels, {"summary": "Nothing can be stored."}, "", "resolved", 1.0,
        NOON, NOON, NOON, NOON, is_notified=False,
    )  # fmt: skip
    busy.write_now(lambda c: alerts.put(c, over))
    assert "DatabaseNotWritable" in text_of(show("alerts.py", section="Lately resolved"))
