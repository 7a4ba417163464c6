"""Bulk jobs on dead letters: the ramp, one item and one audit entry per dead letter, no effect twice."""

from __future__ import annotations

from contextlib import suppress

import pytest

from state import dead_letters
from tests.support.bulk_jobs import job_items, look, run, states
from tests.support.dead_letters import begin, keep_dead_letter, stored_dead_letters
from tests.support.orders_harness import Crash


@pytest.fixture
async def buried(shop):
    """Confirmations of ten orders that were not handled, oldest first; the ids of the dead letters."""
    return [await keep_dead_letter(shop, await shop.place(), number) for number in range(10)]


async def break_dead_letter(shop, order_number, number):
    """A dead letter whose bytes no handler understands."""
    order = await shop.place(order_id=f"broken-{order_number}")
    return await keep_dead_letter(shop, order, number, payload=b"{")


async def test_a_group_is_replayed_and_every_dead_letter_is_confirmed_by_its_handler(shop, buried):
    await begin(shop, buried)
    await run(shop)
    bulk_job = await look(shop)
    assert (bulk_job.state, bulk_job.tally) == ("DONE", {"CONFIRMED": 10})
    assert {dead_letter.state for dead_letter in await stored_dead_letters(shop)} == {"REPLAYED"}
    orders = [dead_letter.order_id for dead_letter in await stored_dead_letters(shop)]
    assert {(await shop.order(one)).status for one in orders} == {"CONFIRMED"}


async def test_every_dead_letter_has_its_own_audit_entry_with_reason_key_and_bulk_job(shop, buried):
    await begin(shop, buried)
    await run(shop)
    entries = await shop.audit()
    assert sorted(entry.action_id for entry in entries) == sorted(f"op-1/{one}" for one in buried)
    assert {(e.actor, e.action, e.reason, e.result, e.correlation_id) for e in entries} == {
        ("ada", "REPLAY_EVENT", "tidying up", "done", "op-1")
    }
    assert entries[0].after == {"state": "REPLAYED", "outcome": "handled"}


async def test_what_fails_again_stays_open_with_its_new_reason_and_stops_the_rest(shop, buried):
    broken = await break_dead_letter(shop, 1, 90)
    await begin(shop, [broken, *buried])
    await run(shop)
    bulk_job = await look(shop)
    assert (bulk_job.state, await states(shop)) == ("STOPPED", {"FAILED": 1, "ASKED": 10})
    item = (await job_items(shop))[broken]
    assert item.detail.startswith("The event cannot be handled: ")
    again = next(dead_letter for dead_letter in await stored_dead_letters(shop, "OPEN") if dead_letter.id == broken)
    assert (again.attempts, again.reason in item.detail) == (9, True)
    (entry,) = await shop.audit()
    assert (entry.result, entry.reason, entry.after["failure"]) == ("failed", "tidying up", again.reason)


async def test_a_dead_letter_that_was_settled_or_tried_since_it_was_seen_is_skipped_and_its_handler_not_run(
    shop, buried
):
    await begin(shop, buried)
    await shop.dead_letters.discard(buried[1], actor="bob", note="no")
    await shop.real_database.write(lambda c: dead_letters.note_failure(c, buried[2], "again"))
    await run(shop)
    assert await states(shop) == {"SKIPPED": 2, "CONFIRMED": 8}
    items = await job_items(shop)
    assert [items[one].detail for one in buried[1:3]] == [
        "This dead letter is DISCARDED.",
        "It was tried again since: 9 attempts, 8 when it was seen.",
    ]
    assert [dead_letter.id for dead_letter in await stored_dead_letters(shop, "OPEN")] == [buried[2]]


async def test_what_was_handled_before_is_recorded_and_not_confirmed_a_second_time(shop):
    order = await shop.place()
    dead_letter_id = await keep_dead_letter(shop, order)
    await shop.deliver("inventory.confirmed", order)
    await begin(shop, [dead_letter_id])
    await run(shop)
    item = (await job_items(shop))[dead_letter_id]
    assert (item.state, item.detail) == (
        "RECORDED", "The handler ran and changed nothing: the order has moved on."
    )  # fmt: skip
    assert [dead_letter.state for dead_letter in await stored_dead_letters(shop)] == ["REPLAYED"]


async def test_a_group_is_discarded_with_one_reason_and_one_entry_each(shop, buried):
    await begin(shop, buried, bulk_action="discard_event", reason="test data")
    await run(shop)
    assert await states(shop) == {"RECORDED": 10}
    assert {dead_letter.note for dead_letter in await stored_dead_letters(shop, "DISCARDED")} == {"test data"}
    entries = await shop.audit()
    assert len(entries) == 10
    assert {(e.action, e.reason, tuple(e.after.items())) for e in entries} == {
        ("DISCARD_EVENT", "test data", (("state", "DISCARDED"),))
    }


async def test_new_dead_letters_of_the_same_cause_are_counted_and_others_not(shop, buried):
    await begin(shop, buried)
    shop.clock.advance(5)
    await keep_dead_letter(shop, await shop.place(), 50)
    await keep_dead_letter(shop, await shop.place(), 51, reason="UnknownOrder: order 51 is not known")
    await shop.bulk_jobs.run_due()
    assert (await look(shop)).new_failures == 1


@pytest.mark.parametrize("bulk_action", ["replay_event", "discard_event"])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("commit", range(1, 9))
async def test_a_worker_that_dies_anywhere_leaves_every_dead_letter_with_one_effect_and_one_entry(
    shop, bulk_action, commit, after
):
    ids = [await keep_dead_letter(shop, await shop.place(), number) for number in range(3)]
    await begin(shop, ids, bulk_action=bulk_action)
    shop.database.die_at(commit, after=after)
    with suppress(Crash):
        await run(shop)
    shop.start()
    shop.clock.advance(120)
    await run(shop, shop.bulk_runner("runner-2"))
    assert (await look(shop)).state == "DONE"
    assert set(await states(shop)) <= {"CONFIRMED", "RECORDED"}
    settled = {"replay_event": "REPLAYED", "discard_event": "DISCARDED"}[bulk_action]
    assert [dead_letter.state for dead_letter in await stored_dead_letters(shop)] == [settled] * 3
    assert sorted(entry.action_id for entry in await shop.audit()) == sorted(f"op-1/{one}" for one in ids)
