"""Giving holds back: durable, retried, in the end a person's. Source: requirements 5 and 8.1; contract 4."""

from __future__ import annotations

import pytest

from services.domain.errors import NotFound, ReleaseFailed
from tests.support.fakes import CAPTURE, Fault, PaymentFault

RELEASE = "release"
FAILURES = [Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER, Fault.UNAVAILABLE, Fault.UNAVAILABLE_AFTER, Fault.REFUSED]


@pytest.fixture
async def rejected(shop):
    """An order whose payment was declined: its hold has to be given back."""
    shop.payments.fail(CAPTURE, PaymentFault.DECLINE)
    order = await shop.place()
    assert len(shop.inventory.reserved(order.order_id)) == 1
    return order


async def exhaust(shop, order):
    """Let every attempt fail; returns the delays between them."""
    shop.inventory.fail(RELEASE, *[Fault.UNAVAILABLE] * 8)
    waits = []
    while (job := await shop.release(order.order_id)).state == "PENDING":
        waits.append((job.next_attempt_at - shop.clock()).total_seconds())
        shop.clock.now = max(shop.clock.now, job.next_attempt_at)
        await shop.releases.run_due()
    return waits


async def test_a_release_is_done_at_once_when_the_service_answers(shop, rejected):
    assert await shop.releases.run_due() == 1
    job = await shop.release(rejected.order_id)
    assert (job.state, job.attempts, job.next_attempt_at, job.last_error) == ("DONE", 1, None, None)
    assert (await shop.order(rejected.order_id)).inventory_status == "RELEASED"
    assert shop.release_outcomes == ["released"]
    assert shop.inventory.reserved(rejected.order_id) == []
    assert (await shop.titles(rejected.order_id))[-2:] == ["Release reservation: success", "Reservation released"]


async def test_a_done_release_is_not_run_again(shop, rejected):
    await shop.releases.run_due()
    shop.clock.advance(3600)
    assert await shop.releases.run_due() == 0
    assert shop.inventory.count(RELEASE) == 1


async def test_a_reservation_that_is_gone_already_counts_as_released(shop, rejected):
    await shop.inventory.release(rejected.order_id)
    await shop.releases.run_due()
    assert (await shop.release(rejected.order_id)).state == "DONE"
    assert (await shop.titles(rejected.order_id))[-1] == "Nothing was left to release"
    assert (await shop.order(rejected.order_id)).inventory_status == "RELEASED"


@pytest.mark.parametrize("fault", FAILURES)
async def test_a_failed_release_is_tried_again_later(shop, rejected, fault):
    shop.inventory.fail(RELEASE, fault)
    await shop.releases.run_due()
    job = await shop.release(rejected.order_id)
    assert (job.state, job.attempts) == ("PENDING", 1)
    assert (job.next_attempt_at - shop.clock()).total_seconds() == 0.75
    assert job.last_error.split(":")[0] in ("INVENTORY_TIMEOUT", "INVENTORY_UNAVAILABLE", "RELEASE_FAILED")
    assert shop.release_outcomes == ["retried"]
    await shop.quiesce()
    assert (await shop.release(rejected.order_id)).state == "DONE"
    assert shop.inventory.reserved(rejected.order_id) == []


async def test_retries_come_with_growing_delays_and_end_in_a_case_for_a_person(shop, rejected):
    waits = await exhaust(shop, rejected)
    assert waits == pytest.approx([0, 0.75, 1.5, 3, 6, 12, 24, 48])
    job = await shop.release(rejected.order_id)
    assert (job.state, job.attempts, job.next_attempt_at) == ("FAILED", 8, None)
    assert (await shop.order(rejected.order_id)).inventory_status == "RELEASE_FAILED"
    case = await shop.open_case(rejected.order_id)
    assert case.reason == "RELEASE_FAILED"
    assert case.detail.startswith("Release failed after 8 attempts: INVENTORY_UNAVAILABLE")
    assert shop.release_outcomes == ["retried"] * 7 + ["failed"]
    assert shop.recorded[-1].opened == ("RELEASE_FAILED",)


async def test_a_service_that_asks_for_a_longer_rest_gets_it(shop, rejected):
    shop.inventory.fail(RELEASE, Fault.BUSY)
    await shop.releases.run_due()
    job = await shop.release(rejected.order_id)
    assert (job.next_attempt_at - shop.clock()).total_seconds() == 600


