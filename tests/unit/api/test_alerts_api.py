"""The routes about alerts over HTTP. Source: contract 3; Alertmanager API v2."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.alerting.evaluator import AlertEvaluator, AlertingPolicy
from services.alerting.rules import rules
from services.base.settings import Settings
from services.domain.orders.events import timestamp
from state import dead_letters
from state.dead_letters import DeadLetter
from tests.support.api import error_of

ALERTS, SILENCES = "/api/v1/alerts", "/api/v1/silences"
SETTINGS = Settings()


@pytest.fixture
async def alarmed(api):
    """An API whose service has a dead letter, and judged its alerts."""
    shop = api.shop
    dead_letter = DeadLetter("DL-1", "S", 1, "x", None, b"{", {}, "not JSON", 1, "OPEN", shop.clock())
    await shop.real_database.write(lambda c: dead_letters.add(c, dead_letter))
    evaluator = AlertEvaluator(shop.real_database, shop.clock, "r", rules(SETTINGS), AlertingPolicy.of(SETTINGS))
    await evaluator.evaluate()
    api.evaluate = evaluator.evaluate
    return api


async def the_alert(api):
    (alert,) = (await api.data(ALERTS))["items"]
    return alert


def posted(api, **changes):
    at = api.shop.clock()
    return {
        "labels": {"alertname": "HostDown", "instance": "h1", "severity": "critical"},
        "annotations": {"summary": "down"},
        "startsAt": timestamp(at - timedelta(minutes=1)),
        "endsAt": timestamp(at + timedelta(minutes=4)),
        "generatorURL": "http://prometheus.test/graph",
    } | changes


async def test_nothing_fires_nothing_is_listed(api):
    assert await api.data(ALERTS) == {"items": []}


async def test_an_alert_reports_what_it_is_since_when_and_what_to_do(alarmed):
    alert = await the_alert(alarmed)
    assert (alert["name"], alert["state"], alert["severity"], alert["source"]) == (
        "DeadLettersPresent", "firing", "warning", "worker",
    )  # fmt: skip
    assert (alert["value"], alert["threshold"]) == (1, 0)
    assert alert["labels"] == {"alertname": "DeadLettersPresent", "severity": "warning"}
    assert alert["fingerprint"] == alert["alertId"]
    assert alert["runbook"]
    assert alert["acknowledged"] is None
    assert alert["silencedBy"] == []
    assert alert["generatorURL"].endswith(f"/alerts?alert={alert['alertId']}")


async def test_alerts_are_picked_by_state(alarmed):
    assert len((await alarmed.data(ALERTS, state="firing"))["items"]) == 1
    assert (await alarmed.data(ALERTS, state="pending"))["items"] == []
    error_of(await alarmed.get(ALERTS, state="open"), 400, "VALIDATION_ERROR")


async def test_acknowledging_shows_who_and_is_audited(alarmed):
    alert_id = (await the_alert(alarmed))["alertId"]
    answer = await alarmed.post(f"{ALERTS}/{alert_id}/acknowledge", {"note": "looking"}, x_actor="ada")
    taken = answer.json()["data"]["acknowledged"]
    assert (answer.status_code, taken["by"], taken["note"]) == (200, "ada", "looking")
    (entry,) = (await alarmed.data("/api/v1/audit"))["items"]
    assert (entry["actor"], entry["action"]) == ("ada", "ACKNOWLEDGE_ALERT")
    error_of(await alarmed.post(f"{ALERTS}/none/acknowledge"), 404, "ALERT_NOT_FOUND")


async def test_silencing_an_alert_silences_its_labels_and_ends_by_itself(alarmed):
    alert_id = (await the_alert(alarmed))["alertId"]
    answer = await alarmed.post(f"{ALERTS}/{alert_id}/silence", {"reason": "known", "expiresIn": 60_000}, x_actor="ada")
    silence = answer.json()["data"]
    assert (answer.status_code, silence["state"], silence["actor"], silence["reason"]) == (
        200,
        "running",
        "ada",
        "known",
    )
    assert {m["name"]: m["value"] for m in silence["matchers"]} == (await the_alert(alarmed))["labels"]
    assert (await the_alert(alarmed))["silencedBy"] == [silence["silenceId"]]
    alarmed.shop.clock.advance(61)
    assert (await the_alert(alarmed))["silencedBy"] == []
    assert (await alarmed.data(SILENCES))["items"] == []
    assert [s["state"] for s in (await alarmed.data(SILENCES, state="ended"))["items"]] == ["ended"]


async def test_a_silence_needs_a_reason_and_an_end_within_a_week(alarmed):
    alert_id = (await the_alert(alarmed))["alertId"]
    for body in ({}, {"reason": ""}, {"reason": "x", "expiresIn": 10}, {"reason": "x", "expiresIn": 8 * 86_400_000}):
        error_of(await alarmed.post(f"{ALERTS}/{alert_id}/silence", body), 400, "VALIDATION_ERROR")


async def test_a_silence_by_matchers_is_previewed_made_and_ended_early(alarmed):
    matchers = [{"name": "severity", "value": "warning"}]
    (hit,) = (await alarmed.post(f"{SILENCES}/preview", {"matchers": matchers})).json()["data"]["items"]
    assert hit["name"] == "DeadLettersPresent"
    made = (await alarmed.post(SILENCES, {"matchers": matchers, "reason": "drill"})).json()["data"]
    assert (await the_alert(alarmed))["silencedBy"] == [made["silenceId"]]
    ended = await alarmed.client.delete(f"{SILENCES}/{made['silenceId']}", headers={"X-Actor": "ben"})
    assert (ended.json()["data"]["state"], ended.json()["data"]["endedBy"]) == ("ended", "ben")
    assert (await the_alert(alarmed))["silencedBy"] == []
    error_of(await alarmed.client.delete(f"{SILENCES}/none"), 404, "SILENCE_NOT_FOUND")


@pytest.mark.parametrize(
    "matchers",
    [
        [],
        [{"name": "a", "value": "b", "isRegex": True}],
        [{"name": "a", "value": "b", "isEqual": False}],
        [{"name": "1"}],
    ],
)
async def test_matchers_that_cannot_be_are_refused(alarmed, matchers):
    error_of(await alarmed.post(SILENCES, {"matchers": matchers, "reason": "x"}), 400, "VALIDATION_ERROR")


async def test_history_reports_what_became_of_alerts(alarmed):
    alert_id = (await the_alert(alarmed))["alertId"]
    await alarmed.post(f"{ALERTS}/{alert_id}/acknowledge", x_actor="ada")
    for found in (await alarmed.data(f"{ALERTS}/history"), await alarmed.data(f"{ALERTS}/history", alertId=alert_id)):
        assert [(event["kind"], event["actor"]) for event in found["items"]] == [
            ("ACKNOWLEDGED", "ada"),
            ("FIRING", None),
        ]
    assert (await alarmed.data(f"{ALERTS}/history", alertId="none"))["items"] == []


async def test_prometheus_posts_are_taken_as_alertmanager_takes_them(api):
    body = [
        posted(api),
        posted(
            api, labels={"alertname": "Ns"}, startsAt="2026-03-01T11:00:00.123456789Z", endsAt="0001-01-01T00:00:00Z"
        ),
        {"labels": {"alertname": "Bare"}},
    ]
    answer = await api.client.post("/api/v2/alerts", json=body)
    assert (answer.status_code, answer.json()["data"]) == (200, {"received": 3})
    items = (await api.data(ALERTS))["items"]
    assert {(i["name"], i["source"], i["state"]) for i in items} == {
        (name, "prometheus", "firing") for name in ("HostDown", "Ns", "Bare")
    }


@pytest.mark.parametrize(
    "body",
    [
        {},
        [{"labels": {}}],
        [{"labels": {"alertname": "A\x00"}}],
        [{"labels": {"a b": "c"}}],
        [{"labels": {"a": 1}}],
        [{"labels": {"a": "x" * 1001}}],
        [{"labels": {f"l{number}": "x" for number in range(51)}}],
        [{"labels": {"a": "x"}, "annotations": {"summary": "\x00"}}],
        [{"labels": {"a": "x"}, "annotations": {"summary": "x" * 10_001}}],
        [{"labels": {"a": "x"}, "generatorURL": "u" * 4001}],
        [{"labels": {"a": "x"}, "startsAt": "2026-11-22T00:00:00"}],
        [1],
    ],
)
async def test_what_is_no_list_of_alerts_is_refused(api, body):
    error_of(await api.client.post("/api/v2/alerts", json=body), 400, "VALIDATION_ERROR")
    assert (await api.data(ALERTS))["items"] == []


async def test_our_own_alerts_are_listed_before_those_that_are_posted(alarmed):
    old = "2020-01-01T00:00:00Z"
    many = [{"labels": {"alertname": "Forged", "number": str(n)}, "startsAt": old} for n in range(250)]
    assert (await alarmed.client.post("/api/v2/alerts", json=many)).status_code == 200
    items = (await alarmed.data(ALERTS))["items"]
    assert (items[0]["name"], len(items)) == ("DeadLettersPresent", 200)
    matchers = [{"name": "alertname", "value": "Forged"}]
    hit = (await alarmed.post(f"{SILENCES}/preview", {"matchers": matchers})).json()["data"]
    assert (len(hit["items"]), hit["total"]) == (200, 250)


async def test_an_alert_too_large_for_a_list_is_refused(api):
    large = {"labels": {"alertname": "A"}, "annotations": {f"a{n}": "x" * 9_000 for n in range(3)}}
    error = error_of(await api.client.post("/api/v2/alerts", json=[large]), 400, "VALIDATION_ERROR")
    assert "16000 characters" in error["details"]["problems"][0]["allowed"]


async def post_many(api, first: int, number: int) -> int:
    many = [{"labels": {"alertname": "Forged", "number": str(first + n)}} for n in range(number)]
    return (await api.client.post("/api/v2/alerts", json=many)).status_code


async def test_forged_alerts_of_one_caller_leave_room_for_those_of_others(guarded):
    guarded.acting_as("service")
    assert await post_many(guarded, 0, 400) == 200
    assert await post_many(guarded, 400, 200) == 503
    guarded.acting_as("operator")
    assert (await guarded.client.post("/api/v2/alerts", json=[posted(guarded)])).status_code == 200
    assert "HostDown" in {alert["name"] for alert in (await guarded.data(ALERTS, state="firing", limit=200))["items"]}


async def test_without_tokens_a_name_that_a_caller_gives_makes_no_room(api):
    assert await post_many(api, 0, 500) == 200
    api.client.headers["X-Actor"] = "somebody else"
    assert await post_many(api, 500, 1) == 503


async def test_notifications_can_be_looked_at(alarmed):
    assert await alarmed.data(f"{ALERTS}/notifications") == {"items": []}


async def test_the_gauges_show_what_fires(alarmed):
    text = (await alarmed.get("/metrics")).text
    assert "alerts_firing 1.0" in text
    assert 'alert_notifications_total{outcome="failed"} 0.0' in text
    assert "manual_reviews_oldest_age_seconds 0.0" in text
