"""Pending, firing, resolved: as Prometheus counts ``for`` and ``keep_firing_for``, and what is sent about it."""

from __future__ import annotations

from dataclasses import replace

from services.alerting.state_machine import Matcher, due_notification, silenced_by
from services.alerting.webhook import notification, watchdog
from state.alerts import FIRING, PENDING, RESOLVED
from tests.unit.alerting.world import NOON, OUTAGE, EvaluatedRule, dead_letters, seconds


def test_without_a_for_duration_it_fires_at_once():
    evaluated = EvaluatedRule(dead_letters())
    evaluated.at(0, 1)
    assert (evaluated.state, evaluated.alert.fired_at, evaluated.alert.active_at) == (FIRING, NOON, NOON)
    assert evaluated.events == ["FIRING"]


def test_it_is_pending_until_it_was_true_for_long_enough():
    evaluated = EvaluatedRule(dead_letters(for_duration=10))
    states = []
    for second in (0, 5, 9.999, 10, 15):
        evaluated.at(second, 1)
        states.append(evaluated.state)
    assert states == [PENDING, PENDING, PENDING, FIRING, FIRING]
    assert evaluated.alert.active_at == NOON
    assert evaluated.alert.fired_at == NOON + seconds(10)


def test_a_clock_that_is_set_back_makes_neither_a_pending_nor_a_kept_alert_wait_for_its_old_time():
    pending = EvaluatedRule(dead_letters(for_duration=10))
    pending.at(0, 1)
    for second in (-3600, -3595, -3590):
        pending.at(second, 1)
    assert (pending.state, pending.alert.active_at) == (FIRING, NOON - seconds(3600))
    kept = EvaluatedRule(dead_letters(keep_firing_for=10))
    kept.at(0, 1)
    for second in (5, -3600, -3595, -3590):
        kept.at(second, 0)
    assert kept.state == RESOLVED


def test_a_pending_alert_that_comes_to_nothing_leaves_nothing():
    evaluated = EvaluatedRule(dead_letters(for_duration=10))
    evaluated.at(0, 1)
    evaluated.at(5, 0)
    assert (evaluated.known, evaluated.events) == ({}, [])
    evaluated.at(10, 1)
    assert evaluated.alert.active_at == NOON + seconds(10)


def test_it_resolves_as_soon_as_it_is_no_longer_true():
    evaluated = EvaluatedRule(dead_letters())
    evaluated.at(0, 1)
    evaluated.at(5, 0)
    assert (evaluated.state, evaluated.alert.resolved_at) == (RESOLVED, NOON + seconds(5))
    assert evaluated.events == ["FIRING", "RESOLVED"]
    assert evaluated.at(10, 0).put == ()


def test_with_a_keep_it_goes_on_and_a_relapse_is_the_same_incident():
    evaluated = EvaluatedRule(dead_letters(keep_firing_for=10))
    evaluated.at(0, 1)
    for second, value in ((5, 0), (14, 0), (14.5, 1), (16, 0), (25.9, 0)):
        evaluated.at(second, value)
        assert evaluated.state == FIRING
    evaluated.at(26, 0)
    assert evaluated.state == RESOLVED
    assert evaluated.events == ["FIRING", "RESOLVED"]


def test_a_resolved_alert_that_comes_again_begins_anew():
    evaluated = EvaluatedRule(dead_letters(for_duration=10))
    for second in (0, 10):
        evaluated.at(second, 1)
    evaluated.known = {
        key: replace(alert, acknowledged_at=NOON, acknowledged_by="ada") for key, alert in evaluated.known.items()
    }
    evaluated.at(11, 0)
    assert evaluated.alert.acknowledged_by is None
    evaluated.at(20, 1)
    assert (evaluated.state, evaluated.alert.active_at) == (PENDING, NOON + seconds(20))
    evaluated.at(21, 0)
    assert (evaluated.state, evaluated.alert.resolved_at) == (RESOLVED, NOON + seconds(11))
    assert evaluated.events == ["FIRING", "RESOLVED"]


