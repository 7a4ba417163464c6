"""What was done about failed releases is remembered by cause: by whom, and whether it held."""

from __future__ import annotations

import pytest

from services.releases.mark_released import MarkReleased
from state import releases
from tests.support.bulk_jobs import begin, failed_release, job_items, run
from tests.support.fakes import CAPTURE, Fault, PaymentFault

RELEASE = "release"
CAUSE = "INVENTORY_UNAVAILABLE:503"


async def past_resolutions(shop, cause=CAUSE):
    """The moves on a cause, oldest first."""
    found = await shop.real_database.read(lambda c: releases.last_actions(c, cause))
    return [(one.action, one.actor, one.outcome) for one in reversed(found)]


GAVE_UP = ("AUTOMATIC", "system", "FAILED")


async def test_a_retry_by_a_person_that_succeeds_has_lasted(shop):
    await failed_release(shop, "mine")
    assert await past_resolutions(shop) == [GAVE_UP]
    await shop.releases.retry(["mine"], actor="ada")
    assert (await past_resolutions(shop))[1:] == [("RETRY", "ada", "UNDECIDED")]
    await shop.releases.run_due()
    assert (await past_resolutions(shop))[1:] == [("RETRY", "ada", "HELD")]


async def test_a_retry_that_fails_in_all_its_attempts_has_not_lasted(shop):
    await failed_release(shop, "mine")
    shop.inventory.fail(RELEASE, *[Fault.UNAVAILABLE] * 8)
    await shop.releases.retry(["mine"], actor="ada")
    await shop.quiesce()
    assert (await past_resolutions(shop))[1:] == [("RETRY", "ada", "FAILED")]


async def test_a_second_retry_shows_that_the_first_did_not_help(shop):
    await failed_release(shop, "mine")
    shop.inventory.fail(RELEASE, Fault.UNAVAILABLE)
    await shop.releases.retry(["mine"], actor="ada")
    await shop.releases.run_due()
    await shop.releases.retry(["mine"], actor="bob")
    await shop.releases.run_due()
    assert (await past_resolutions(shop))[1:] == [("RETRY", "ada", "FAILED"), ("RETRY", "bob", "HELD")]


async def test_retries_of_the_job_itself_are_remembered_as_automatic(shop):
    shop.payments.fail(CAPTURE, PaymentFault.DECLINE)
    await shop.place(order_id="mine")
    shop.inventory.fail(RELEASE, Fault.UNAVAILABLE)
    await shop.quiesce()
    assert await past_resolutions(shop) == [("AUTOMATIC", "system", "HELD")]


async def test_a_release_that_succeeds_at_once_records_nothing(shop):
    shop.payments.fail(CAPTURE, PaymentFault.DECLINE)
    await shop.place(order_id="mine")
    await shop.quiesce()
    assert (await shop.everything())["release_moves"] == []


async def test_a_release_that_only_waited_for_the_breaker_records_nothing(shop):
    shop.payments.fail(CAPTURE, PaymentFault.DECLINE)
    await shop.place(order_id="mine")
    shop.inventory.fail(RELEASE, Fault.CIRCUIT_OPEN)
    await shop.quiesce()
    assert (await shop.everything())["release_moves"] == []


@pytest.mark.parametrize(("in_bulk", "move"), [(False, "MARKED"), (True, "BULK_MARKED")])
async def test_marking_released_is_remembered_with_its_proof(shop, in_bulk, move):
    await failed_release(shop, "mine")
    await shop.inventory.release("mine")
    job = await shop.release("mine")
    await shop.proofs.mark_released(MarkReleased("mine", job.version, "ticket 77", "ada", "a-1", in_bulk=in_bulk))
    assert (await past_resolutions(shop))[1:] == [(move, "ada", "HELD")]
    newest = (await shop.real_database.read(lambda c: releases.last_actions(c, CAUSE)))[0]
    assert newest.why == "ticket 77"


