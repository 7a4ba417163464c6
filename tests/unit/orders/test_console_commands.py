"""What people click is stored first and then executed, with one effect however often. Source: docs/adr/0013."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from services.domain.commands import CommandState, Outcome
from state import commands, inventory_lookups, tables
from state.commands import Command
from tests.support.fakes import CAPTURE, REFUND, Fault, PaymentFault
from tests.support.retention import prune

CHECK, RESERVE, RELEASE = "check_availability", "reserve", "release"


async def stored(shop, command_id):
    return await shop.real_database.read(lambda c: commands.get(c, command_id))


async def outcome(shop, command_id):
    command = await stored(shop, command_id)
    return command.state, command.outcome.title, command.outcome.code


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


async def test_a_cancel_while_paying_shows_that_it_waits(shop):
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


async def test_a_retry_without_success_reports_it(shop):
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
async def test_what_cannot_be_done_is_refused_on_record_and_writes_nothing_else(shop, kind, arguments, code):
    command_id = await shop.command(kind, "nobody", **arguments)
    await shop.commands.run_waiting()
    assert (await outcome(shop, command_id))[::2] == ("REFUSED", code)
    assert {name for name, rows in (await shop.everything()).items() if rows} == {"commands", "audit_log"}


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


# --------------------------------------------------------- claims, questions, undo


async def a_case(shop):
    shop.inventory.fail(CHECK, Fault.UNAVAILABLE)
    order = await shop.place_high()
    return await shop.open_case(order.order_id)


async def held(shop, review, *, seconds=10, **changes):
    """Store an approval that can be taken back for a while."""
    wanted = Command(
        "c-1", "resolve_review", review.review_id, {"action": "APPROVE", "note": "", "version": review.version},
        "ada", CommandState.STORED, shop.clock(), undo_until=shop.clock() + timedelta(seconds=seconds),
    )  # fmt: skip
    await shop.store(replace(wanted, **changes))
    return wanted


async def withdraw(shop):
    at = shop.clock()
    return await shop.real_database.write(lambda c: commands.withdraw(c, "c-1", Outcome("Taken back"), at))


async def test_a_case_is_claimed_and_handed_back_by_command(shop):
    review = await a_case(shop)
    claimed = await shop.command("claim_review", review.review_id)
    await shop.commands.run_waiting()
    assert (await outcome(shop, claimed))[:2] == ("DONE", "Case claimed")
    assert (await shop.open_case(review.order_id)).owner == "ada"
    released = await shop.command("release_claim", review.review_id)
    await shop.commands.run_waiting()
    assert (await outcome(shop, released))[:2] == ("DONE", "Case handed back")
    assert (await shop.open_case(review.order_id)).owner is None


async def test_a_claim_that_comes_second_is_refused_with_the_name_of_the_first(shop):
    review = await a_case(shop)
    await shop.claims.claim(review.review_id, actor="bob")
    command_id = await shop.command("claim_review", review.review_id, takeOver=True)
    await shop.commands.run_waiting()
    state, title, code = await outcome(shop, command_id)
    assert (state, code) == ("REFUSED", "CLAIMED_BY_OTHER")
    assert title.startswith("bob works on this case until")


async def test_only_an_admin_takes_a_case_over_by_command(shop):
    review = await a_case(shop)
    await shop.claims.claim(review.review_id, actor="bob")
    wanted = Command(
        "c-1", "claim_review", review.review_id, {"takeOver": True}, "eve", CommandState.STORED, shop.clock()
    )
    await shop.store(replace(wanted, role="admin"))
    await shop.commands.run_waiting()
    assert (await shop.open_case(review.order_id)).owner == "eve"


@pytest.mark.parametrize("role", ["viewer", "none"])
async def test_the_worker_refuses_what_a_role_does_not_allow(shop, role):
    review = await a_case(shop)
    await held(shop, review, undo_until=None, role=role)
    await shop.commands.run_waiting()
    assert (await outcome(shop, "c-1"))[::2] == ("REFUSED", "FORBIDDEN")
    assert await shop.open_case(review.order_id) == review


async def test_they_are_asked_by_command_and_the_claim_of_who_asks_is_renewed(shop):
    review = await a_case(shop)
    await shop.claims.claim(review.review_id, actor="ada")
    shop.clock.advance(60)
    command_id = await shop.command("ask_theirs", review.order_id, reviewId=review.review_id)
    await shop.commands.run_waiting()
    assert (await outcome(shop, command_id))[:2] == ("DONE", "The Inventory Service says ACTIVE")
    kept = await shop.real_database.read(lambda c: inventory_lookups.get(c, review.order_id))
    assert kept.asked_by == "ada"
    case = await shop.open_case(review.order_id)
    assert case.claimed_until == shop.clock() + timedelta(minutes=15)


async def test_a_question_that_waits_delays_no_decision(shop):
    review = await a_case(shop)
    decided = asyncio.Event()
    ask, claim = shop.lookup.find, shop.claims.claim

    async def ask_slowly(order_id):
        await decided.wait()
        return await ask(order_id)

    async def claim_and_say_so(*given, **named):
        decided.set()
        return await claim(*given, **named)

    shop.lookup.find, shop.claims.claim = ask_slowly, claim_and_say_so
    await shop.command("ask_theirs", review.order_id)
    claimed = await shop.command("claim_review", review.review_id)
    await shop.commands.run_waiting()
    assert (await stored(shop, claimed)).state == "DONE"


async def test_a_delayed_command_does_not_run_before_its_time_not_even_on_a_new_worker(shop):
    review = await a_case(shop)
    await held(shop, review)
    for _ in range(2):
        shop.clock.advance(4.9)
        assert await shop.commands.run_waiting() is False
        shop.start()
    shop.clock.advance(0.2)
    assert await shop.commands.run_waiting() is True
    assert (await outcome(shop, "c-1"))[1] == "Case resolved"


async def test_what_was_taken_back_never_runs(shop):
    review = await a_case(shop)
    await held(shop, review)
    assert (await withdraw(shop)).state == "WITHDRAWN"
    assert await withdraw(shop) is None
    shop.clock.advance(3600)
    assert await shop.commands.run_waiting() is False
    assert await shop.open_case(review.order_id) == review


async def test_a_running_or_never_delayed_command_cannot_be_undone(shop):
    review = await a_case(shop)
    await held(shop, review, undo_until=None)
    assert await withdraw(shop) is None
    await shop.commands.run_waiting()
    assert await withdraw(shop) is None
    assert (await outcome(shop, "c-1"))[1] == "Case resolved"


async def test_a_worker_that_died_while_running_it_leaves_nothing_to_take_back(shop):
    review = await a_case(shop)
    await held(shop, review)
    shop.clock.advance(11)
    assert await shop.crash(1, shop.commands.run_waiting, after=True)
    assert await withdraw(shop) is None
    shop.clock.advance(61)
    await shop.commands.run_waiting()
    assert (await outcome(shop, "c-1"))[1] == "Case resolved"


async def test_undo_and_execution_at_once_have_exactly_one_winner(shop):
    for _ in range(10):
        review = await a_case(shop)
        wanted = await held(shop, review)
        shop.clock.advance(11)
        taken, _ = await asyncio.gather(withdraw(shop), shop.commands.run_waiting())
        command = await stored(shop, wanted.command_id)
        was_resolved = await shop.open_reasons(review.order_id) == []
        assert (command.state, was_resolved) == (("WITHDRAWN", False) if taken else ("DONE", True))
        await shop.real_database.write(lambda c: prune(c, tables.commands, shop.clock() + timedelta(days=1), 10))


async def held_cancel(shop, order, command_id="c-1", actor="ada"):
    at = shop.clock()
    wanted = Command(command_id, "cancel_order", order.order_id, {"reason": "X"}, actor, CommandState.STORED, at)
    await shop.store(replace(wanted, undo_until=at + timedelta(seconds=10)))


async def test_a_delayed_cancel_that_is_undone_leaves_the_order_as_it_is(shop):
    order = await shop.place()
    await held_cancel(shop, order)
    assert await shop.commands.run_waiting() is False
    await withdraw(shop)
    shop.clock.advance(3600)
    await shop.commands.run_waiting()
    assert (await shop.order(order.order_id)).status == order.status
    assert shop.payments.count(REFUND) == 0


async def test_two_delayed_cancels_of_one_order_have_one_effect_and_one_entry(shop):
    order = await shop.place()
    await held_cancel(shop, order)
    await held_cancel(shop, order, "c-2", "bob")
    shop.clock.advance(11)
    await shop.commands.run_waiting()
    assert [(await outcome(shop, one))[0] for one in ("c-1", "c-2")] == ["DONE", "DONE"]
    assert [(entry.actor, entry.action) for entry in await shop.audit()] == [("ada", "CANCEL_ORDER")]
    await shop.quiesce()
    assert shop.payments.count(REFUND) == 1