def test_a_pending_alert_is_not_taken_for_true_while_nothing_was_evaluated():
    evaluated = EvaluatedRule(dead_letters(for_duration=10))
    evaluated.at(0, 1)
    after = OUTAGE.total_seconds() + 5
    evaluated.at(after, 1)
    assert (evaluated.state, evaluated.alert.active_at) == (PENDING, NOON + seconds(after))


def test_a_firing_alert_survives_that_nothing_was_evaluated():
    evaluated = EvaluatedRule(dead_letters())
    evaluated.at(0, 1)
    evaluated.at(10_000, 1)
    assert (evaluated.state, evaluated.alert.fired_at, evaluated.events) == (FIRING, NOON, ["FIRING"])


def test_value_and_annotations_follow():
    evaluated = EvaluatedRule(dead_letters())
    evaluated.at(0, 1)
    evaluated.at(5, 7)
    assert evaluated.alert.value == 7
    assert evaluated.alert.annotations["value"] == "7"
    assert evaluated.alert.annotations["threshold"] == "> 0"


# ------------------------------------------------------------- notifications


def firing():
    evaluated = EvaluatedRule(dead_letters())
    evaluated.at(0, 1)
    return evaluated.alert


SILENCER = {"S": (Matcher("alertname", "DeadLettersPresent"),)}


def test_what_fires_is_sent_once():
    assert due_notification(firing(), {}) == FIRING
    assert due_notification(replace(firing(), is_notified=True), {}) is None


def test_what_is_silenced_is_not_sent_until_the_silence_ends():
    assert silenced_by(firing().labels, SILENCER) == ["S"]
    assert due_notification(firing(), SILENCER) is None
    assert due_notification(firing(), {}) == FIRING


def test_the_end_of_a_sent_alert_is_sent_although_it_is_silenced_now():
    over = replace(firing(), state=RESOLVED, is_notified=True, resolved_at=NOON)
    assert due_notification(over, SILENCER) == RESOLVED
    assert due_notification(replace(over, is_notified=False), {}) is None


def test_what_is_pending_is_not_sent():
    assert due_notification(replace(firing(), state=PENDING), {}) is None


def test_a_message_has_the_form_of_alertmanagers_webhook():
    message = notification(firing(), FIRING, "http://console")
    (alert,) = message["alerts"]
    assert set(message) == {
        "version", "groupKey", "truncatedAlerts", "status", "receiver", "groupLabels", "commonLabels",
        "commonAnnotations", "externalURL", "alerts",
    }  # fmt: skip
    assert set(alert) == {
        "status", "labels", "annotations", "startsAt", "endsAt", "generatorURL", "fingerprint",
    }  # fmt: skip
    assert (message["version"], message["status"], message["externalURL"]) == ("4", "firing", "http://console")
    assert message["groupKey"] == '{}:{alertname="DeadLettersPresent", severity="warning"}'
    assert (alert["startsAt"], alert["endsAt"]) == ("2026-11-22T12:00:00.000Z", "0001-01-01T00:00:00Z")
    over = replace(firing(), state=RESOLVED, resolved_at=NOON + seconds(90))
    assert notification(over, RESOLVED, "")["alerts"][0]["endsAt"] == "2026-11-22T12:01:30.000Z"


def test_a_received_alert_is_a_group_of_its_own():
    assert notification(replace(firing(), source="prometheus"), FIRING, "")["groupKey"].startswith(
        '{}/{source="prometheus"}:'
    )


def test_the_sign_of_life_always_fires():
    message = watchdog(NOON + seconds(60), NOON, "http://console")
    (alert,) = message["alerts"]
    assert (message["status"], alert["labels"]["alertname"], alert["startsAt"]) == (
        "firing",
        "Watchdog",
        "2026-11-22T12:00:00.000Z",
    )