async def test_marking_its_case_is_remembered_as_well(shop):
    await failed_release(shop, "mine")
    await shop.inventory.release("mine")
    await shop.resolve(await shop.open_case("mine"), "MARK_RELEASED")
    assert (await past_resolutions(shop))[1:] == [("MARKED", "ada", "HELD")]


async def test_a_reservation_that_has_to_be_released_again_was_not_released_for_good(shop):
    await failed_release(shop, "mine")
    await shop.releases.retry(["mine"], actor="ada")
    await shop.releases.run_due()
    await shop.real_database.write(
        lambda c: releases.start(c, "mine", "hold taken after the order ended", shop.clock())
    )
    assert (await past_resolutions(shop))[1:] == [("RETRY", "ada", "FAILED")]


async def test_each_item_of_a_bulk_retry_is_remembered_with_its_end(shop):
    ids = [(await failed_release(shop, f"order-{number}")).order_id for number in range(3)]
    await begin(shop, ids)
    await shop.bulk_jobs.run_due()
    shop.inventory.fail(RELEASE, Fault.UNAVAILABLE)
    await run(shop)
    moves = (await past_resolutions(shop))[3:]
    assert sorted(moves) == [("BULK_RETRY", "ada", "FAILED"), *[("BULK_RETRY", "ada", "HELD")] * 2]


@pytest.mark.parametrize("fault", [Fault.CIRCUIT_OPEN, Fault.THROTTLED])
async def test_what_was_turned_back_untried_was_never_done(shop, fault):
    await failed_release(shop, "mine")
    before = await shop.release("mine")
    await begin(shop, ["mine"])
    shop.inventory.fail(RELEASE, fault)
    await shop.bulk_jobs.run_due()
    assert await past_resolutions(shop) == [GAVE_UP]
    after = await shop.release("mine")
    assert (after.state, after.attempts, after.last_error) == (before.state, before.attempts, before.last_error)
    assert (await job_items(shop))["mine"].state == "ASKED"
    await run(shop)
    assert (await past_resolutions(shop))[1:] == [("BULK_RETRY", "ada", "HELD")]


async def test_a_job_that_a_person_started_again_while_it_was_turned_back_keeps_its_new_action(shop):
    await failed_release(shop, "mine")
    await begin(shop, ["mine"])

    async def start_again():
        await shop.releases.retry(["mine"], actor="bob")

    shop.inventory.hooks.before(RELEASE, start_again)
    shop.inventory.fail(RELEASE, Fault.THROTTLED)
    await shop.bulk_jobs.run_due()
    assert (await past_resolutions(shop))[1:] == [("BULK_RETRY", "ada", "FAILED"), ("RETRY", "bob", "UNDECIDED")]
    await shop.releases.run_due()
    assert (await past_resolutions(shop))[2:] == [("RETRY", "bob", "HELD")]


@pytest.mark.parametrize("commit", range(1, 6))
async def test_a_worker_that_dies_in_a_bulk_retry_leaves_one_action_with_its_end(shop, commit):
    await failed_release(shop, "mine")
    await begin(shop, ["mine"])

    async def rounds():
        await run(shop)

    await shop.crash(commit, rounds)
    shop.clock.advance(61)
    await run(shop, shop.bulk_runner("runner-2"))
    assert (await past_resolutions(shop))[1:] == [("BULK_RETRY", "ada", "HELD")]


async def test_a_cause_remembers_only_its_last_moves_newest_first(shop):
    order = await shop.place()

    def many(connection):
        for number in range(releases.MAX_PAST_ACTIONS + 5):
            releases.add_action(connection, order.order_id, "X: y", "RETRY", f"p{number}", shop.clock(), outcome="HELD")

    await shop.real_database.write(many)
    found = await shop.real_database.read(lambda c: releases.last_actions(c, "X: y"))
    assert [one.actor for one in found] == [f"p{number}" for number in range(releases.MAX_PAST_ACTIONS + 4, 4, -1)]
