"""Dead letters and returns by command: paced, capped, with reasons, each in the audit log under its command."""

from __future__ import annotations

import orjson
import pytest

from services.messaging.dead_letters import REPLAYS_PER_SECOND
from services.orders.letter_commands import MAX_GROUP, LetterCommands
from services.orders.return_commands import ReturnCommands
from state import commands, dead_letters, inbox
from state.dead_letters import cause_of


@pytest.fixture
def executor(shop):
    more = {**LetterCommands(shop.dead_letters).kinds, **ReturnCommands(shop.returns).kinds}
    return shop.executor(more)


async def bury(shop, order, number=1):
    """A confirmation of the order that was not handled; returns the letter's id."""
    body = {"orderId": order.order_id, "reservationId": order.reservation_id}
    await shop.dead_letters.keep(
        stream="S", stream_seq=number, subject="inventory.confirmed", payload=orjson.dumps(body),
        headers={"Nats-Msg-Id": f"m-{number}"}, reason=f"TimeoutError: order {number}", attempts=8,
    )  # fmt: skip
    return next(letter.id for letter in await letters(shop) if letter.stream_seq == number)


async def letters(shop, state=None):
    return await shop.real_database.read(lambda c: dead_letters.page(c, state=state))


async def run(shop, executor, kind, target, **arguments):
    command_id = await shop.command(kind, target, **arguments)
    await executor.run_waiting()
    return await shop.real_database.read(lambda c: commands.get(c, command_id))


async def test_one_letter_is_replayed_and_audited_under_its_command(shop, executor):
    order = await shop.place()
    letter_id = await bury(shop, order)
    done = await run(shop, executor, "replay_dead_letter", letter_id)
    assert (done.state, done.outcome["title"]) == ("DONE", "Replayed")
    assert (await shop.order(order.order_id)).status == "CONFIRMED"
    (entry,) = await shop.audit()
    assert (entry.actor, entry.action, entry.result, entry.correlation_id) == (
        "ada", "REPLAY_EVENT", "done", done.command_id,
    )  # fmt: skip
    (received,) = (await shop.everything())["inbox"]
    assert received.outcome == "handled"


async def test_a_replay_that_fails_again_leaves_the_letter_open_with_its_new_reason(shop, executor):
    await shop.dead_letters.keep(
        stream="S", stream_seq=1, subject="inventory.confirmed", payload=b"{", headers={}, reason="old", attempts=8
    )
    (letter,) = await letters(shop)
    refused = await run(shop, executor, "replay_dead_letter", letter.id)
    assert refused.state == "REFUSED"
    (again,) = await letters(shop)
    assert (again.state, again.attempts) == ("OPEN", 9)
    assert again.reason != "old"
    (entry,) = await shop.audit()
    assert (entry.result, entry.correlation_id) == ("failed", refused.command_id)


async def test_a_group_is_replayed_at_a_bounded_pace_and_only_what_is_still_open(shop, executor):
    orders = [await shop.place() for _ in range(25)]
    ids = [await bury(shop, order, number) for number, order in enumerate(orders)]
    await shop.dead_letters.discard(ids[3], actor="bob", note="no")
    done = await run(shop, executor, "replay_dead_letters", "inventory.confirmed", ids=ids)
    assert done.outcome["title"] == "24 of 25 wait for their replay"
    await shop.dead_letters.replay_due()
    assert len(await letters(shop, "REPLAYED")) == 1
    shop.clock.advance(1)
    await shop.dead_letters.replay_due()
    assert len(await letters(shop, "REPLAYED")) <= 1 + REPLAYS_PER_SECOND
    shop.clock.advance(10)
    while await shop.dead_letters.replay_due():
        pass
    assert len(await letters(shop, "REPLAYED")) == 24
    replayed = [entry for entry in await shop.audit() if entry.action == "REPLAY_EVENT"]
    assert {(entry.actor, entry.correlation_id) for entry in replayed} == {("ada", done.command_id)}
    assert not await shop.dead_letters.replay_due()


async def test_a_group_that_fails_again_is_tried_once_and_not_for_ever(shop, executor):
    await shop.dead_letters.keep(
        stream="S", stream_seq=1, subject="inventory.confirmed", payload=b"{", headers={}, reason="bad", attempts=8
    )
    (letter,) = await letters(shop)
    await run(shop, executor, "replay_dead_letters", "inventory.confirmed", ids=[letter.id])
    await shop.dead_letters.replay_due()
    shop.clock.advance(60)
    await shop.dead_letters.replay_due()
    (entry,) = await shop.audit()
    assert entry.result == "failed"
    assert (await letters(shop))[0].replay_at is None


