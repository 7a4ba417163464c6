"""What a person may do about a case, and what happens when two do it at once. Source: contract 3; docs/adr/0002."""

from __future__ import annotations

import asyncio

import pytest

from services.domain.errors import (
    IdempotencyKeyReused,
    InsufficientInventory,
    InvalidState,
    InventoryTimeout,
    NotFound,
    ReviewConflict,
)
from tests.support.fakes import CAPTURE, FIND_PAYMENT, REFUND, Fault, PaymentFault
from tests.support.orders_harness import CrashingDatabase
from tests.support.review_cases import (
    ALLOWED,
    CHECK,
    RELEASE,
    RESERVE,
    SITUATIONS,
    USUAL,
    unanswered,
    unconfirmed,
    unreleased,
    unsettled,
    unverified,
    waiting,
)

CONFIRM_REQUESTED = "inventory.confirm_requested"


ACTIONS = ["APPROVE", "CANCEL_ORDER", "MARK_RELEASED", "RECONFIRM", "RETRY_RESERVATION", "RETRY_STEP"]


async def resolved(shop, order, review, *, action, by="ada", note="seen"):
    """The case is closed by this person and the log says so."""
    (case,) = [case for case in await shop.cases(order.order_id) if case.review_id == review.review_id]
    assert (case.state, case.resolved_by, case.resolution, case.note) == ("RESOLVED", by, action, note)
    entry = (await shop.audit())[-1]
    assert (entry.actor, entry.action, entry.target, entry.reason) == (by, action, f"review:{case.review_id}", note)
    actions = [entry for entry in await shop.timeline(order.order_id) if entry.kind == "action"]
    assert actions[-1].actor == by


# -------------------------------------------------------------- each action


async def test_approving_an_unverified_order_closes_its_case_and_changes_nothing_else(shop):
    order = await unverified(shop)
    review = await shop.open_case(order.order_id)
    case = await shop.resolve(review, "APPROVE")
    assert (case.state, case.version) == ("RESOLVED", 2)
    await resolved(shop, order, review, action="APPROVE")
    assert (await shop.audit())[-1].result == "done"
    assert await shop.order(order.order_id) == order


async def test_cancelling_an_unverified_order_that_is_placed_refunds_it(shop):
    order = await unverified(shop)
    review = await shop.open_case(order.order_id)
    await shop.resolve(review, "CANCEL_ORDER", note="FRAUD")
    await resolved(shop, order, review, action="CANCEL_ORDER", note="FRAUD")
    assert (await shop.sent())[-1].data["reason"] == "FRAUD"
    await shop.quiesce()
    order = await shop.order(order.order_id)
    assert (order.status, order.payment_status, shop.inventory.reserved(order.order_id)) == (
        "CANCELLED",
        "REFUNDED",
        [],
    )


async def test_a_cancel_without_a_note_has_its_resolution_reason_for_a_reason(shop):
    order = await unverified(shop)
    review = await shop.open_case(order.order_id)
    case = await shop.resolve(review, "CANCEL_ORDER", note="", reason="DUPLICATE_ORDER")
    assert (await shop.sent())[-1].data["reason"] == "DUPLICATE_ORDER"
    assert (await shop.order(order.order_id)).cancel_reason == "DUPLICATE_ORDER"
    assert case.resolution_reason == "DUPLICATE_ORDER"


@pytest.mark.parametrize("fault", [PaymentFault.NONE, PaymentFault.LATE])
async def test_cancelling_an_unverified_order_while_it_is_paid_keeps_no_money(shop, fault):
    async def cancel() -> None:
        await shop.resolve(await shop.open_case("mine"), "CANCEL_ORDER")
        await shop.sweep()

    shop.inventory.fail(CHECK, Fault.UNAVAILABLE)
    shop.payments.fail(CAPTURE, fault)
    shop.payments.hooks.before(CAPTURE, cancel)
    await shop.place_high(order_id="mine")
    shop.payments.arrive()
    await shop.quiesce()
    order = await shop.order("mine")
    assert (order.status, order.payment_status) == ("CANCELLED", "REFUNDED")
    assert shop.payments.states["mine"] == "REFUNDED"
    assert shop.inventory.reserved("mine") == []


