"""Alerts judged from the database by whichever replica holds the lease; on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection

from services.alerting.actions import AlertActions
from services.alerting.evaluator import AlertEvaluator, AlertingPolicy
from services.alerting.receiver import AlertReceiver, AlertsFull, Received
from services.alerting.rules import rules
from services.alerting.state_machine import Matcher, matchers_of
from services.base.settings import Settings
from services.domain.errors import InvalidState, NotFound, ValidationFailed
from state import alerts, audit, dead_letters, notifications, replicas, samples
from state.alerts import FIRING, LEASE, MAX_RECEIVED, PENDING, PROMETHEUS, RESOLVED
from state.dead_letters import DeadLetter
from state.engine.database import Database, opened
from tests.support.alert_world import INTERVAL, evaluated_here, recorded

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SETTINGS = Settings(alert_window=60_000, alert_webhook_url="http://pager.test/hook", alert_heartbeat_interval=60_000)
DEAD_LETTERS = "DeadLettersPresent"


class Site:
    """Replicas over one database, with a clock for all of them."""

    def __init__(self, database: Database, settings: Settings = SETTINGS) -> None:
        self.database = database
        self.settings = settings
        self.now = NOON
        self.desk = AlertActions(database, self.clock, lambda: f"id-{self.now.timestamp()}")
        self.receiver = AlertReceiver(database, self.clock)

    def clock(self) -> datetime:
        return self.now

    def later(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def replica(self, name: str, database: Database | None = None) -> AlertEvaluator:
        definitions = rules(self.settings)
        return AlertEvaluator(
            database or self.database, self.clock, name, definitions, AlertingPolicy.of(self.settings)
        )

    async def read(self, function: Any) -> Any:
        return await self.database.read(function)

    async def dead_letter(self, number: int = 1) -> None:
        dead_letter = DeadLetter(f"DL-{number}", "S", number, "x", None, b"{", {}, "not JSON", 1, "OPEN", self.now)
        await self.database.write(lambda c: dead_letters.add(c, dead_letter))

    async def no_dead_letters(self) -> None:
        await self.database.write(lambda c: c.exec_driver_sql("DELETE FROM dead_letters"))

    async def standing(self) -> dict[str, str]:
        return {alert.name: alert.state for alert in await self.read(alerts.standing)}

    async def the(self, name: str = DEAD_LETTERS) -> alerts.Alert:
        (alert,) = [alert for alert in await self.read(alerts.standing) if alert.name == name]
        return alert

    async def queued(self) -> list[tuple[str, str]]:
        """What is to be sent, in order, signs of life left out."""
        found = await self.read(lambda c: notifications.latest(c, 100))
        return [(n.name, n.status) for n in reversed(found) if n.name != "Watchdog"]

    async def events(self) -> list[str]:
        return [event.kind for event in reversed(await self.read(alerts.history))]


@pytest.fixture
def site(database_url: str) -> Iterator[Site]:
    with opened(database_url) as database:
        yield Site(database)


async def test_an_alert_fires_is_sent_resolves_and_that_is_sent(site: Site) -> None:
    replica = site.replica("a")
    await replica.evaluate()
    assert await site.standing() == {}
    await site.dead_letter()
    site.later(1)
    await replica.evaluate()
    assert await site.standing() == {DEAD_LETTERS: FIRING}
    site.later(1)
    await replica.evaluate()
    await site.no_dead_letters()
    site.later(1)
    await replica.evaluate()
    assert await site.standing() == {}
    assert await site.queued() == [(DEAD_LETTERS, "firing"), (DEAD_LETTERS, "resolved")]
    assert await site.events() == ["FIRING", "RESOLVED"]


async def test_one_of_two_replicas_judges(site: Site) -> None:
    await site.dead_letter()
    for name in ("a", "b", "a", "b"):
        await site.replica(name).evaluate()
        site.later(0.2)
    assert (await site.read(lambda c: replicas.get_lease(c, LEASE))).holder == "a"
    assert await site.queued() == [(DEAD_LETTERS, "firing")]


async def test_many_replicas_at_once_send_everything_once(site: Site, database_url: str) -> None:
    await site.dead_letter()
    with opened(database_url) as second:
        replicas = [site.replica(f"r{n}", second if n % 2 else None) for n in range(6)]
        for _ in range(5):
            await asyncio.gather(*(replica.evaluate() for replica in replicas))
            site.later(1)
    assert await site.queued() == [(DEAD_LETTERS, "firing")]
    assert await site.events() == ["FIRING"]


async def test_the_lease_of_a_dead_replica_is_taken_over_and_the_alert_goes_on(site: Site) -> None:
    await site.dead_letter()
    await site.replica("a").evaluate()
    b = site.replica("b")
    site.later(4)
    await b.evaluate()
    assert (await site.read(lambda c: replicas.get_lease(c, LEASE))).holder == "a"
    site.later(2)
    await b.evaluate()
    assert (await site.read(lambda c: replicas.get_lease(c, LEASE))).holder == "b"
    assert (await site.the()).fired_at == NOON
    assert await site.queued() == [(DEAD_LETTERS, "firing")]


async def test_a_replica_that_stops_in_good_order_hands_over_at_once(site: Site) -> None:
    a, b = site.replica("a"), site.replica("b")
    await a.evaluate()
    await a.release_lease()
    await b.release_lease()
    await b.evaluate()
    assert (await site.read(lambda c: replicas.get_lease(c, LEASE))).holder == "b"


async def test_a_judge_whose_clock_is_set_back_goes_on_judging_what_is_sampled_since(site: Site) -> None:
    replica = site.replica("a")

    async def sampled(failed: int) -> None:
        sample = {"releases": {"released": 0, "retried": 0, "failed": failed}}
        await site.database.write(lambda c: samples.add(c, site.now, "a", sample))
        await replica.evaluate()

    for _ in range(20):
        await sampled(0)
        site.later(1)
    site.later(-6 * 3600)
    for number in range(10):
        await sampled(number)
        site.later(1)
    assert await site.standing() == {"InventoryReleasesFailing": FIRING}


async def test_a_clock_that_is_set_back_keeps_no_sign_of_life_back(site: Site) -> None:
    replica = site.replica("a")
    await replica.evaluate()
    due = await site.read(lambda c: notifications.next_due(c, site.now))
    await site.database.write(lambda c: notifications.settle(c, due, site.now, error=None, next_attempt_at=None))
    site.later(-6 * 3600)
    await replica.evaluate()
    assert [n.state for n in await site.read(lambda c: notifications.latest(c, 100))] == ["PENDING", "SENT"]


async def test_a_replica_whose_clock_is_wrong_hands_over_at_once(site: Site) -> None:
    a, b = site.replica("a"), site.replica("b")
    site.later(3600)
    await a.evaluate()
    await a.release_lease()
    site.later(-3600)
    await b.evaluate()
    assert (await site.read(lambda c: replicas.get_lease(c, LEASE))).holder == "b"


async def test_for_is_counted_across_a_restart(site: Site) -> None:
    site.settings = Settings(alert_window=50_000, alert_queue_depth=0, alert_webhook_url="http://pager.test/hook")
    await site.database.write(_waiting_order)
    await site.replica("a").evaluate()
    assert await site.standing() == {"InventoryReservationQueueDeep": PENDING}
    site.later(6)
    await site.replica("b").evaluate()
    assert await site.standing() == {"InventoryReservationQueueDeep": PENDING}
    site.later(4)
    await site.replica("b").evaluate()
    assert await site.standing() == {"InventoryReservationQueueDeep": FIRING}
    assert (await site.the("InventoryReservationQueueDeep")).active_at == NOON


def _waiting_order(connection: Connection) -> None:
    from services.domain.orders.model import OrderStatus
    from state import orders
    from tests.support.seed_console import order

    orders.add(connection, order("ORD-1", OrderStatus.PENDING_INVENTORY, NOON), "h")


async def test_rates_are_evaluated_from_the_samples_of_all_replicas(site: Site) -> None:
    """The same as when all samples are at hand in memory, as promtool has compared."""
    instants = recorded(1, 60, INTERVAL)
    expected = evaluated_here(instants, INTERVAL)
    evaluator = site.replica("a")
    rated = {"InventoryReservationSuccessLow", "InventoryReleasesFailing", "InventoryAvailabilitySlow"}
    seen = set()
    for instant, standing in zip(instants, expected, strict=True):
        for at, name, sample in instant.samples:
            await site.database.write(lambda c, at=at, name=name, sample=sample: samples.add(c, at, name, sample))
        site.now = instant.at
        await evaluator.evaluate()
        found = await site.standing()
        assert {n: s for n, s in found.items() if n in rated} == {a.name: a.state for a in standing if a.name in rated}
        seen |= set(found) & rated
    assert seen == rated


async def test_a_sign_of_life_is_queued_at_an_interval_and_never_twice(site: Site) -> None:
    replica = site.replica("a")

    async def beats() -> list[str]:
        found = await site.read(lambda c: notifications.latest(c, 100))
        return [n.state for n in found if n.name == "Watchdog"]

    for _ in range(3):
        await replica.evaluate()
        site.later(61)
    assert await beats() == ["PENDING"]
    due = await site.read(lambda c: notifications.next_due(c, site.now))
    await site.database.write(lambda c: notifications.settle(c, due, site.now, error=None, next_attempt_at=None))
    await replica.evaluate()
    assert await beats() == ["PENDING", "SENT"]


async def test_without_a_webhook_nothing_is_queued_and_with_one_what_fires_is(site: Site) -> None:
    site.settings = Settings(alert_window=60_000)
    await site.dead_letter()
    await site.replica("a").evaluate()
    assert await site.queued() == []
    site.settings = SETTINGS
    site.later(1)
    await site.replica("a").evaluate()
    assert await site.queued() == [(DEAD_LETTERS, "firing")]


# --------------------------------------------------------------------- people


async def test_an_acknowledgement_lasts_as_long_as_the_alert_and_is_audited(site: Site) -> None:
    replica = site.replica("a")
    await site.dead_letter()
    await replica.evaluate()
    alert_id = (await site.the()).alert_id
    for _ in range(2):
        await site.desk.acknowledge(alert_id, note="looking", actor="ada", action_id="c-1")
    (entry,) = await site.read(audit.page)
    assert (entry.actor, entry.action, entry.reason, entry.target) == (
        "ada", "ACKNOWLEDGE_ALERT", "looking", f"alert:{alert_id}",
    )  # fmt: skip
    assert entry.before["acknowledgedBy"] is None
    assert entry.after["acknowledgedBy"] == "ada"
    await replica.evaluate()
    assert (await site.the()).acknowledged_by == "ada"
    await site.no_dead_letters()
    await replica.evaluate()
    with pytest.raises(InvalidState):
        await site.desk.acknowledge(alert_id, note="", actor="ada")
    with pytest.raises(NotFound):
        await site.desk.acknowledge("nowhere", note="", actor="ada")
    assert await site.events() == ["FIRING", "ACKNOWLEDGED", "RESOLVED"]


async def test_an_acknowledgement_is_not_lost_when_the_alert_is_judged_at_the_same_time(site: Site) -> None:
    replica = site.replica("a")
    await site.dead_letter(0)
    await replica.evaluate()
    alert_id = (await site.the()).alert_id
    for number in range(1, 15):
        # Another value, so that the alert is written by the evaluator as well.
        await site.dead_letter(number)
        await asyncio.gather(
            replica.evaluate(), site.desk.acknowledge(alert_id, note=str(number), actor="ada"), replica.evaluate()
        )
        assert (await site.the()).acknowledged_note == str(number)


async def test_a_silence_suppresses_until_it_ends_by_itself(site: Site) -> None:
    replica = site.replica("a")
    site.settings = Settings(alert_window=60_000)
    await site.dead_letter()
    await site.replica("a").evaluate()
    alert_id = (await site.the()).alert_id
    made = await site.desk.silence_alert(alert_id, ends_in=timedelta(minutes=5), reason="known", actor="ada")
    await replica.evaluate()
    assert await site.queued() == []
    site.later(299)
    await replica.evaluate()
    assert await site.queued() == []
    site.later(2)
    await replica.evaluate()
    assert await site.queued() == [(DEAD_LETTERS, "firing")]
    assert await site.read(lambda c: alerts.running_silences(c, site.now)) == []
    assert (await site.read(lambda c: alerts.ended_silences(c, site.now)))[0].silence_id == made.silence_id
    (entry,) = await site.read(audit.page)
    assert (entry.action, entry.reason, entry.after["alerts"]) == ("SILENCE_ALERTS", "known", [DEAD_LETTERS])


async def test_a_silence_ended_early_sends_what_still_fires_and_both_are_audited(site: Site) -> None:
    replica = site.replica("a")
    matchers = [{"name": "alertname", "value": DEAD_LETTERS}]
    made = await site.desk.silence(matchers_of(matchers), ends_in=timedelta(hours=1), reason="known", actor="ada")
    await site.dead_letter()
    await replica.evaluate()
    assert await site.queued() == []
    assert [a.name for a in await site.desk.preview(matchers_of(matchers))] == [DEAD_LETTERS]
    for _ in range(2):
        await site.desk.end_silence(made.silence_id, actor="ben", action_id="c-9")
    await replica.evaluate()
    assert await site.queued() == [(DEAD_LETTERS, "firing")]
    assert [entry.action for entry in await site.read(audit.page)] == ["END_SILENCE", "SILENCE_ALERTS"]
    with pytest.raises(NotFound):
        await site.desk.end_silence("nowhere", actor="ben")


async def test_a_silence_asked_for_twice_is_one(site: Site) -> None:
    await site.dead_letter()
    await site.replica("a").evaluate()
    alert_id = (await site.the()).alert_id
    for _ in range(2):
        await site.desk.silence_alert(
            alert_id, ends_in=timedelta(hours=1), reason="known", actor="ada", action_id="c-1"
        )
    assert len(await site.read(lambda c: alerts.running_silences(c, site.now))) == 1
    assert len(await site.read(audit.page)) == 1


async def test_a_silence_of_everything_is_refused(site: Site) -> None:
    for matchers in ([], [Matcher("alertname", "A", is_equal=False)], [Matcher("team", "")]):
        with pytest.raises(ValidationFailed):
            await site.desk.silence(matchers, ends_in=timedelta(hours=1), reason="x", actor="ada")
    with pytest.raises(ValidationFailed):
        await site.desk.silence([Matcher("a", "b")], ends_in=timedelta(days=8), reason="x", actor="ada")
    assert await site.read(audit.page) == []


# ------------------------------------------------------------------- received


def posted(number: int = 0, ends_in: float | None = 240, **changes: Any) -> Received:
    values: dict[str, Any] = {
        "labels": {"alertname": "HostDown", "instance": f"h{number}"},
        "annotations": {"summary": "down"},
        "generator_url": "http://prometheus.test/graph",
        "starts_at": NOON - timedelta(minutes=1),
        "ends_at": None if ends_in is None else NOON + timedelta(seconds=ends_in),
    }
    return Received(**(values | changes))


async def test_what_prometheus_posts_is_shown_sent_and_resolved_by_its_posts(site: Site) -> None:
    replica = site.replica("a")
    for _ in range(2):
        assert await site.receiver.receive([posted()]) == 1
        await replica.evaluate()
    alert = await site.the("HostDown")
    assert (alert.source, alert.state, alert.fired_at) == (PROMETHEUS, FIRING, NOON - timedelta(minutes=1))
    site.later(30)
    await site.receiver.receive([posted(ends_in=20)])
    await replica.evaluate()
    assert await site.standing() == {}
    assert await site.queued() == [("HostDown", "firing"), ("HostDown", "resolved")]
    assert await site.events() == ["FIRING", "RESOLVED"]


async def test_a_name_that_is_too_long_for_a_column_is_cut_and_loses_no_other_alert(site: Site) -> None:
    labels = {"alertname": "N" * 1000, "instance": "v" * 1000}
    assert await site.receiver.receive([posted(), posted(labels=labels)]) == 2
    await site.replica("a").evaluate()
    long = await site.the("N" * 128)
    assert (long.state, long.labels) == (FIRING, labels)
    assert await site.queued() == [("HostDown", "firing"), ("N" * 128, "firing")]
    await site.receiver.receive([posted(labels=labels, ends_in=-1)])
    assert await site.standing() == {"HostDown": FIRING}


async def test_what_is_not_posted_again_resolves_at_its_end(site: Site) -> None:
    replica = site.replica("a")
    await site.receiver.receive([posted(1, ends_in=60), posted(2, ends_in=None)])
    site.later(59)
    await replica.evaluate()
    assert len(await site.read(alerts.standing)) == 2
    site.later(2)
    await replica.evaluate()
    assert [a.labels["instance"] for a in await site.read(alerts.standing)] == ["h2"]
    site.later(250)
    await replica.evaluate()
    assert await site.standing() == {}


async def test_a_resolved_alert_nobody_knew_is_no_alert(site: Site) -> None:
    await site.receiver.receive([posted(ends_in=-1)])
    assert await site.events() == []


async def test_received_alerts_are_bounded_and_those_known_are_still_refreshed(site: Site) -> None:
    many = [posted(number) for number in range(MAX_RECEIVED)]
    assert await site.receiver.receive(many) == MAX_RECEIVED
    with pytest.raises(AlertsFull) as refused:
        await site.receiver.receive([posted(0), posted(MAX_RECEIVED)])
    assert refused.value.details == {"limit": MAX_RECEIVED, "refused": 1}
    assert len(await site.read(alerts.standing)) == MAX_RECEIVED
    site.later(10)
    await site.receiver.receive([posted(1, ends_in=5)])
    await site.receiver.receive([posted(MAX_RECEIVED)])
    states = {a.labels["instance"]: a.state for a in await site.read(lambda c: alerts.of_source(c, PROMETHEUS))}
    assert (states["h1"], states[f"h{MAX_RECEIVED}"]) == (RESOLVED, FIRING)