async def test_a_group_is_discarded_with_one_reason_and_one_entry_each(shop, executor):
    orders = [await shop.place() for _ in range(3)]
    ids = [await bury(shop, order, number) for number, order in enumerate(orders)]
    done = await run(shop, executor, "discard_dead_letters", "inventory.confirmed", ids=ids, note="test data")
    assert done.outcome["title"] == "3 of 3 discarded"
    assert {letter.note for letter in await letters(shop, "DISCARDED")} == {"test data"}
    assert [(e.reason, e.before, e.after) for e in await shop.audit()] == [
        ("test data", {"state": "OPEN"}, {"state": "DISCARDED"})
    ] * 3


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("discard_dead_letter", {"note": "  "}),
        ("discard_dead_letters", {"ids": ["x"]}),
        ("replay_dead_letters", {"ids": []}),
        ("replay_dead_letters", {"ids": ["x"] * (MAX_GROUP + 1)}),
    ],
)
async def test_without_a_reason_or_with_too_many_nothing_happens_and_the_refusal_is_audited(
    shop, executor, kind, arguments
):
    letter_id = await bury(shop, await shop.place())
    refused = await run(shop, executor, kind, letter_id, **arguments)
    assert (refused.state, refused.outcome["code"]) == ("REFUSED", "VALIDATION_ERROR")
    assert [letter.state for letter in await letters(shop)] == ["OPEN"]
    (entry,) = await shop.audit()
    assert (entry.result, entry.correlation_id) == ("refused: VALIDATION_ERROR", refused.command_id)


async def test_a_refused_command_is_audited_once_with_who_asked_and_why_not(shop, executor):
    order = await shop.place()
    await shop.cancel(order.order_id)
    refused = await run(shop, executor, "return_items", order.order_id, reason="X", restockable=True, items=[
        {"productId": "chair", "variantId": "oak", "quantity": 1},
    ])  # fmt: skip
    (entry,) = await shop.audit()
    assert (entry.actor, entry.action, entry.target, entry.result) == (
        "ada", "RETURN_ITEMS", f"order:{order.order_id}", "refused: INVALID_STATE",
    )  # fmt: skip
    assert entry.after["refusal"] == refused.outcome["title"]


async def test_a_return_is_recorded_once_however_often_its_command_is_run(shop, executor):
    order = await shop.place_confirmed()
    line = order.lines[0]
    items = [{"productId": line.product_id, "variantId": line.variant_id, "quantity": 1}]
    done = await run(shop, executor, "return_items", order.order_id, items=items, reason="DAMAGED", restockable=False)
    assert (done.state, done.outcome["title"]) == ("DONE", "Return of 1 recorded")
    kinds = ReturnCommands(shop.returns).kinds
    await kinds["return_items"](done)
    after = await shop.order(order.order_id)
    assert (after.status, after.lines[0].returned) == ("PARTIALLY_RETURNED", 1)
    (entry,) = await shop.audit()
    assert (entry.action, entry.before, entry.after["status"], entry.reason) == (
        "RETURN_ITEMS", {"status": "CONFIRMED"}, "PARTIALLY_RETURNED", "DAMAGED",
    )  # fmt: skip


async def test_letters_that_differ_in_ids_alone_have_one_cause():
    assert cause_of("UnknownOrder: order 0198-77ab is not known") == cause_of("UnknownOrder: order b-2 is not known")
    assert cause_of("field 'a' missing") == cause_of('field "b"  missing')
    assert cause_of("no connection") != cause_of("no answer")
    assert len(cause_of("x " * 900)) == 200


async def test_settled_letters_go_after_their_time_and_open_ones_never(shop):
    order = await shop.place()
    ids = [await bury(shop, order, number) for number in range(3)]
    await shop.dead_letters.discard(ids[0], actor="ada", note="x")
    shop.clock.advance(100 * 86400)
    gone = await shop.real_database.write(lambda c: dead_letters.prune(c, shop.clock(), 10))
    assert gone == 1
    assert {letter.state for letter in await letters(shop)} == {"OPEN"}


async def test_what_came_in_has_its_outcome_and_repeats_are_counted(shop):
    order = await shop.place()
    await shop.deliver("inventory.confirmed", order, event_id="e-1")
    await shop.deliver("inventory.confirmed", order, event_id="e-1")
    await shop.deliver("inventory.confirmed", order, event_id="e-2")
    for outcome, expected in (("handled", ["e-1"]), ("ignored", ["e-2"]), ("duplicate", ["e-1"])):
        found = await shop.real_database.read(lambda c, o=outcome: inbox.page(c, limit=10, outcome=o))
        assert [row.event_id for row in found.rows] == expected
