"""What people click is stored first and then executed, with one effect however often. Source: design 8."""

from __future__ import annotations

import pytest

from state import commands
from tests.fakes import CAPTURE, REFUND, Fault, PaymentFault

CHECK, RESERVE, RELEASE = "check_availability", "reserve", "release"


async def stored(shop, command_id):
    return await shop.real_database.read(lambda c: commands.get(c, command_id))


async def outcome(shop, command_id):
    command = await stored(shop, command_id)
    return command.state, command.outcome["title"], command.outcome["code"]


async def test_nothing_waiting_is_nothing_done(shop):
    assert await shop.commands.run_waiting() is False
    assert shop.database.commits == 0


async def test_a_cancel_is_executed_audited_and_its_outcome_kept(shop):
    order = await shop.place()
    command_id = await shop.command("cancel_order", order.order_id, reason="FRAUD")
    assert await shop.commands.run_waiting() is True
    assert await outcome(shop, command_id) == ("DONE", "Cancelled", None)
    assert (await shop.order(order.order_id)).status == "CANCELLED"
    (entry,) = await shop.audit()
    assert (entry.actor, entry.action, entry.reason) == ("ada", "CANCEL_ORDER", "FRAUD")
    assert await shop.commands.run_waiting() is False


async def test_a_cancel_while_paying_says_that_it_waits(shop):
    async def cancel() -> None:
        command_id = await shop.command("cancel_order", "mine", "c-1", reason="FRAUD")
        await shop.commands.run_waiting()
        assert (await outcome(shop, command_id))[1] == "Cancel recorded, payment is being settled"

    shop.payments.hooks.before(CAPTURE, cancel)
    await shop.place(order_id="mine")
    assert (await shop.order("mine")).status == "CANCELLED"


async def test_a_case_is_resolved_under_the_commands_id(shop):
    shop.inventory.fail(CHECK, Fault.UNAVAILABLE)
    order = await shop.place_high()
    review = await shop.open_case(order.order_id)
    command_id = await shop.command(
        "resolve_review", review.review_id, action="APPROVE", note="seen", version=review.version
    )
    await shop.commands.run_waiting()
    assert await outcome(shop, command_id) == ("DONE", "Case resolved", None)
    assert (await shop.audit())[-1].action_id == command_id


async def test_a_retry_without_success_says_so(shop):
    shop.inventory.fail(RESERVE, Fault.UNAVAILABLE, Fault.UNAVAILABLE)
    order = await shop.place()
    review = await shop.open_case(order.order_id)
    command_id = await shop.command(
        "resolve_review", review.review_id, action="RETRY_RESERVATION", version=review.version
    )
    await shop.commands.run_waiting()
    assert await outcome(shop, command_id) == ("DONE", "Tried without success, the case stays open", None)


async def test_the_loser_of_a_race_is_refused_and_told_who_won(shop):
    shop.inventory.fail(CHECK, Fault.UNAVAILABLE)
    order = await shop.place_high()
    review = await shop.open_case(order.order_id)
    await shop.resolve(review, "APPROVE", actor="bob")
    command_id = await shop.command("resolve_review", review.review_id, action="APPROVE", version=review.version)
    await shop.commands.run_waiting()
    assert await outcome(shop, command_id) == (
        "REFUSED",
        "This case was changed by bob: APPROVE.",
        "REVIEW_CONFLICT",
    )


async def test_a_release_is_retried_and_waited_for(shop):
    shop.payments.fail(CAPTURE, PaymentFault.DECLINE)
    order = await shop.place()
    command_id = await shop.command("retry_release", order.order_id)
    await shop.commands.run_waiting()
    assert await outcome(shop, command_id) == ("DONE", "Release confirmed by the Inventory Service", None)


async def test_a_release_that_fails_again_is_refused_with_its_error(shop):
    shop.payments.fail(CAPTURE, PaymentFault.DECLINE)
    shop.inventory.fail(RELEASE, Fault.UNAVAILABLE)
    order = await shop.place()
    command_id = await shop.command("retry_release", order.order_id)
    await shop.commands.run_waiting()
    state, title, code = await outcome(shop, command_id)
    assert (state, code) == ("REFUSED", "RELEASE_FAILED")
    assert "INVENTORY_UNAVAILABLE" in title


@pytest.mark.parametrize(
    ("kind", "arguments", "code"),
    [
        ("paint_order", {}, "VALIDATION_ERROR"),
        ("cancel_order", {}, "VALIDATION_ERROR"),
        ("cancel_order", {"reason": "X"}, "ORDER_NOT_FOUND"),
        ("resolve_review", {"action": "APPROVE", "version": "many"}, "VALIDATION_ERROR"),
        ("resolve_review", {"action": "APPROVE", "version": 1}, "REVIEW_NOT_FOUND"),
        ("retry_release", {}, "RELEASE_NOT_FOUND"),
    ],
)
async def test_what_cannot_be_done_is_refused_with_a_reason_and_writes_nothing_else(shop, kind, arguments, code):
    command_id = await shop.command(kind, "nobody", **arguments)
    await shop.commands.run_waiting()
    assert (await outcome(shop, command_id))[::2] == ("REFUSED", code)
    assert {name for name, rows in (await shop.everything()).items() if rows} == {"commands"}


async def test_storing_a_command_twice_is_storing_it_once(shop):
    order = await shop.place()
    for _ in range(2):
        await shop.command("cancel_order", order.order_id, "c-1", reason="X")
    await shop.commands.run_waiting()
    assert await shop.commands.run_waiting() is False


@pytest.mark.parametrize("died_after", [False, True])
@pytest.mark.parametrize("commit", [1, 2, 3])
async def test_a_cancel_whose_worker_died_is_run_again_with_one_effect(shop, commit, died_after):
    order = await shop.place()
    await shop.command("cancel_order", order.order_id, "c-1", reason="X")
    assert await shop.crash(commit, shop.commands.run_waiting, after=died_after)
    shop.clock.advance(61)
    await shop.commands.run_waiting()
    assert (await stored(shop, "c-1")).state == "DONE"
    assert [entry.action for entry in await shop.audit()] == ["CANCEL_ORDER"]
    assert (await shop.sent_types()).count("order.cancelled") == 1
    await shop.quiesce()
    assert shop.payments.count(REFUND) == 1


@pytest.mark.parametrize("died_after", [False, True])
@pytest.mark.parametrize("commit", [1, 2, 3])
async def test_an_approval_whose_worker_died_is_run_again_with_one_effect(shop, commit, died_after):
    shop.inventory.fail(CHECK, Fault.UNAVAILABLE)
    order = await shop.place_high()
    review = await shop.open_case(order.order_id)
    await shop.command("resolve_review", review.review_id, "c-1", action="APPROVE", version=review.version)
    assert await shop.crash(commit, shop.commands.run_waiting, after=died_after)
    shop.clock.advance(61)
    await shop.commands.run_waiting()
    assert await outcome(shop, "c-1") == ("DONE", "Case resolved", None)
    assert [entry.action for entry in await shop.audit()] == ["APPROVE"]


async def test_a_running_command_is_not_taken_by_another_worker_until_its_claim_ends(shop):
    order = await shop.place()
    await shop.command("cancel_order", order.order_id, "c-1", reason="X")
    assert await shop.crash(1, shop.commands.run_waiting, after=True)
    assert (await stored(shop, "c-1")).state == "RUNNING"
    shop.clock.advance(59)
    assert await shop.commands.run_waiting() is False