async def test_retrying_the_reservation_of_a_waiting_order_places_it(shop):
    order = await waiting(shop)
    review = await shop.open_case(order.order_id)
    case = await shop.resolve(review, "RETRY_RESERVATION", action_id="a-1")
    assert case.state == "RESOLVED"
    assert (await shop.order(order.order_id)).status == "PLACED"
    entries = [(one.actor, one.action, one.result, one.action_id) for one in await shop.audit()]
    assert sorted(entries, key=str) == [
        ("ada", "RETRY_RESERVATION", "done", None),
        ("ada", "RETRY_RESERVATION", "started", "a-1"),
    ]
    (ended,) = [one for one in await shop.audit() if one.result == "done"]
    assert (ended.before["status"], ended.after["status"]) == ("PENDING_INVENTORY", "PLACED")


async def test_a_retry_that_fails_again_leaves_the_case_open_for_the_next_try(shop):
    order = await waiting(shop)
    review = await shop.open_case(order.order_id)
    shop.inventory.fail(RESERVE, Fault.TIMEOUT_BEFORE)
    case = await shop.resolve(review, "RETRY_RESERVATION")
    assert (case.state, case.version) == ("OPEN", 2)
    assert case.detail.startswith("INVENTORY_TIMEOUT")
    assert (await shop.order(order.order_id)).status == "PENDING_INVENTORY"
    assert "failed: INVENTORY_TIMEOUT" in [entry.result for entry in await shop.audit()]
    assert (await shop.resolve(case, "RETRY_RESERVATION")).state == "RESOLVED"


async def test_a_person_may_go_on_after_the_automatic_retries_are_used_up(shop):
    order = await waiting(shop)
    shop.inventory.fail(RESERVE, *[Fault.UNAVAILABLE] * 6)
    await shop.quiesce()
    order = await shop.order(order.order_id)
    assert (order.status, order.due_at) == ("PENDING_INVENTORY", None)
    await shop.resolve(await shop.open_case(order.order_id), "RETRY_RESERVATION")
    assert (await shop.order(order.order_id)).status == "PLACED"


async def test_cancelling_a_waiting_order_gives_back_what_may_be_reserved(shop):
    order = await waiting(shop)
    await shop.resolve(await shop.open_case(order.order_id), "CANCEL_ORDER")
    order = await shop.order(order.order_id)
    assert (order.status, order.inventory_status) == ("CANCELLED", "RELEASE_PENDING")


async def test_reconfirming_reserves_anew_and_asks_for_the_new_reservation(shop):
    order = await unconfirmed(shop)
    review = await shop.open_case(order.order_id)
    await shop.resolve(review, "RECONFIRM", action_id="a-1")
    again = await shop.order(order.order_id)
    assert (again.status, again.inventory_status, again.reservation_id) == (
        "PLACED",
        "CONFIRM_REQUESTED",
        "reservation-2",
    )
    assert (await shop.sent())[-1].data == {"orderId": order.order_id, "reservationId": "reservation-2"}
    assert (await shop.sent_types()).count("order.created") == 1
    await resolved(shop, order, review, action="RECONFIRM")
    assert [entry.result for entry in await shop.audit()] == ["started", "done"]
    await shop.pump()
    assert (await shop.order(order.order_id)).status == "CONFIRMED"


async def test_reconfirming_when_there_is_not_enough_leaves_the_case_open_and_states_the_reason(shop):
    order = await unconfirmed(shop)
    shop.inventory.fail(RESERVE, Fault.CONFLICT)
    with pytest.raises(InsufficientInventory):
        await shop.resolve(await shop.open_case(order.order_id), "RECONFIRM")
    assert await shop.order(order.order_id) == order
    case = await shop.open_case(order.order_id)
    assert case.version == 2
    assert [entry.result for entry in await shop.audit()] == ["started", "failed: INSUFFICIENT_INVENTORY"]
    assert (await shop.titles(order.order_id))[-1] == "Review: RECONFIRM failed: INSUFFICIENT_INVENTORY"


async def test_a_reservation_whose_reconfirmation_had_no_answer_is_given_back_when_the_order_is_cancelled(shop):
    order = await unconfirmed(shop)
    shop.inventory.fail(RESERVE, Fault.TIMEOUT_AFTER)
    with pytest.raises(InventoryTimeout):
        await shop.resolve(await shop.open_case(order.order_id), "RECONFIRM")
    assert len(shop.inventory.reserved(order.order_id)) == 1
    await shop.resolve(await shop.open_case(order.order_id), "CANCEL_ORDER")
    await shop.quiesce()
    assert shop.inventory.reserved(order.order_id) == []


