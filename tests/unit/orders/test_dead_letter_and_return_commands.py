"""Dead letters and returns by command: with reasons, each in the audit log under its command."""

from __future__ import annotations

from services.messaging.consumer import Delivery
from state import commands, dead_letters, deduplication, tables
from state.dead_letters import cause_of
from tests.support.dead_letters import keep_dead_letter, stored_dead_letters
from tests.support.retention import prune


async def run(shop, kind, target, **arguments):
    command_id = await shop.command(kind, target, **arguments)
    await shop.commands.run_waiting()
    return await shop.real_database.read(lambda c: commands.get(c, command_id))


async def test_one_dead_letter_is_replayed_and_audited_under_its_command(shop):
    order = await shop.place()
    dead_letter_id = await keep_dead_letter(shop, order)
    done = await run(shop, "replay_dead_letter", dead_letter_id)
    assert (done.state, done.outcome.title) == ("DONE", "Replayed")
    assert (await shop.order(order.order_id)).status == "CONFIRMED"
    (entry,) = await shop.audit()
    assert (entry.actor, entry.action, entry.result, entry.correlation_id) == (
        "ada", "REPLAY_EVENT", "done", done.command_id,
    )  # fmt: skip
    (received,) = (await shop.everything())["inbox"]
    assert received.outcome == "handled"


async def test_a_replay_that_fails_again_leaves_the_dead_letter_open_with_its_new_reason(shop):
    await shop.dead_letters.keep(
        Delivery(stream="S", stream_seq=1, subject="inventory.confirmed", payload=b"{", headers={}), "old", attempts=8
    )
    (dead_letter,) = await stored_dead_letters(shop)
    refused = await run(shop, "replay_dead_letter", dead_letter.id)
    assert refused.state == "REFUSED"
    (again,) = await stored_dead_letters(shop)
    assert (again.state, again.attempts) == ("OPEN", 9)
    assert again.reason != "old"
    (entry,) = await shop.audit()
    assert (entry.result, entry.correlation_id) == ("failed", refused.command_id)


async def test_a_command_that_is_run_again_after_a_crash_has_the_same_outcome_and_does_nothing_more(shop):
    order = await shop.place()
    dead_letter_id = await keep_dead_letter(shop, order)
    done = await run(shop, "replay_dead_letter", dead_letter_id)
    before = await shop.everything()
    again = await shop.run_handler(done)
    assert again == done.outcome
    assert await shop.everything() == before


async def test_without_a_reason_nothing_is_discarded_and_the_refusal_is_audited(shop):
    dead_letter_id = await keep_dead_letter(shop, await shop.place())
    refused = await run(shop, "discard_dead_letter", dead_letter_id, note="  ")
    assert (refused.state, refused.outcome.code) == ("REFUSED", "VALIDATION_ERROR")
    assert [dead_letter.state for dead_letter in await stored_dead_letters(shop)] == ["OPEN"]
    (entry,) = await shop.audit()
    assert (entry.result, entry.correlation_id) == ("refused: VALIDATION_ERROR", refused.command_id)


async def test_a_refused_command_is_audited_once_with_actor_and_reason(shop):
    order = await shop.place()
    await shop.cancel(order.order_id)
    refused = await run(shop, "return_items", order.order_id, reason="X", restockable=True, items=[
        {"productId": "chair", "variantId": "oak", "quantity": 1},
    ])  # fmt: skip
    (entry,) = await shop.audit()
    assert (entry.actor, entry.action, entry.target, entry.result) == (
        "ada", "RETURN_ITEMS", f"order:{order.order_id}", "refused: INVALID_STATE",
    )  # fmt: skip
    assert entry.after["refusal"] == refused.outcome.title


async def test_a_return_is_recorded_once_however_often_its_command_is_run(shop):
    order = await shop.place_confirmed()
    line = order.lines[0]
    items = [{"productId": line.product_id, "variantId": line.variant_id, "quantity": 1}]
    done = await run(shop, "return_items", order.order_id, items=items, reason="DAMAGED", restockable=False)
    assert (done.state, done.outcome.title) == ("DONE", "Return of 1 recorded")
    await shop.run_handler(done)
    after = await shop.order(order.order_id)
    assert (after.status, after.lines[0].returned) == ("PARTIALLY_RETURNED", 1)
    (entry,) = await shop.audit()
    assert (entry.action, entry.before, entry.after["status"], entry.reason) == (
        "RETURN_ITEMS", {"status": "CONFIRMED"}, "PARTIALLY_RETURNED", "DAMAGED",
    )  # fmt: skip


async def test_dead_letters_that_differ_in_ids_alone_have_one_cause():
    assert cause_of("UnknownOrder: order 0198-77ab is not known") == cause_of("UnknownOrder: order b-2 is not known")
    assert cause_of("field 'a' missing") == cause_of('field "b"  missing')
    assert cause_of("no connection") != cause_of("no answer")
    assert len(cause_of("x " * 900)) == 200


async def test_settled_dead_letters_go_after_their_time_and_open_ones_never(shop):
    order = await shop.place()
    ids = [await keep_dead_letter(shop, order, number) for number in range(3)]
    await shop.dead_letters.discard(ids[0], actor="ada", note="x")
    shop.clock.advance(100 * 86400)
    gone = await shop.real_database.write(lambda c: prune(c, tables.dead_letters, shop.clock(), 10))
    assert gone == 1
    assert {dead_letter.state for dead_letter in await stored_dead_letters(shop)} == {"OPEN"}


async def test_what_came_in_has_its_outcome_and_repeats_are_counted(shop):
    order = await shop.place()
    await shop.deliver("inventory.confirmed", order, event_id="e-1")
    await shop.deliver("inventory.confirmed", order, event_id="e-1")
    await shop.deliver("inventory.confirmed", order, event_id="e-2")
    for outcome, expected in (("handled", ["e-1"]), ("ignored", ["e-2"]), ("duplicate", ["e-1"])):
        found = await shop.real_database.read(lambda c, o=outcome: deduplication.listed(outcome=o).page(c, 10))
        assert [row.event_id for row in found.rows] == expected


async def test_a_stream_made_anew_has_dead_letters_of_its_own(shop):
    async def keep(incarnation):
        await shop.dead_letters.keep(
            Delivery(
                stream="S",
                incarnation=incarnation,
                stream_seq=1,
                subject="inventory.confirmed",
                payload=b"{",
                headers={},
            ),
            "r",
            attempts=1,
        )

    for incarnation in ("2026-01-01", "2026-01-02", "2026-01-02"):
        await keep(incarnation)
    assert sorted(dead_letter.incarnation for dead_letter in await stored_dead_letters(shop)) == [
        "2026-01-01",
        "2026-01-02",
    ]


async def test_lists_carry_the_beginning_of_a_dead_letter_and_its_bounds(shop):
    payload = b'{"x": "' + b"a" * 250_000 + b'"}'
    headers = {f"h-{number}": "v" * 9000 for number in range(99)}
    await shop.dead_letters.keep(
        Delivery(stream="S", stream_seq=1, subject="inventory.confirmed", payload=payload, headers=headers),
        "r" * 200_000,
        attempts=1,
    )
    (listed,) = await stored_dead_letters(shop)
    assert (len(listed.payload), listed.size, len(listed.reason)) == (2048, len(payload), 2000)
    assert (len(listed.headers), max(map(len, listed.headers.values()))) == (50, 500)
    whole = await shop.real_database.read(lambda c: dead_letters.get(c, listed.id))
    assert (whole.payload, whole.size) == (payload, len(payload))
