"""What nobody needs any more goes, in small steps; what people and money depend on stays."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import insert
from sqlalchemy.exc import OperationalError

from services.alerting.state_machine import event_of
from services.domain.conservation import Difference, DifferenceKind
from services.runtime.clock_skew import scheduled
from services.runtime.retention import KEPT, MAX_ROWS_PER_TRANSACTION, Retention
from state import alerts, conservation, notifications, tables
from state.alerts import Silence
from tests.support import bulk_jobs, seed_alerts
from tests.support.fakes import START
from tests.support.retention import rule_of

YEAR = timedelta(days=365)


@pytest.fixture
async def year_old(shop):
    """A shop in which everything that can happen happened a year ago."""
    confirmed = await shop.place_confirmed(idempotency_key="old")
    await shop.cancel(confirmed.order_id)
    waiting = await shop.place()
    await shop.command("cancel_order", waiting.order_id, reason="X")
    await shop.commands.run_waiting()
    await shop.command("cancel_order", "unfinished", "unfinished", reason="X")
    failed = await bulk_jobs.failed_release(shop, "failed")
    await bulk_jobs.begin(shop, [failed.order_id], job_id="ended")
    await bulk_jobs.run(shop)
    await shop.bulk_jobs.run_due()
    rows = {
        tables.metric_samples: {"at": START, "replica": "r", "sample": {}},
        tables.metric_rollups: {"step_seconds": 60, "at": START, "replica": "r", "counts": {}},
        tables.order_impacts: {
            "at": START,
            "order_id": confirmed.order_id,
            "kind": "denied",
            "operation": "reserve",
            "reason": "short_circuited",
        },
        tables.breaker_transitions: {
            "replica": "r",
            "breaker": "b",
            "from_state": "closed",
            "to_state": "open",
            "at": START,
        },
    }
    for table, row in rows.items():
        await shop.real_database.write(lambda c, table=table, row=row: c.execute(insert(table), row))
    shop.clock.now = START + YEAR
    return shop


async def counts(shop):
    return {name: len(rows) for name, rows in (await shop.everything()).items()}


async def test_old_messages_samples_and_keys_go_and_the_rest_stays(year_old):
    shop = year_old
    before = await counts(shop)
    assert await Retention(shop.real_database, shop.clock).prune() is False
    after = await counts(shop)
    assert {name for name in before if before[name] != after[name]} == {
        "outbox",
        "inbox",
        "commands",
        "metric_samples",
        "metric_rollups",
        "order_impacts",
        "breaker_transitions",
        "idempotency_keys",
        "operations",
        "operation_items",
        "release_moves",
    }
    assert (after["inbox"], after["metric_samples"], after["breaker_transitions"]) == (0, 0, 0)
    assert after["idempotency_keys"] == 0


async def test_ended_alerts_and_what_was_recorded_about_them_go_and_those_that_are_active_stay(shop):
    firing = seed_alerts.breaker_open(START)
    over = replace(seed_alerts.success_low(START), state="resolved", resolved_at=START, is_notified=False)
    untold = replace(over, alert_id="untold", is_notified=True)
    silence = Silence("old", [], "x", "ada", START, START)

    def fill(connection):
        for alert in (firing, over, untold):
            alerts.put(connection, alert)
        alerts.add_events(connection, [event_of(over, "RESOLVED", START)])
        alerts.add_silence(connection, silence)
        alerts.add_silence(connection, replace(silence, silence_id="running", ends_at=START + 2 * YEAR))
        for name in ("sent", "waiting"):
            notifications.add(connection, alert_id=name, name=name, status="firing", payload={}, at=START)
        sent = notifications.last_of(connection, "sent")
        notifications.settle(connection, sent, START, error=None, next_attempt_at=None)

    await shop.real_database.write(fill)
    shop.clock.now = START + YEAR
    await Retention(shop.real_database, shop.clock).prune()
    left = await shop.everything()
    assert {row.alert_id for row in left["alerts"]} == {firing.alert_id, "untold"}
    assert left["alert_history"] == []
    assert [row.silence_id for row in left["silences"]] == ["running"]
    assert [row.name for row in left["alert_notifications"]] == ["waiting"]


async def test_an_event_that_was_never_published_and_a_command_never_run_are_kept_however_old(year_old):
    shop = year_old
    await Retention(shop.real_database, shop.clock).prune()
    everything = await shop.everything()
    assert all(row.published_at is None for row in everything["outbox"])
    assert len(everything["outbox"]) > 0
    assert [row.command_id for row in everything["commands"]] == ["unfinished"]


async def test_a_running_bulk_job_is_kept_however_old(year_old):
    shop = year_old
    job = await bulk_jobs.failed_release(shop, "another")
    await bulk_jobs.begin(shop, [job.order_id], job_id="running")
    shop.clock.now += YEAR
    await Retention(shop.real_database, shop.clock).prune()
    everything = await shop.everything()
    assert [row.operation_id for row in everything["operations"]] == ["running"]
    assert [row.operation_id for row in everything["operation_items"]] == ["running"]


async def test_what_is_young_is_kept(shop):
    await shop.place_confirmed(idempotency_key="new")
    before = await shop.everything()
    shop.clock.advance(3600)
    await Retention(shop.real_database, shop.clock).prune()
    assert await shop.everything() == before


async def test_a_full_step_shows_that_more_may_wait(shop):
    rows = [{"event_id": f"e-{n}", "type": "t", "received_at": START} for n in range(MAX_ROWS_PER_TRANSACTION + 1)]
    await shop.real_database.write(lambda c: c.execute(insert(tables.inbox), rows))
    shop.clock.now = START + YEAR
    keeper = Retention(shop.real_database, shop.clock)
    assert [await keeper.prune() for _ in range(2)] == [True, False]
    assert (await counts(shop))["inbox"] == 0


async def test_differences_that_were_settled_long_ago_go_and_others_stay(shop):
    order = await shop.place()
    kinds = [Difference(kind, "x") for kind in ("HOLD_LEAKED", "MONEY_KEPT", "NOT_PAID", "NOT_DEDUCTED")]

    def fill(connection):
        conservation.note(connection, order.order_id, kinds, START, judged=())
        for kind in ("MONEY_KEPT", "NOT_PAID"):
            conservation.begin_compensation(connection, order.order_id, kind, by="ada")
        conservation.accept(connection, order.order_id, START)
        conservation.note(connection, order.order_id, kinds[:3], START, judged=DifferenceKind)

    await shop.real_database.write(fill)
    shop.clock.now = START + timedelta(days=89)
    await Retention(shop.real_database, shop.clock).prune()
    assert (await counts(shop))["conservation_differences"] == 4
    shop.clock.now = START + YEAR
    await Retention(shop.real_database, shop.clock).prune()
    left = {row.kind: row.state for row in (await shop.everything())["conservation_differences"]}
    assert left == {"HOLD_LEAKED": "OPEN", "MONEY_KEPT": "COMPENSATING", "NOT_PAID": "ACCEPTED"}


async def test_a_table_that_cannot_be_pruned_keeps_no_other_one_from_it(year_old, caplog):
    def broken(connection, before):
        raise OperationalError("DELETE", {}, Exception("locked"))

    first, *others = KEPT
    kept = (replace(first, limit_age=broken), *others)
    before = await counts(year_old)
    assert await Retention(year_old.real_database, year_old.clock, kept=kept).prune() is False
    after = await counts(year_old)
    assert after["outbox"] == before["outbox"]
    assert after["inbox"] < before["inbox"]
    (line,) = [record for record in caplog.records if record.name == "holdfast.retention"]
    assert (line.message, line.table) == ("retention_step_failed", "outbox")


def test_events_handled_are_remembered_longer_than_any_event_can_be_published_again():
    assert rule_of(tables.inbox).kept_for > rule_of(tables.outbox).kept_for


def test_every_rule_names_columns_of_its_own_table():
    for kept in KEPT:
        assert kept.time.table is kept.table
    for rows in scheduled(timedelta(hours=1), timedelta(minutes=1)):
        assert rows.due.table is rows.table
