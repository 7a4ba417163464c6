"""The definitions of the alerts, their labels and fingerprints."""

from __future__ import annotations

import pytest

from services.alerting.prometheus import duration, table
from services.alerting.rules import rules
from services.alerting.state_machine import Matcher, fingerprint, fit, matchers_of
from services.base.settings import Settings
from services.metrics.sample import MetricWindow
from tests.unit.alerting.world import NOON, seconds

CONTRACT = [
    "OrdersRefusedForInventory",
    "InventoryRefusesUs",
    "InventoryCircuitBreakerOpen",
    "InventoryReservationSuccessLow",
    "InventoryReservationQueueDeep",
    "InventoryReleasesFailing",
    "InventoryAvailabilitySlow",
    "OutboxStalled",
    "DeadLettersPresent",
    "OrdersNeedingAttention",
    "ManualReviewsAging",
]


def test_the_alerts_are_those_of_the_contract():
    assert [rule.name for rule in rules(Settings())] == CONTRACT


@pytest.mark.parametrize(
    ("setting", "value", "name", "threshold"),
    [
        ("alert_reservation_success_rate", 0.8, "InventoryReservationSuccessLow", 0.8),
        ("alert_queue_depth", 7, "InventoryReservationQueueDeep", 7),
        ("alert_release_failures", 9, "InventoryReleasesFailing", 9),
        ("alert_availability_latency", 250, "InventoryAvailabilitySlow", 0.25),
        ("alert_outbox_age", 1500, "OutboxStalled", 1.5),
        ("alert_review_age", 9000, "ManualReviewsAging", 9),
    ],
)
def test_thresholds_come_from_the_settings(setting, value, name, threshold):
    found = {rule.name: rule.threshold for rule in rules(Settings(**{setting: value}))}
    assert found[name] == threshold


def test_times_scale_with_the_window():
    held = {rule.name: rule.for_duration for rule in rules(Settings(alert_window=10_000))}
    assert held["InventoryReservationSuccessLow"] == seconds(2)
    assert held["InventoryCircuitBreakerOpen"] == seconds(0)


def test_every_alert_shows_what_to_do_and_where_to_look():
    for rule in rules(Settings()):
        assert len(rule.runbook) >= 2
        assert rule.summary.endswith(".")
        assert rule.page in ("breakers", "events", "orders", "releases", "reviews")


def test_a_forced_open_breaker_is_an_open_one_and_a_half_open_one_is_not():
    rule = next(rule for rule in rules(Settings()) if rule.name == "InventoryCircuitBreakerOpen")

    def fires(state: str) -> bool:
        gauge = [({"breaker": "b", "state": state}, 1.0), ({"breaker": "b", "state": "closed"}, 0.0)]
        return bool(rule.active(MetricWindow(0, 1000, {}, {"inventory_circuit_breaker_state": gauge})))

    states = ("open", "forced_open", "half_open", "closed", "forced_closed")
    assert [fires(state) for state in states] == [True, True, False, False, False]


def test_silence_of_the_metrics_fires_nothing():
    empty = MetricWindow(round(NOON.timestamp() * 1000), 300_000)
    assert [rule.active(empty) for rule in rules(Settings())] == [{}] * len(CONTRACT)
    assert [rule.worst_value(empty) for rule in rules(Settings())] == [None] * len(CONTRACT)


def test_durations_are_exact():
    assert (duration(seconds(60)), duration(seconds(2.469))) == ("60s", "2469ms")


def test_people_get_a_table_with_every_runbook():
    text = table(rules(Settings()), seconds(300))
    assert all(rule.name in text and rule.runbook[-1] in text for rule in rules(Settings()))


def test_the_fingerprint_depends_on_names_and_values_and_not_on_their_order():
    labels = {"alertname": "A", "severity": "critical"}
    assert fingerprint(labels) == fingerprint(dict(reversed(labels.items())))
    assert fingerprint(labels) != fingerprint(labels | {"severity": "criticalx"})
    assert fingerprint({"ab": "c"}) != fingerprint({"a": "bc"})
    # What Alertmanager computes for no labels at all: the offset of FNV-1a.
    assert fingerprint({}) == "cbf29ce484222325"


def test_matchers_pick_by_value_and_an_absent_label_is_empty():
    labels = {"alertname": "A", "breaker": "x"}
    assert fit(Matcher.all_of(labels), labels)
    assert not fit(Matcher.all_of(labels), {"alertname": "A"})
    assert fit([Matcher("alertname", "A"), Matcher("breaker", "y", is_equal=False)], labels)
    assert fit([Matcher("team", "")], labels)


def test_matchers_are_written_as_alertmanager_writes_them():
    made = Matcher.all_of({"alertname": "A"})
    assert [m.wire() for m in made] == [{"name": "alertname", "value": "A", "isRegex": False, "isEqual": True}]
    assert matchers_of(m.wire() for m in made) == made
