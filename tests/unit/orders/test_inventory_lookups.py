"""Asking the Inventory Service before acting: what is kept, how fresh it must be, and what it forbids."""

from __future__ import annotations

import asyncio

import pytest

from services.domain.conservation import StockState
from services.domain.errors import InvalidState, NotFound, ValidationFailed
from services.domain.reconciliation import CANNOT_ANSWER, NO_ANSWER, LookupResult
from services.reviews.comparison import LookupCounts, Reconciliation, in_words
from state import commands, inventory_lookups
from tests.support.review_cases import unanswered, unconfirmed, unverified, waiting


def saying(shop, stock, **more):
    """Has the Inventory Service say this from now on."""

    async def ask(_):
        shop.lookup.asked += 1
        return LookupResult(stock, **more)

    shop.lookup.find = ask


async def answer(shop, order_id):
    return await shop.real_database.read(lambda c: inventory_lookups.get(c, order_id))


async def test_what_they_say_is_kept_with_its_time_and_who_asked(shop):
    order = await unverified(shop)
    await shop.reconciliation.look_up(order.order_id, asked_by="ada")
    kept = await answer(shop, order.order_id)
    assert (kept.result.stock, kept.result.said) == (StockState.RESERVED, "ACTIVE")
    assert (kept.asked_at, kept.asked_by) == (shop.clock(), "ada")


async def test_a_later_answer_takes_the_place_of_an_earlier_one_and_not_the_other_way_round(shop):
    order = await unverified(shop)
    late = await shop.reconciliation.look_up(order.order_id, asked_by="ada")
    shop.clock.advance(-5)
    saying(shop, StockState.FREE)
    await shop.reconciliation.look_up(order.order_id, asked_by="bob")
    assert await answer(shop, order.order_id) == late


async def test_nobody_is_asked_about_an_order_that_is_not_there(shop):
    with pytest.raises(NotFound):
        await shop.reconciliation.look_up("nothing", asked_by="ada")
    assert shop.lookup.asked == 0


@pytest.mark.parametrize(
    ("situation", "action", "said"),
    [
        (waiting, "RETRY_RESERVATION", StockState.DEDUCTED),
        (unconfirmed, "RECONFIRM", StockState.DEDUCTED),
        (unverified, "APPROVE", StockState.FREE),
    ],
)
async def test_an_action_refused_by_the_inventory_status_is_refused_and_nothing_is_sent(shop, situation, action, said):
    order = await situation(shop)
    review = await shop.open_case(order.order_id)
    saying(shop, said)
    calls, events = list(shop.called), await shop.sent()
    with pytest.raises(InvalidState) as caught:
        await shop.resolve(review, action)
    assert caught.value.details["theirs"] == said
    assert action not in caught.value.details["allowed"]
    assert (shop.called, await shop.sent()) == (calls, events)
    assert await shop.open_case(order.order_id) == review
    entry = (await shop.audit())[-1]
    assert (entry.action, entry.target, entry.result) == (
        action,
        f"review:{review.review_id}",
        "refused: INVALID_STATE",
    )


async def test_confirming_again_settles_an_order_that_they_have_deducted_already(shop):
    order = await unanswered(shop)
    saying(shop, StockState.DEDUCTED)
    assert (await shop.resolve(await shop.open_case(order.order_id), "RECONFIRM")).state == "RESOLVED"


@pytest.mark.parametrize("problem", [CANNOT_ANSWER, NO_ANSWER])
async def test_an_unknown_inventory_status_prevents_no_action(shop, problem):
    order = await waiting(shop)
    saying(shop, None, problem=problem)
    await shop.resolve(await shop.open_case(order.order_id), "RETRY_RESERVATION")
    assert (await shop.order(order.order_id)).status == "PLACED"
    assert (await answer(shop, order.order_id)).result.problem == problem


@pytest.mark.parametrize(("age_seconds", "asked"), [(10, 1), (11, 2)])
async def test_a_fresh_answer_is_used_and_an_older_one_requested_again(shop, age_seconds, asked):
    order = await unverified(shop)
    await shop.reconciliation.look_up(order.order_id, asked_by="ada")
    shop.clock.advance(age_seconds)
    await shop.resolve(await shop.open_case(order.order_id), "APPROVE")
    assert shop.lookup.asked == asked


async def test_an_answer_from_before_the_order_changed_is_requested_again_however_young(shop):
    order = await unverified(shop)
    saying(shop, StockState.FREE)
    await shop.reconciliation.look_up(order.order_id, asked_by="ada")
    saying(shop, StockState.DEDUCTED)
    shop.clock.advance(1)
    await shop.pump()
    assert (await shop.order(order.order_id)).status == "CONFIRMED"
    await shop.resolve(await shop.open_case(order.order_id), "APPROVE")
    assert shop.lookup.asked == 2


async def test_an_old_answer_forbids_nothing_that_the_new_one_allows(shop):
    order = await waiting(shop)
    review = await shop.open_case(order.order_id)
    saying(shop, StockState.DEDUCTED)
    await shop.reconciliation.look_up(order.order_id, asked_by="ada")
    saying(shop, StockState.FREE)
    with pytest.raises(InvalidState):
        await shop.resolve(review, "RETRY_RESERVATION")
    shop.clock.advance(11)
    await shop.resolve(review, "RETRY_RESERVATION")


