"""Commands on events that cannot be published: each takes effect once and is in the audit log under its command."""

from __future__ import annotations

import pytest

from state import commands, orders, outbox


async def undeliverable(shop):
    """An order whose event is too large for the broker; returns (order, id of the row)."""
    order = await shop.place()
    now = shop.clock()
    claimed = await shop.real_database.write(lambda c: outbox.settle_and_claim(c, [], [], 100, now))
    event, others = claimed[-1], [claim.id for claim in claimed[:-1]]
    never = [(event.id, "maximum payload exceeded")]
    await shop.real_database.write(lambda c: outbox.settle_and_claim(c, others, [], 0, now, undeliverable=never))
    return order, event.id


async def run(shop, kind, target, **arguments):
    command_id = await shop.command(kind, str(target), **arguments)
    await shop.commands.run_waiting()
    return await shop.real_database.read(lambda c: commands.get(c, command_id))


@pytest.mark.parametrize(
    ("kind", "action", "waiting", "arguments"),
    [
        ("retry_outgoing_event", "RETRY_OUTGOING_EVENT", 1, {}),
        ("discard_outgoing_event", "DISCARD_OUTGOING_EVENT", 0, {"note": "told them by phone"}),
    ],
)
async def test_a_command_takes_effect_once_and_is_audited_under_its_id(shop, kind, action, waiting, arguments):
    order, row_id = await undeliverable(shop)
    done = await run(shop, kind, row_id, **arguments)
    assert done.state == "DONE"
    assert await shop.run_handler(done) == done.outcome
    assert (await shop.real_database.read(outbox.pending))[0] == waiting
    assert await shop.real_database.read(outbox.count_undeliverable) == 0
    (entry,) = await shop.audit()
    assert (entry.actor, entry.action, entry.target, entry.order_id, entry.result) == (
        "ada", action, f"outbox-event:{row_id}", order.order_id, "done",
    )  # fmt: skip
    assert (entry.action_id, entry.correlation_id) == (done.command_id, done.command_id)
    assert entry.reason == arguments.get("note")
    shown = (await shop.real_database.read(lambda c: orders.timeline(c, order.order_id)))[-1]
    assert (shown.kind, shown.actor) == ("action", "ada")


@pytest.mark.parametrize("kind", ["retry_outgoing_event", "discard_outgoing_event"])
@pytest.mark.parametrize("target", ["99999", "nobody", "0", str(2**70)])
async def test_a_command_on_what_is_not_there_is_refused_and_audited(shop, kind, target):
    refused = await run(shop, kind, target, note="x")
    assert (refused.state, refused.outcome.code) == ("REFUSED", "OUTBOX_EVENT_NOT_FOUND")
    (entry,) = await shop.audit()
    assert (entry.target, entry.result) == (f"outbox-event:{target}", "refused: OUTBOX_EVENT_NOT_FOUND")


async def test_without_a_reason_nothing_is_given_up(shop):
    _, row_id = await undeliverable(shop)
    refused = await run(shop, "discard_outgoing_event", row_id, note="  ")
    assert (refused.state, refused.outcome.code) == ("REFUSED", "VALIDATION_ERROR")
    assert await shop.real_database.read(outbox.count_undeliverable) == 1


async def test_an_event_that_waits_or_is_published_is_not_given_up(shop):
    _, row_id = await undeliverable(shop)
    await run(shop, "retry_outgoing_event", row_id)
    refused = await run(shop, "discard_outgoing_event", row_id, note="x")
    assert (refused.state, refused.outcome.code) == ("REFUSED", "INVALID_STATE")
    assert (await shop.real_database.read(outbox.pending))[0] == 1