async def test_a_reservation_taken_for_an_order_cancelled_meanwhile_is_given_back(shop):
    order = await unconfirmed(shop)

    async def cancel_and_release() -> None:
        await shop.cancel(order.order_id)
        await shop.releases.run_due()
        await shop.pump()
        assert (await shop.release(order.order_id)).state == "DONE"
        shop.inventory.tombstones.clear()

    shop.inventory.hooks.before(RESERVE, cancel_and_release)
    with pytest.raises(ReviewConflict):
        await shop.resolve(await shop.open_case(order.order_id), "RECONFIRM")
    assert len(shop.inventory.reserved(order.order_id)) == 1
    await shop.quiesce()
    assert shop.inventory.reserved(order.order_id) == []
    assert (await shop.order(order.order_id)).status == "CANCELLED"


async def test_asking_again_after_a_timeout_starts_the_count_anew(shop):
    order = await unanswered(shop)
    review = await shop.open_case(order.order_id)
    await shop.resolve(review, "RECONFIRM")
    order = await shop.order(order.order_id)
    assert (order.status, order.attempts, order.reservation_id) == ("PLACED", 0, "reservation-1")
    assert (await shop.sent_types()).count(CONFIRM_REQUESTED) == 4
    assert shop.inventory.count(RESERVE) == 1
    await resolved(shop, order, review, action="RECONFIRM")
    for _ in range(3):
        order = await shop.sweep_when_due(order.order_id)
    assert await shop.open_reasons(order.order_id) == ["CONFIRMATION_TIMEOUT"]


async def test_approving_an_unknown_payment_places_the_order(shop):
    order = await unsettled(shop)
    review = await shop.open_case(order.order_id)
    await shop.resolve(review, "APPROVE")
    order = await shop.order(order.order_id)
    assert (order.status, order.payment_status) == ("PLACED", "CAPTURED")
    assert await shop.sent_types() == [CONFIRM_REQUESTED, "order.created"]
    await resolved(shop, order, review, action="APPROVE")


async def test_cancelling_an_order_with_an_unknown_payment_refunds_whatever_was_taken(shop):
    order = await unsettled(shop)
    await shop.resolve(await shop.open_case(order.order_id), "CANCEL_ORDER")
    order = await shop.order(order.order_id)
    assert (order.status, order.payment_status) == ("CANCELLED", "REFUND_PENDING")
    await shop.quiesce()
    assert shop.payments.states[order.order_id] == "REFUNDED"
    assert shop.inventory.reserved(order.order_id) == []


@pytest.mark.parametrize("can_void", [True, False])
async def test_cancelling_an_order_with_an_unknown_payment_gives_back_a_capture_that_comes_later(shop, can_void):
    order = await unsettled(shop, PaymentFault.LATE)
    await shop.resolve(await shop.open_case(order.order_id), "CANCEL_ORDER")
    if not can_void:
        shop.payments.can_void = False
        await shop.sweep()
    shop.payments.arrive()
    await shop.quiesce()
    assert shop.payments.states[order.order_id] == "REFUNDED"
    assert (await shop.order(order.order_id)).payment_status == "REFUNDED"


async def test_marking_a_release_as_done_ends_its_job(shop):
    order = await unreleased(shop)
    review = await shop.open_case(order.order_id)
    assert (order.inventory_status, review.reason) == ("RELEASE_FAILED", "RELEASE_FAILED")
    await shop.resolve(review, "MARK_RELEASED", note="done by phone")
    assert (await shop.order(order.order_id)).inventory_status == "RELEASED"
    assert (await shop.release(order.order_id)).state == "DONE"
    await resolved(shop, order, review, action="MARK_RELEASED", note="done by phone")
    calls = shop.inventory.count(RELEASE)
    await shop.quiesce()
    assert shop.inventory.count(RELEASE) == calls


async def test_marking_a_release_as_done_leaves_a_job_that_was_started_again_meanwhile_running(shop):
    order = await unreleased(shop)
    review = await shop.open_case(order.order_id)
    # A slow worker finds that it has taken a hold for the order that ended.
    await shop.fulfilment.give_back_if_ended(order.order_id)
    await shop.resolve(review, "MARK_RELEASED")
    assert (await shop.release(order.order_id)).state == "PENDING"
    await shop.quiesce()
    assert shop.inventory.reserved(order.order_id) == []


# ------------------------------------------------------------------- refusals


