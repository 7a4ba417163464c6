"""Bulk jobs: stages that stop themselves, a result per item, no second effect. Source: console 2, 3 and 4."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from services.domain.bulk import ENDED
from services.domain.errors import InvalidState, NotFound, ValidationFailed
from state import releases
from tests.support.bulk_jobs import begin, failed_release, job_items, look, run, states
from tests.support.fakes import CAPTURE, Fault, PaymentFault
from tests.support.orders_harness import Crash, OrdersHarness

RELEASE, CHECK, RESERVE = "release", "check_availability", "reserve"


@pytest.fixture
async def failed(shop):
    """Twelve failed release jobs; the names tell their order."""
    return [(await failed_release(shop, f"order-{number:02}")).order_id for number in range(12)]


def released_orders(shop):
    return [order_id for bulk_job, order_id in shop.inventory.calls if bulk_job == RELEASE]


async def test_a_confirmed_ramp_ends_with_every_item_confirmed(shop, failed):
    await begin(shop, failed)
    before = len(released_orders(shop))
    await run(shop)
    bulk_job = await look(shop)
    assert (bulk_job.state, bulk_job.tally, bulk_job.in_flight) == ("DONE", {"CONFIRMED": 12}, 0)
    assert bulk_job.ended_at is not None
    assert released_orders(shop)[before:] == failed
    assert {(await shop.release(one)).state for one in failed} == {"DONE"}
    assert {reason for one in failed for reason in await shop.open_reasons(one)} == set()


async def test_the_stages_are_one_two_five_and_then_what_is_left(shop, failed):
    await begin(shop, failed)
    sent = []
    for _ in range(4):
        before = len(released_orders(shop))
        await shop.bulk_jobs.run_due()
        sent.append(len(released_orders(shop)) - before)
    assert sent == [1, 2, 5, 4]


async def test_it_stops_itself_when_the_canary_fails_and_nothing_else_is_sent(shop, failed):
    await begin(shop, failed)
    before = len(released_orders(shop))
    shop.inventory.fail(RELEASE, Fault.UNAVAILABLE)
    await run(shop)
    bulk_job = await look(shop)
    assert bulk_job.state == "STOPPED"
    assert bulk_job.note == "Stopped by itself: 1 of 1 in the stage of 1 not confirmed."
    assert released_orders(shop)[before:] == [failed[0]]
    assert await states(shop) == {"FAILED": 1, "ASKED": 11}
    first = (await job_items(shop))[failed[0]]
    assert first.detail == "INVENTORY_UNAVAILABLE: The Inventory Service answered 503."
    job = await shop.release(failed[0])
    assert (job.state, job.attempts) == ("FAILED", 9)


@pytest.mark.parametrize("fault", [Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER, Fault.UNAVAILABLE_AFTER])
async def test_what_was_sent_and_not_answered_is_never_answered_and_not_a_failure(shop, failed, fault):
    await begin(shop, failed)
    shop.inventory.fail(RELEASE, fault)
    await run(shop)
    assert (await look(shop)).state == "STOPPED"
    assert (await job_items(shop))[failed[0]].state == "UNANSWERED"


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        (Fault.TIMEOUT_AFTER, "UNANSWERED"),
        (Fault.UNAVAILABLE_AFTER, "UNANSWERED"),
        (Fault.UNAVAILABLE, "FAILED"),
        (Fault.REFUSED, "FAILED"),
    ],
)
async def test_a_reconfirmation_that_was_sent_and_not_answered_is_no_failure_either(shop, fault, state):
    order = await shop.place(order_id="mine")
    await shop.deliver("inventory.confirmation_failed", order, reason="RESERVATION_EXPIRED")
    case = await shop.open_case("mine")
    seen = {case.review_id: (case.version, case.state)}
    await begin(
        shop, list(seen), bulk_action="resolve_review", action="RECONFIRM", versions=seen, owner=lambda _: "mine"
    )
    shop.inventory.fail(RESERVE, fault)
    await shop.bulk_jobs.run_due()
    assert await states(shop) == {state: 1}


async def test_a_stopped_bulk_job_that_is_resumed_sends_one_item_first(shop, failed):
    await begin(shop, failed)
    shop.inventory.fail(RELEASE, Fault.UNAVAILABLE)
    await run(shop)
    await shop.bulk_control.apply_control("op-1", "resume", actor="bob", action_id="a-1")
    before = len(released_orders(shop))
    await shop.bulk_jobs.run_due()
    assert len(released_orders(shop)) - before == 1
    await run(shop)
    assert (await look(shop)).state == "DONE"
    assert await states(shop) == {"FAILED": 1, "CONFIRMED": 11}
    entry = next(entry for entry in await shop.audit() if entry.action == "OPERATION_RESUME")
    assert (entry.actor, entry.before["state"], entry.after) == ("bob", "STOPPED", {"state": "RUNNING"})


async def test_items_that_changed_since_they_were_seen_are_skipped_and_never_sent(shop, failed):
    seen = await shop.real_database.read(lambda c: releases.versions(c, failed))
    await shop.releases.retry([failed[1]], actor="bob")
    await shop.releases.run_due()
    await shop.releases.retry([failed[2]], actor="bob")
    await begin(shop, failed, versions=seen)
    before = len(released_orders(shop))
    await run(shop)
    assert {failed[1], failed[2]}.isdisjoint(released_orders(shop)[before:])
    items = await job_items(shop)
    assert [(items[one].state, items[one].detail) for one in failed[1:3]] == [
        ("SKIPPED", "The job has changed since: it is DONE at version 7."),
        ("SKIPPED", "The job has changed since: it is PENDING at version 5."),
    ]
    assert (await states(shop)) == {"SKIPPED": 2, "CONFIRMED": 10}


async def test_every_item_is_audited_once_with_reason_and_key(shop, failed):
    await begin(shop, failed)
    await run(shop)
    entries = [entry for entry in await shop.audit() if entry.action == "RETRY_RELEASE"]
    assert sorted(entry.action_id for entry in entries) == [f"op-1/{one}" for one in failed]
    assert {(entry.actor, entry.reason, entry.before["state"]) for entry in entries} == {
        ("ada", "tidying up", "FAILED")
    }


async def test_new_failures_of_the_same_cause_are_counted(shop, failed):
    await begin(shop, failed[:3])
    shop.clock.advance(5)
    await failed_release(shop, "order-new")
    await shop.bulk_jobs.run_due()
    assert (await look(shop)).new_failures == 1


async def test_a_paused_bulk_job_sends_nothing_until_it_is_resumed(shop, failed):
    await begin(shop, failed)
    await shop.bulk_jobs.run_due()
    await shop.bulk_control.apply_control("op-1", "pause", actor="ada", action_id="a-1")
    before = len(released_orders(shop))
    await run(shop)
    assert len(released_orders(shop)) == before
    await shop.bulk_control.apply_control("op-1", "resume", actor="ada", action_id="a-2")
    await run(shop)
    assert (await look(shop)).state == "DONE"


async def test_a_cancelled_bulk_job_ends_and_counts_what_was_never_sent(shop, failed):
    await begin(shop, failed)
    await shop.bulk_jobs.run_due()
    await shop.bulk_control.apply_control("op-1", "cancel", actor="ada", action_id="a-1")
    await run(shop)
    bulk_job = await look(shop)
    assert (bulk_job.state, bulk_job.tally) == ("CANCELLED", {"CONFIRMED": 1, "NOT_SENT": 11})
    assert bulk_job.ended_at is not None
    with pytest.raises(InvalidState):
        await shop.bulk_control.apply_control("op-1", "resume", actor="ada", action_id="a-2")


async def test_a_control_is_applied_once_per_click_and_refused_where_the_state_does_not_allow_it(shop, failed):
    await begin(shop, failed)
    for _ in range(2):
        await shop.bulk_control.apply_control("op-1", "pause", actor="ada", action_id="a-1")
    assert [entry.action for entry in await shop.audit()].count("OPERATION_PAUSE") == 1
    with pytest.raises(ValidationFailed):
        await shop.bulk_control.apply_control("op-1", "fly", actor="ada", action_id="a-2")
    with pytest.raises(NotFound):
        await shop.bulk_control.apply_control("nothing", "pause", actor="ada", action_id="a-3")
    with pytest.raises(InvalidState):
        await shop.bulk_control.apply_control("op-1", "pause", actor="ada", action_id="a-4")


# ------------------------------------------------------------------ breaker


@pytest.fixture
async def guarded(sqlite_url):
    """A shop whose calls go through circuit breakers, with six failed releases."""
    harness = OrdersHarness(sqlite_url, resilient=True)
    harness.failed = []
    for number in range(6):
        harness.breakers.releaser.close()
        harness.payments.fail(CAPTURE, PaymentFault.DECLINE)
        order = await harness.place(order_id=f"order-{number}")

        def as_failed(connection, order_id=order.order_id):
            job = releases.get(connection, order_id)
            values = {"state": "FAILED", "attempts": 8, "next_attempt_at": None, "last_error": "X: answered 503"}
            releases.settle(connection, job, harness.clock(), **values)

        await harness.real_database.write(as_failed)
        harness.failed.append(order.order_id)
    yield harness
    harness.close()


async def test_while_the_breaker_is_open_it_waits_and_shows_until_when(guarded):
    shop = guarded
    await begin(shop, shop.failed)
    shop.breakers.releaser.open()
    before = await shop.real_database.read(lambda c: releases.versions(c, shop.failed))
    await run(shop)
    bulk_job = await look(shop)
    assert (bulk_job.state, bulk_job.note) == ("RUNNING", "Waits for the circuit breaker to close.")
    assert 0 < (bulk_job.waits_until - shop.clock()).total_seconds() <= 30
    assert released_orders(shop) == []
    assert await shop.real_database.read(lambda c: releases.versions(c, shop.failed)) == before


async def test_half_open_lets_one_through_and_a_success_lets_the_rest_follow(guarded):
    shop = guarded
    await begin(shop, shop.failed)
    shop.breakers.releaser.half_open()
    await shop.bulk_jobs.run_due()
    assert len(released_orders(shop)) == 1
    assert shop.breakers.releaser.effective_state == "closed"
    await run(shop)
    assert (await look(shop)).tally == {"CONFIRMED": 6}


async def test_a_half_open_breaker_limits_later_stages_to_one_item_too(guarded):
    shop = guarded
    await begin(shop, shop.failed, stage=2)
    shop.breakers.releaser.half_open()
    await shop.bulk_jobs.run_due()
    assert len(released_orders(shop)) == 1


async def test_what_the_breaker_turns_back_is_asked_again_and_the_job_is_as_it_was(shop, failed):
    await begin(shop, failed)
    before = await shop.release(failed[0])
    shop.inventory.fail(RELEASE, Fault.CIRCUIT_OPEN)
    await shop.bulk_jobs.run_due()
    assert await states(shop) == {"ASKED": 12}
    after = await shop.release(failed[0])
    assert (after.state, after.attempts, after.last_error) == (before.state, before.attempts, before.last_error)
    assert after.next_attempt_at is None
    await run(shop)
    assert (await look(shop)).tally == {"CONFIRMED": 12}
    assert [entry.action for entry in await shop.audit()].count("RETRY_RELEASE") == 12


async def test_what_the_breaker_turned_back_after_a_cancel_is_never_sent(shop, failed):
    async def cancel():
        await shop.bulk_control.apply_control("op-1", "cancel", actor="ada", action_id="a-1")
        shop.inventory.fail(RELEASE, Fault.CIRCUIT_OPEN)

    await begin(shop, failed, stage=2)
    shop.inventory.hooks.before(RELEASE, cancel)
    await run(shop)
    bulk_job = await look(shop)
    assert bulk_job.state == "CANCELLED"
    assert bulk_job.ended_at is not None
    assert set(await states(shop)) <= set(ENDED)


async def test_while_the_service_requests_a_pause_the_bulk_job_waits_and_does_not_stop(guarded):
    shop = guarded
    await begin(shop, shop.failed[:1])
    shop.inventory.fail(RELEASE, Fault.THROTTLED)
    await shop.bulk_jobs.run_due()
    await run(shop)
    bulk_job = await look(shop)
    assert (bulk_job.state, bulk_job.note) == ("RUNNING", "Waits: the other service asked for a rest.")
    assert 590 < (bulk_job.waits_until - shop.clock()).total_seconds() <= 600
    assert len(released_orders(shop)) == 1
    shop.clock.advance(601)
    await run(shop)
    assert ((await look(shop)).state, (await look(shop)).tally) == ("DONE", {"CONFIRMED": 1})


# ------------------------------------------------------------- crashes, races


@pytest.mark.parametrize("died_after", [False, True])
@pytest.mark.parametrize("commit", range(1, 8))
async def test_a_worker_that_dies_anywhere_leaves_no_item_behind_and_no_effect_twice(shop, commit, died_after):
    three = [(await failed_release(shop, f"order-{number}")).order_id for number in range(3)]
    await begin(shop, three)

    async def rounds():
        await run(shop)

    assert await shop.crash(commit, rounds, after=died_after)
    shop.clock.advance(61)
    await run(shop, shop.bulk_runner("runner-2"))
    bulk_job = await look(shop)
    assert (bulk_job.state, bulk_job.tally) == ("DONE", {"CONFIRMED": 3})
    assert [entry.action for entry in await shop.audit()].count("RETRY_RELEASE") == 3
    assert all(len(shop.inventory.reserved(one)) == 0 for one in three)
    titles = [await shop.titles(one) for one in three]
    assert [some.count("Retry release") for some in titles] == [1, 1, 1]


async def test_a_crash_between_execution_and_record_is_asked_again_under_the_same_key(shop):
    failed = [(await failed_release(shop, "order-0")).order_id]
    await begin(shop, failed[:1])

    async def die() -> None:
        shop.database.die_at(1, after=False)

    shop.inventory.hooks.after(RELEASE, die)
    with pytest.raises(Crash):
        await shop.bulk_jobs.run_due()
    shop.start()
    assert await states(shop) == {"SENT": 1}
    assert shop.inventory.reserved(failed[0]) == []
    shop.clock.advance(61)
    await run(shop)
    assert (await job_items(shop))[failed[0]].state == "CONFIRMED"
    assert [entry.action for entry in await shop.audit()].count("RETRY_RELEASE") == 1
    assert [entry.action_id for entry in await shop.audit() if entry.action == "RETRY_RELEASE"] == [f"op-1/{failed[0]}"]


async def test_while_one_runner_has_the_lease_another_does_nothing(shop, failed):
    await begin(shop, failed)
    await shop.bulk_jobs.run_due()
    before = len(released_orders(shop))
    await run(shop, shop.bulk_runner("runner-2"))
    assert len(released_orders(shop)) == before


async def test_two_runners_at_once_send_every_item_once(shop, failed):
    await begin(shop, failed)
    before = len(released_orders(shop))
    runners = [shop.bulk_runner(f"runner-{number}") for number in range(3)]
    for _ in range(12):
        await asyncio.gather(*(runner.run_due() for runner in runners))
    assert (await look(shop)).tally == {"CONFIRMED": 12}
    assert Counter(released_orders(shop)[before:]) == Counter(failed)


async def test_a_mistake_of_ours_in_one_item_delays_no_other_item(shop, failed):
    async def fail() -> None:
        raise RuntimeError("a mistake in our own code")

    await begin(shop, failed)
    shop.inventory.hooks.before(RELEASE, fail)
    await run(shop)
    item = (await job_items(shop))[failed[0]]
    assert item.state == "UNANSWERED"
    assert "RuntimeError: a mistake in our own code" in item.detail
    assert (await look(shop)).state == "STOPPED"


# -------------------------------------------------------------------- reviews


async def flagged(shop, number):
    shop.inventory.fail(CHECK, Fault.UNAVAILABLE)
    order = await shop.place_high(order_id=f"order-{number}")
    return await shop.open_case(order.order_id)


async def test_cases_are_resolved_in_bulk_and_what_nobody_confirms_is_recorded(shop):
    cases = [await flagged(shop, number) for number in range(4)]
    owners = {case.review_id: case.order_id for case in cases}
    seen = {case.review_id: (case.version, case.state) for case in cases}
    await shop.resolve(cases[2], "APPROVE", actor="bob")
    await begin(
        shop, list(seen), bulk_action="resolve_review", action="APPROVE", versions=seen, owner=owners.__getitem__
    )
    await run(shop)
    assert (await look(shop)).tally == {"RECORDED": 3, "SKIPPED": 1}
    assert "bob" in (await job_items(shop))[cases[2].review_id].detail
    assert [await shop.open_reasons(case.order_id) for case in cases] == [[]] * 4


async def test_a_reconfirmation_is_accepted_first_and_confirmed_by_the_answer(shop):
    order = await shop.place(order_id="mine")
    await shop.deliver("inventory.confirmation_failed", order, reason="RESERVATION_EXPIRED")
    case = await shop.open_case("mine")
    seen = {case.review_id: (case.version, case.state)}
    await begin(
        shop, list(seen), bulk_action="resolve_review", action="RECONFIRM", versions=seen, owner=lambda _: "mine"
    )
    await shop.bulk_jobs.run_due()
    assert await states(shop) == {"ACCEPTED": 1}
    await run(shop)
    assert (await look(shop)).state == "RUNNING"
    await shop.pump()
    await shop.bulk_jobs.run_due()
    assert await states(shop) == {"ACCEPTED": 1}, "what could not move rests for a second"
    shop.clock.advance(1)
    await run(shop)
    item = (await job_items(shop))[case.review_id]
    assert (item.state, (await look(shop)).state) == ("CONFIRMED", "DONE")
    assert item.sent_at <= item.accepted_at <= item.settled_at


async def test_an_accepted_item_that_is_never_confirmed_is_never_answered(shop):
    order = await shop.place(order_id="mine")
    await shop.deliver("inventory.confirmation_failed", order, reason="RESERVATION_EXPIRED")
    case = await shop.open_case("mine")
    seen = {case.review_id: (case.version, case.state)}
    await begin(
        shop, list(seen), bulk_action="resolve_review", action="RECONFIRM", versions=seen, owner=lambda _: "mine"
    )
    await run(shop)
    shop.clock.advance(301)
    await run(shop)
    item = (await job_items(shop))[case.review_id]
    assert (item.state, item.detail) == ("UNANSWERED", "Accepted, and never confirmed.")
    assert (await look(shop)).state == "DONE"


async def test_what_rests_while_the_clock_is_set_back_is_looked_at_again_after_its_second(guarded):
    shop = guarded
    await begin(shop, shop.failed)
    shop.breakers.releaser.open()
    await run(shop)
    shop.clock.advance(-6 * 3600)
    shop.breakers.releaser.close()
    await shop.bulk_jobs.run_due()
    shop.clock.advance(1)
    await run(shop)
    assert (await look(shop)).tally == {"CONFIRMED": 6}