async def test_an_open_breaker_postpones_releases_without_counting_attempts(shop, rejected):
    shop.inventory.fail(RELEASE, *[Fault.CIRCUIT_OPEN] * 20)
    for _ in range(20):
        await shop.releases.run_due()
        job = await shop.release(rejected.order_id)
        assert (job.state, job.attempts) == ("PENDING", 0)
        assert (job.next_attempt_at - shop.clock()).total_seconds() == 13.5
        shop.clock.now = job.next_attempt_at
    assert shop.release_outcomes == []
    await shop.releases.run_due()
    assert (await shop.release(rejected.order_id)).state == "DONE"


async def test_a_failed_release_started_again_by_a_person_settles_its_case(shop, rejected):
    await exhaust(shop, rejected)
    (release,) = await shop.releases.retry([rejected.order_id], actor="ada")
    assert (release.state, release.attempts, release.next_attempt_at) == ("PENDING", 0, shop.clock())
    (entry,) = await shop.audit()
    assert (entry.actor, entry.action, entry.target) == ("ada", "RETRY_RELEASE", f"release:{rejected.order_id}")
    assert (entry.before["state"], entry.before["attempts"]) == ("FAILED", 8)
    await shop.releases.run_due()
    assert await shop.open_reasons(rejected.order_id) == []
    assert (await shop.order(rejected.order_id)).inventory_status == "RELEASED"


async def test_a_done_release_stays_done_when_it_is_retried(shop, rejected):
    await shop.releases.run_due()
    before = await shop.everything()
    (release,) = await shop.releases.retry([rejected.order_id], actor="ada")
    assert release.state == "DONE"
    assert await shop.everything() == before


async def test_retrying_several_of_which_one_is_unknown_starts_none(shop, rejected):
    before = await shop.everything()
    with pytest.raises(NotFound) as caught:
        await shop.releases.retry([rejected.order_id, "nobody"], actor="ada")
    assert caught.value.code == "RELEASE_NOT_FOUND"
    assert await shop.everything() == before


async def test_a_retry_that_waits_answers_with_the_outcome(shop, rejected):
    release = await shop.releases.retry_now(rejected.order_id, actor="ada")
    assert release.state == "DONE"


@pytest.mark.parametrize("fault", [*FAILURES, Fault.CIRCUIT_OPEN])
async def test_a_retry_that_waits_and_fails_reports_it(shop, rejected, fault):
    shop.inventory.fail(RELEASE, fault)
    with pytest.raises(ReleaseFailed) as caught:
        await shop.releases.retry_now(rejected.order_id, actor="ada")
    assert caught.value.details["orderId"] == rejected.order_id
    assert caught.value.details["lastError"]
    assert (await shop.release(rejected.order_id)).state == "PENDING"


async def test_an_attempt_that_ends_after_the_job_was_started_again_does_not_end_the_new_job(shop, rejected):
    async def start_again() -> None:
        await shop.releases.retry([rejected.order_id], actor="ada")

    shop.inventory.hooks.after(RELEASE, start_again)
    await shop.releases.run_due()
    assert (await shop.release(rejected.order_id)).state == "PENDING"
    await shop.releases.run_due()
    assert (await shop.release(rejected.order_id)).state == "DONE"
    assert (await shop.titles(rejected.order_id)).count("Release reservation: success") == 2


async def test_a_worker_that_dies_during_a_release_leaves_the_job_to_the_next(shop, rejected):
    assert await shop.crash(2, shop.releases.run_due, after=False)
    assert await shop.releases.run_due() == 0
    shop.clock.advance(31)
    assert await shop.releases.run_due() == 1
    assert (await shop.release(rejected.order_id)).state == "DONE"


async def test_one_round_takes_a_few_jobs(shop):
    shop.payments.fail(CAPTURE, *[PaymentFault.DECLINE] * 11)
    for _ in range(11):
        await shop.place()
    assert [await shop.releases.run_due() for _ in range(3)] == [8, 3, 0]


async def test_one_job_that_fails_unexpectedly_does_not_keep_the_others_waiting(shop):
    shop.payments.fail(CAPTURE, *[PaymentFault.DECLINE] * 3)
    for _ in range(3):
        await shop.place()

    async def fail() -> None:
        raise RuntimeError("a mistake in our own code")

    shop.inventory.hooks.before(RELEASE, fail)
    await shop.releases.run_due()
    states = [(await shop.release(order.order_id)).state for order in await shop.all_orders()]
    assert sorted(states) == ["DONE", "DONE", "PENDING"]