@pytest.mark.parametrize("reason", SITUATIONS)
async def test_a_case_refuses_every_other_action_and_nothing_is_written(shop, reason):
    order = await SITUATIONS[reason](shop)
    review = await shop.open_case(order.order_id, reason)
    before, calls, told = await shop.everything(), list(shop.called), len(shop.recorded)
    for action in set(ACTIONS) - set(ALLOWED[reason]):
        with pytest.raises(InvalidState) as caught:
            await shop.resolve(review, action)
        assert caught.value.details["allowed"] == ALLOWED[reason]
    assert (await shop.everything(), shop.called, len(shop.recorded)) == (before, calls, told)


@pytest.mark.parametrize("reason", SITUATIONS)
async def test_an_old_version_is_refused_and_nothing_is_written(shop, reason):
    order = await SITUATIONS[reason](shop)
    review = await shop.open_case(order.order_id, reason)
    before = await shop.everything()
    with pytest.raises(ReviewConflict) as caught:
        await shop.resolve(review, USUAL[reason], version=review.version + 1)
    assert caught.value.details["version"] == review.version
    assert await shop.everything() == before


@pytest.mark.parametrize("reason", SITUATIONS)
async def test_the_second_of_two_operators_receives_actor_and_action_and_when(shop, reason):
    order = await SITUATIONS[reason](shop)
    review = await shop.open_case(order.order_id, reason)
    await shop.resolve(review, USUAL[reason], actor="ada")
    before = await shop.everything()
    with pytest.raises(ReviewConflict) as caught:
        await shop.resolve(review, ALLOWED[reason][-1], actor="bob")
    details = caught.value.details
    assert (details["by"], details["action"], details["state"]) == ("ada", USUAL[reason], "RESOLVED")
    assert details["at"].endswith("Z")
    assert await shop.everything() == before


@pytest.mark.parametrize("reason", SITUATIONS)
async def test_of_two_operators_at_once_exactly_one_succeeds(shop, reason):
    order = await SITUATIONS[reason](shop)
    review = await shop.open_case(order.order_id, reason)
    ends = await asyncio.gather(
        *(shop.resolve(review, USUAL[reason], actor=actor) for actor in ("ada", "bob")), return_exceptions=True
    )
    assert sorted(type(end).__name__ for end in ends) == ["Review", "ReviewConflict"]
    winners = {entry.actor for entry in await shop.audit()}
    assert len(winners) == 1
    (conflict,) = [end for end in ends if isinstance(end, ReviewConflict)]
    assert {conflict.details["by"]} == winners


@pytest.mark.parametrize("reads", range(3))
@pytest.mark.parametrize("reason", SITUATIONS)
async def test_the_faster_person_is_named_to_the_other_in_every_state(shop, reason, reads):
    order = await SITUATIONS[reason](shop)
    review = await shop.open_case(order.order_id, reason)
    shop.database = InTheMiddle(shop.real_database, lambda: shop.resolve(review, USUAL[reason], actor="ada"), reads)
    shop.start()
    with pytest.raises(ReviewConflict) as caught:
        await shop.resolve(review, USUAL[reason], actor="bob")
    assert caught.value.details["by"] == "ada"


class InTheMiddle(CrashingDatabase):
    """Something else happens once, before a read that comes after the given number of others."""

    def __init__(self, database, other, reads):
        super().__init__(database)
        self.other, self.reads = other, reads

    async def read(self, transaction):
        self.reads -= 1
        if self.reads == -1:
            await self.other()
        return await super().read(transaction)


async def test_an_operator_who_comes_while_another_one_retries_gets_that_reason(shop):
    order = await waiting(shop)
    review = await shop.open_case(order.order_id)
    conflicts = []

    async def interfere() -> None:
        with pytest.raises(ReviewConflict) as caught:
            await shop.resolve(review, "CANCEL_ORDER", actor="bob")
        conflicts.append(caught.value.details)

    shop.inventory.hooks.before(RESERVE, interfere)
    await shop.resolve(review, "RETRY_RESERVATION", actor="ada")
    assert [(one["by"], one["action"], one["state"]) for one in conflicts] == [("ada", "RETRY_RESERVATION", "OPEN")]
    assert (await shop.order(order.order_id)).status == "PLACED"


async def test_a_case_settled_by_events_is_reported_as_settled_to_a_late_person(shop):
    order = await unanswered(shop)
    review = await shop.open_case(order.order_id)
    await shop.deliver("inventory.confirmed", order)
    with pytest.raises(ReviewConflict) as caught:
        await shop.resolve(review, "RECONFIRM")
    details = caught.value.details
    assert (details["by"], details["action"], details["state"]) == ("system", "SETTLED", "RESOLVED")


