"""Claims: one owner at a time, for a while, on record. Source: contract 3; requirements 11, page "Manual review"."""

from __future__ import annotations

import asyncio

import pytest

from services.domain.errors import ClaimedByOther, InvalidState, NotFound
from tests.support.fakes import Fault
from tests.support.review_cases import SITUATIONS, USUAL, a_case, waiting

CHECK, RESERVE = "check_availability", "reserve"
LEASE_SECONDS = 15 * 60


async def claims_on_record(shop):
    return [
        (entry.actor, entry.action, entry.before["owner"], entry.after["owner"])
        for entry in await shop.audit()
        if entry.action in ("CLAIM", "RELEASE_CLAIM")
    ]


async def test_a_claim_shows_whose_the_case_is_and_until_when(shop):
    review = await a_case(shop)
    case = await shop.claims.claim(review.review_id, actor="ada")
    assert (case.owner, (case.claimed_until - shop.clock()).total_seconds()) == ("ada", LEASE_SECONDS)
    assert case.version == review.version
    assert await claims_on_record(shop) == [("ada", "CLAIM", None, "ada")]


async def test_the_second_is_told_who_has_the_case_and_until_when_and_nothing_is_written(shop):
    review = await a_case(shop)
    await shop.claims.claim(review.review_id, actor="ada")
    before = await shop.everything()
    for attempt in (shop.claims.claim, shop.claims.release):
        with pytest.raises(ClaimedByOther) as caught:
            await attempt(review.review_id, actor="bob")
        assert caught.value.code == "CLAIMED_BY_OTHER"
        assert caught.value.details == {
            "reviewId": review.review_id,
            "by": "ada",
            "until": "2026-03-01T12:15:00.000Z",
        }
    assert await shop.everything() == before


async def test_of_many_who_claim_at_once_exactly_one_wins(shop):
    review = await a_case(shop)
    people = [f"p{number}" for number in range(12)]
    ends = await asyncio.gather(
        *(shop.claims.claim(review.review_id, actor=person) for person in people), return_exceptions=True
    )
    won = [end.owner for end in ends if not isinstance(end, Exception)]
    assert len(won) == 1
    assert {type(end) for end in ends if isinstance(end, Exception)} == {ClaimedByOther}
    assert await claims_on_record(shop) == [(won[0], "CLAIM", None, won[0])]


async def test_a_claim_ends_by_itself(shop):
    review = await a_case(shop)
    await shop.claims.claim(review.review_id, actor="ada")
    shop.clock.advance(LEASE_SECONDS - 1)
    with pytest.raises(ClaimedByOther):
        await shop.claims.claim(review.review_id, actor="bob")
    shop.clock.advance(1)
    assert (await shop.claims.claim(review.review_id, actor="bob")).owner == "bob"


async def test_claiming_ones_own_case_again_renews_it_without_a_second_record(shop):
    review = await a_case(shop)
    await shop.claims.claim(review.review_id, actor="ada")
    shop.clock.advance(600)
    case = await shop.claims.claim(review.review_id, actor="ada")
    assert (case.claimed_until - shop.clock()).total_seconds() == LEASE_SECONDS
    assert len(await claims_on_record(shop)) == 1


async def test_a_try_that_fails_renews_the_claim_of_who_tried(shop):
    order = await waiting(shop)
    review = await shop.open_case(order.order_id)
    await shop.claims.claim(review.review_id, actor="ada")
    shop.clock.advance(600)
    shop.inventory.fail(RESERVE, Fault.UNAVAILABLE)
    await shop.resolve(review, "RETRY_RESERVATION", actor="ada")
    case = await shop.open_case(order.order_id)
    assert (case.claimed_until - shop.clock()).total_seconds() == LEASE_SECONDS


async def test_acting_on_an_unclaimed_case_claims_nothing(shop):
    order = await waiting(shop)
    shop.inventory.fail(RESERVE, Fault.UNAVAILABLE)
    await shop.resolve(await shop.open_case(order.order_id), "RETRY_RESERVATION", actor="ada")
    assert (await shop.open_case(order.order_id)).owner is None


async def test_what_is_handed_back_is_anybodys(shop):
    review = await a_case(shop)
    await shop.claims.claim(review.review_id, actor="ada")
    assert (await shop.claims.release(review.review_id, actor="ada")).owner is None
    assert (await shop.claims.claim(review.review_id, actor="bob")).owner == "bob"
    assert await claims_on_record(shop) == [
        ("ada", "CLAIM", None, "ada"),
        ("ada", "RELEASE_CLAIM", "ada", None),
        ("bob", "CLAIM", None, "bob"),
    ]


async def test_handing_back_what_nobody_has_changes_nothing(shop):
    review = await a_case(shop)
    before = await shop.everything()
    await shop.claims.release(review.review_id, actor="ada")
    assert await shop.everything() == before


async def test_taking_over_is_on_record_with_both_names(shop):
    review = await a_case(shop)
    await shop.claims.claim(review.review_id, actor="ada")
    assert (await shop.claims.claim(review.review_id, actor="eve", take_over=True)).owner == "eve"
    assert (await claims_on_record(shop))[-1] == ("eve", "CLAIM", "ada", "eve")


@pytest.mark.parametrize("reason", SITUATIONS)
async def test_another_persons_case_cannot_be_resolved_and_nothing_is_written_or_called(shop, reason):
    order = await SITUATIONS[reason](shop)
    review = await shop.open_case(order.order_id, reason)
    await shop.claims.claim(review.review_id, actor="ada")
    before, calls, asked = await shop.everything(), list(shop.called), shop.lookup.asked
    with pytest.raises(ClaimedByOther):
        await shop.resolve(review, USUAL[reason], actor="bob")
    assert (await shop.everything(), shop.called, shop.lookup.asked) == (before, calls, asked)
    # Its owner may, and so may an admin.
    await shop.resolve(review, USUAL[reason], actor="ada")


async def test_an_admin_may_resolve_another_persons_case(shop):
    review = await a_case(shop)
    await shop.claims.claim(review.review_id, actor="ada")
    assert (await shop.resolve(review, "APPROVE", actor="eve", by_admin=True)).state == "RESOLVED"


async def test_a_claim_that_comes_between_reading_and_writing_wins(shop):
    review = await a_case(shop)

    async def claim_first(order_id):
        await shop.claims.claim(review.review_id, actor="ada")
        return await ask(order_id)

    ask, shop.lookup.find = shop.lookup.find, claim_first
    with pytest.raises(ClaimedByOther):
        await shop.resolve(review, "APPROVE", actor="bob")
    assert (await shop.open_case(review.order_id)).owner == "ada"


async def test_a_resolved_case_cannot_be_claimed(shop):
    review = await a_case(shop)
    await shop.resolve(review, "APPROVE")
    with pytest.raises(InvalidState):
        await shop.claims.claim(review.review_id, actor="ada")


async def test_an_unknown_case_cannot_be_claimed_or_handed_back(shop):
    for attempt in (shop.claims.claim, shop.claims.release):
        with pytest.raises(NotFound):
            await attempt("nothing", actor="ada")


async def test_a_claim_does_not_hide_who_resolved_the_case(shop):
    review = await a_case(shop)
    await shop.resolve(review, "APPROVE", actor="ada")
    command_id = await shop.command("resolve_review", review.review_id, action="APPROVE", version=review.version)
    await shop.commands.run_waiting()
    stored = await shop.stored_command(command_id)
    assert stored.outcome.title == "This case was changed by ada: APPROVE."
