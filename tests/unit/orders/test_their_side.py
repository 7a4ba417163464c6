"""Asking the Inventory Service before acting: what is kept, how fresh it must be, and what it forbids."""

from __future__ import annotations

import asyncio

import pytest

from services.domain.both_sides import CANNOT_ANSWER, NO_ANSWER, Statement
from services.domain.conservation import StockState
from services.domain.errors import InvalidState, NotFound
from services.orders.their_side import TheirSide, in_words
from state import their_answers
from tests.unit.orders.test_resolving_cases import unanswered, unconfirmed, unverified, waiting


def saying(shop, stock, **more):
    """Has the Inventory Service say this from now on."""

    async def ask(_):
        shop.witness.asked += 1
        return Statement(stock, **more)

    shop.witness.ask = ask


async def answer(shop, order_id):
    return await shop.real_database.read(lambda c: their_answers.get(c, order_id))


async def test_what_they_say_is_kept_with_its_time_and_who_asked(shop):
    order = await unverified(shop)
    await shop.their_side.ask(order.order_id, asked_by="ada")
    kept = await answer(shop, order.order_id)
    assert (kept.statement.stock, kept.statement.said) == (StockState.HELD, "ACTIVE")
    assert (kept.asked_at, kept.asked_by) == (shop.clock(), "ada")


async def test_a_later_answer_takes_the_place_of_an_earlier_one_and_not_the_other_way_round(shop):
    order = await unverified(shop)
    late = await shop.their_side.ask(order.order_id, asked_by="ada")
    shop.clock.advance(-5)
    saying(shop, StockState.FREE)
    await shop.their_side.ask(order.order_id, asked_by="bob")
    assert await answer(shop, order.order_id) == late


async def test_nobody_is_asked_about_an_order_that_is_not_there(shop):
    with pytest.raises(NotFound):
        await shop.their_side.ask("nothing", asked_by="ada")
    assert shop.witness.asked == 0


@pytest.mark.parametrize(
    ("situation", "action", "said"),
    [
        (waiting, "RETRY_RESERVATION", StockState.DEDUCTED),
        (unconfirmed, "RECONFIRM", StockState.DEDUCTED),
        (unverified, "APPROVE", StockState.FREE),
    ],
)
async def test_a_move_that_their_side_makes_wrong_is_refused_and_nothing_is_sent(shop, situation, action, said):
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


async def test_confirming_again_settles_an_order_that_they_have_deducted_already(shop):
    order = await unanswered(shop)
    saying(shop, StockState.DEDUCTED)
    assert (await shop.resolve(await shop.open_case(order.order_id), "RECONFIRM")).state == "RESOLVED"


@pytest.mark.parametrize("problem", [CANNOT_ANSWER, NO_ANSWER])
async def test_a_service_that_does_not_say_keeps_nobody_from_acting(shop, problem):
    order = await waiting(shop)
    saying(shop, None, problem=problem)
    await shop.resolve(await shop.open_case(order.order_id), "RETRY_RESERVATION")
    assert (await shop.order(order.order_id)).status == "PLACED"
    assert (await answer(shop, order.order_id)).statement.problem == problem


@pytest.mark.parametrize(("age_seconds", "asked"), [(10, 1), (11, 2)])
async def test_a_fresh_answer_is_used_and_an_older_one_asked_for_again(shop, age_seconds, asked):
    order = await unverified(shop)
    await shop.their_side.ask(order.order_id, asked_by="ada")
    shop.clock.advance(age_seconds)
    await shop.resolve(await shop.open_case(order.order_id), "APPROVE")
    assert shop.witness.asked == asked


async def test_an_answer_from_before_the_order_changed_is_asked_for_again_however_young(shop):
    order = await unverified(shop)
    saying(shop, StockState.FREE)
    await shop.their_side.ask(order.order_id, asked_by="ada")
    saying(shop, StockState.DEDUCTED)
    shop.clock.advance(1)
    await shop.pump()
    assert (await shop.order(order.order_id)).status == "CONFIRMED"
    await shop.resolve(await shop.open_case(order.order_id), "APPROVE")
    assert shop.witness.asked == 2


async def test_an_old_answer_forbids_nothing_that_the_new_one_allows(shop):
    order = await waiting(shop)
    review = await shop.open_case(order.order_id)
    saying(shop, StockState.DEDUCTED)
    await shop.their_side.ask(order.order_id, asked_by="ada")
    saying(shop, StockState.FREE)
    with pytest.raises(InvalidState):
        await shop.resolve(review, "RETRY_RESERVATION")
    shop.clock.advance(11)
    await shop.resolve(review, "RETRY_RESERVATION")


async def test_a_question_that_hangs_is_given_up_and_todays_rules_apply(shop):
    order = await unverified(shop)
    never = asyncio.Event()

    class Hanging:
        async def ask(self, _):
            await never.wait()

    side = TheirSide(shop.context, Hanging(), patience_seconds=0.01)
    assert await side.now(order, asked_by="ada") is None
    assert (await answer(shop, order.order_id)).statement.problem == NO_ANSWER


async def test_an_action_that_our_side_does_not_allow_asks_nobody(shop):
    order = await unverified(shop)
    with pytest.raises(InvalidState):
        await shop.resolve(await shop.open_case(order.order_id), "MARK_RELEASED")
    assert shop.witness.asked == 0


def test_the_outcome_of_asking_is_told_in_words():
    assert in_words(Statement(StockState.FREE, "EXPIRED")) == "The Inventory Service says EXPIRED"
    assert in_words(Statement(StockState.FREE)) == "The Inventory Service says FREE"
    unknown = in_words(Statement(None, "ON_HOLD", problem=CANNOT_ANSWER))
    assert unknown == "The Inventory Service says ON_HOLD, a word that is not known here"