async def test_an_unknown_case_cannot_be_resolved(shop):
    order = await unverified(shop)
    review = await shop.open_case(order.order_id)
    with pytest.raises(NotFound) as caught:
        await shop.resolve(review, "APPROVE", review_id="nothing")
    assert caught.value.code == "REVIEW_NOT_FOUND"


# ------------------------------------------------------------ repeated actions


@pytest.mark.parametrize("reason", SITUATIONS)
async def test_an_action_that_comes_twice_under_one_id_has_one_effect(shop, reason):
    order = await SITUATIONS[reason](shop)
    review = await shop.open_case(order.order_id, reason)
    first = await shop.resolve(review, USUAL[reason], action_id="a-1")
    before, calls = await shop.everything(), list(shop.called)
    again = await shop.resolve(review, USUAL[reason], action_id="a-1")
    assert again == first
    assert (await shop.everything(), shop.called) == (before, calls)


@pytest.mark.parametrize("reason", SITUATIONS)
async def test_an_action_that_comes_twice_at_once_under_one_id_has_one_effect(shop, reason):
    order = await SITUATIONS[reason](shop)
    review = await shop.open_case(order.order_id, reason)
    ends = await asyncio.gather(*(shop.resolve(review, USUAL[reason], action_id="a-1") for _ in range(2)))
    assert {end.review_id for end in ends} == {review.review_id}
    assert sum(1 for entry in await shop.audit() if entry.action_id == "a-1") == 1


async def test_a_repeat_that_finds_the_order_already_moved_by_the_first_has_no_second_effect(shop):
    order = await SITUATIONS["PENDING_INVENTORY"](shop)
    review = await shop.open_case(order.order_id, "PENDING_INVENTORY")
    real = shop.reviews.context

    class Between:
        """Lets the first run after the repeat has read the case and before it reads the order."""

        def __getattr__(self, name):
            return getattr(real, name)

        async def get(self, order_id):
            shop.reviews.context = real
            await shop.resolve(review, "RETRY_RESERVATION", action_id="a-1")
            return await real.get(order_id)

    shop.reviews.context = Between()
    await shop.resolve(review, "RETRY_RESERVATION", action_id="a-1")
    assert sum(1 for entry in await shop.audit() if entry.action_id == "a-1") == 1


async def test_an_action_id_used_for_something_else_is_refused(shop):
    first, second = await unverified(shop), await unverified(shop)
    await shop.resolve(await shop.open_case(first.order_id), "APPROVE", action_id="a-1")
    review = await shop.open_case(second.order_id)
    before = await shop.everything()
    for action in ("APPROVE", "CANCEL_ORDER"):
        with pytest.raises(IdempotencyKeyReused) as caught:
            await shop.resolve(review, action, action_id="a-1")
        assert caught.value.details == {"actionId": "a-1"}
    assert await shop.everything() == before


async def test_a_reconfirmation_during_which_the_worker_died_can_be_done_again(shop):
    order = await unconfirmed(shop)
    review = await shop.open_case(order.order_id)
    # The commits: what they said, that it begins, how it ended.
    assert await shop.crash(3, lambda: shop.resolve(review, "RECONFIRM", action_id="a-1"), after=False)
    case = await shop.open_case(order.order_id)
    assert case.version == 2
    await shop.resolve(case, "RECONFIRM", action_id="a-2")
    await shop.pump()
    assert (await shop.order(order.order_id)).status == "CONFIRMED"
    assert len(shop.inventory.reservations) == 2


async def test_refunds_are_not_asked_for_by_approving(shop):
    order = await unsettled(shop)
    await shop.resolve(await shop.open_case(order.order_id), "APPROVE")
    await shop.quiesce()
    assert shop.payments.count(REFUND) == 0


async def test_approving_a_payment_of_an_order_whose_cancel_was_requested_refunds_it(shop):
    order = await unsettled(shop)
    shop.payments.fail(FIND_PAYMENT, PaymentFault.LOST_BEFORE)
    await shop.cancel(order.order_id)
    await shop.sweep()
    await shop.resolve(await shop.open_case(order.order_id), "APPROVE")
    assert (await shop.order(order.order_id)).status == "CANCELLED"
    await shop.quiesce()
    assert shop.payments.states[order.order_id] == "REFUNDED"