async def test_a_question_that_hangs_is_given_up_and_todays_rules_apply(shop):
    order = await unverified(shop)
    never = asyncio.Event()

    class Hanging:
        async def find(self, _):
            await never.wait()

    reconciliation = Reconciliation(shop.context, Hanging(), patience_seconds=0.01)
    assert await reconciliation.current_stock(order, asked_by="ada") is None
    assert (await answer(shop, order.order_id)).result.problem == NO_ANSWER


async def test_an_action_that_our_side_does_not_allow_asks_nobody(shop):
    order = await unverified(shop)
    with pytest.raises(InvalidState):
        await shop.resolve(await shop.open_case(order.order_id), "MARK_RELEASED")
    assert shop.lookup.asked == 0


def test_the_outcome_of_asking_is_told_in_words():
    assert in_words(LookupResult(StockState.FREE, "EXPIRED")) == "The Inventory Service says EXPIRED"
    assert in_words(LookupResult(StockState.FREE)) == "The Inventory Service says FREE"
    unknown = in_words(LookupResult(None, "ON_HOLD", problem=CANNOT_ANSWER))
    assert unknown == "The Inventory Service says ON_HOLD, a word that is not known here"


# ------------------------------------------------------------------ many at once


@pytest.fixture
async def twelve(shop):
    return [(await shop.place(order_id=f"order-{number:02}")).order_id for number in range(12)]


async def known(shop, order_ids):
    return await shop.real_database.read(lambda c: inventory_lookups.of_orders(c, order_ids))


async def test_many_are_asked_about_once_each_and_their_answers_kept(shop, twelve):
    asked = await shop.reconciliation.look_up_many([*twelve, twelve[0], "nobody"], asked_by="ada")
    assert (asked.answered, asked.unanswered, asked.not_asked) == (12, 0, 0)
    assert shop.lookup.asked == 12
    assert {answer.result.stock for answer in (await known(shop, twelve)).values()} == {StockState.RESERVED}


async def test_recent_lookups_are_not_repeated(shop, twelve):
    await shop.reconciliation.look_up(twelve[3], asked_by="bob")
    shop.clock.advance(10)
    assert await shop.reconciliation.look_up_many(twelve, asked_by="ada") == LookupCounts(
        answered=11, fresh=1, unanswered=0, not_asked=0
    )
    shop.clock.advance(11)
    assert (await shop.reconciliation.look_up_many(twelve, asked_by="ada")).answered == 12


async def test_few_questions_are_under_way_together(shop, twelve):
    ask, running, most, eight = shop.lookup.find, 0, 0, asyncio.Event()

    async def watched(order_id):
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 8:
            eight.set()
        await eight.wait()
        running -= 1
        return await ask(order_id)

    shop.lookup.find = watched
    await shop.reconciliation.look_up_many(twelve, asked_by="ada")
    assert most == 8
    shop.breakers.checker.half_open()
    most = 0
    shop.clock.advance(11)
    await shop.reconciliation.look_up_many(twelve, asked_by="ada")
    assert most == 1


async def test_while_the_breaker_is_open_nobody_is_asked(shop, twelve):
    shop.breakers.checker.open()
    assert await shop.reconciliation.look_up_many(twelve, asked_by="ada") == LookupCounts(
        answered=0, fresh=0, unanswered=0, not_asked=12
    )
    assert (shop.lookup.asked, await known(shop, twelve)) == (0, {})


async def test_when_nobody_answers_the_rest_is_left_alone(shop, twelve):
    shop.lookup.is_away = True
    assert await shop.reconciliation.look_up_many(twelve, asked_by="ada") == LookupCounts(
        answered=0, fresh=0, unanswered=8, not_asked=4
    )
    assert shop.lookup.asked == 8


async def test_a_slow_service_is_not_asked_for_longer_than_others_can_wait(shop, twelve, monkeypatch):
    monkeypatch.setattr("services.reviews.comparison.MANY_SECONDS", 0.0)
    assert (await shop.reconciliation.look_up_many(twelve, asked_by="ada")).not_asked == 12


async def test_no_question_is_about_more_than_a_preview_shows(shop):
    with pytest.raises(ValidationFailed) as caught:
        await shop.reconciliation.look_up_many([str(number) for number in range(51)], asked_by="ada")
    assert caught.value.details["problems"] == [{"field": "orderIds", "value": 51, "allowed": "at most 50"}]


async def test_the_question_of_a_preview_is_one_command(shop, twelve):
    command_id = await shop.command("ask_theirs_many", "preview-1", orderIds=twelve)
    await shop.commands.run_waiting()
    command = await shop.real_database.read(lambda c: commands.get(c, command_id))
    assert (command.state, command.outcome.title) == ("DONE", "The Inventory Service answered for 12")
    assert {answer.asked_by for answer in (await known(shop, twelve)).values()} == {"ada"}
    assert await shop.audit() == []
