"""Actions on cases that call the Inventory Service wait for its breaker and drain; none of them is lost or refused."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update

from services.domain.commands import Outcome
from state import commands, tables
from tests.support.bulk_jobs import begin, job_items, look, run
from tests.support.orders_harness import OrdersHarness
from tests.support.review_cases import unanswered, unconfirmed

RESERVE, UNAVAILABLE = "reserve", "unavailable"


@pytest.fixture
async def shop(sqlite_url):
    """A shop whose calls go through circuit breakers."""
    harness = OrdersHarness(sqlite_url, resilient=True)
    yield harness
    harness.close()


async def waiting(shop, order_id="mine"):
    """A case of an order that waits for inventory; its breaker is closed again."""
    shop.breakers.reserver.open()
    await shop.place(order_id=order_id)
    shop.breakers.reserver.close()
    return await shop.open_case(order_id)


async def ask(shop, case, action="RETRY_RESERVATION", command_id="c-1"):
    return await shop.command("resolve_review", case.review_id, command_id, action=action, version=case.version)


async def stored(shop, command_id="c-1"):
    return await shop.real_database.read(lambda c: commands.get(c, command_id))


def reserved(shop):
    return [order_id for operation, order_id in shop.inventory.calls if operation == RESERVE]


async def refused_anew(shop):
    order = await unconfirmed(shop)
    return await shop.open_case(order.order_id)


@pytest.mark.parametrize(
    ("situation", "action"), [(waiting, "RETRY_RESERVATION"), (refused_anew, "RECONFIRM")], ids=["retry", "reconfirm"]
)
async def test_an_action_waits_for_the_breaker_of_its_call_without_a_trace_and_then_drains(shop, situation, action):
    case = await situation(shop)
    await ask(shop, case, action)
    shop.breakers.reserver.open()
    calls, audit = len(reserved(shop)), await shop.audit()
    for _ in range(3):
        assert await shop.commands.run_waiting() is True
        command = await stored(shop)
        assert command.is_queued
        assert await shop.commands.run_waiting() is False
        shop.clock.advance(6)
    assert (len(reserved(shop)), await shop.audit(), await shop.open_case(case.order_id)) == (calls, audit, case)
    shop.breakers.reserver.half_open()
    await shop.commands.run_waiting()
    assert (await stored(shop)).outcome.title == "Case resolved"
    assert (await shop.order(case.order_id)).status == "PLACED"
    assert shop.breakers.reserver.effective_state == "closed"


async def test_several_drain_through_the_half_open_budget_one_after_another(shop):
    cases = [await waiting(shop, f"order-{number}") for number in range(4)]
    for number, case in enumerate(cases):
        await ask(shop, case, command_id=f"c-{number}")
    shop.breakers.reserver.open()
    await shop.commands.run_waiting()
    assert reserved(shop) == []
    shop.breakers.reserver.half_open()
    shop.clock.advance(6)
    await shop.commands.run_waiting()
    assert sorted(reserved(shop)) == [case.order_id for case in cases]
    assert [(await stored(shop, f"c-{number}")).state for number in range(4)] == ["DONE"] * 4


async def test_an_override_that_ends_early_is_noticed_within_seconds(shop):
    case = await waiting(shop)
    await ask(shop, case)
    shop.breakers.reserver.open()
    await shop.commands.run_waiting()
    command = await stored(shop)
    assert 0 < (command.undo_until - shop.clock()).total_seconds() <= 5
    shop.breakers.reserver.close()
    shop.clock.advance(5)
    await shop.commands.run_waiting()
    assert (await stored(shop)).state == "DONE"


@pytest.mark.parametrize(
    ("situation", "action"), [(waiting, "RETRY_RESERVATION"), (refused_anew, "RECONFIRM")], ids=["retry", "reconfirm"]
)
async def test_what_the_breaker_turns_back_after_it_began_is_tried_again_under_a_key_of_its_own(
    shop, situation, action
):
    case = await situation(shop)
    await ask(shop, case, action)
    begin_, shop.reviews._begin = shop.reviews._begin, None

    async def open_meanwhile(*given):
        begun = await begin_(*given)
        shop.breakers.reserver.open()
        return begun

    shop.reviews._begin = open_meanwhile
    await shop.commands.run_waiting()
    shop.reviews._begin = begin_
    command = await stored(shop)
    assert (command.state, command.arguments["version"]) == ("STORED", case.version + 1)
    shop.breakers.reserver.close()
    shop.clock.advance(6)
    await shop.commands.run_waiting()
    assert (await stored(shop)).outcome.title == "Case resolved"
    keys = [entry.action_id for entry in await shop.audit() if entry.action == action and entry.action_id]
    assert keys == ["c-1", "c-1/1"]


async def test_what_waits_can_be_undone_and_is_refused_once_the_case_has_changed(shop):
    first, second = await waiting(shop, "order-1"), await waiting(shop, "order-2")
    await ask(shop, first, command_id="c-1")
    await ask(shop, second, command_id="c-2")
    shop.breakers.reserver.open()
    await shop.commands.run_waiting()
    taken = await shop.real_database.write(lambda c: commands.withdraw(c, "c-1", Outcome("x"), shop.clock()))
    assert taken.state == "WITHDRAWN"
    await shop.resolve(second, "CANCEL_ORDER", actor="bob")
    shop.breakers.reserver.close()
    shop.clock.advance(6)
    await shop.commands.run_waiting()
    assert reserved(shop) == []
    command = await stored(shop, "c-2")
    assert (command.state, command.outcome.code) == ("REFUSED", "REVIEW_CONFLICT")


async def reword(shop, title):
    """Store another title for the outcome of every command, as another version of the service may word it."""

    def transaction(connection):
        for row in connection.execute(select(tables.commands)).all():
            outcome = row.outcome | {"title": title, "detail": title}
            connection.execute(
                update(tables.commands).where(tables.commands.c.command_id == row.command_id).values(outcome=outcome)
            )

    await shop.real_database.write(transaction)


@pytest.mark.parametrize("title", ["Queued until the breaker closes", "Wartet", ""])
async def test_what_the_services_own_retry_has_settled_meanwhile_is_no_refusal(shop, title):
    case = await waiting(shop)
    await ask(shop, case)
    shop.breakers.reserver.open()
    await shop.commands.run_waiting()
    await reword(shop, title)
    shop.breakers.reserver.close()
    await shop.sweep_when_due("mine")
    shop.clock.advance(6)
    await shop.commands.run_waiting()
    command = await stored(shop)
    assert (command.state, command.outcome.title) == ("DONE", "Settled by itself while it was queued")
    assert reserved(shop) == ["mine"]


@pytest.mark.parametrize("breaker", ["reserver", "checker", "releaser"])
async def test_an_action_that_calls_nobody_waits_for_no_breaker(shop, breaker):
    order = await unanswered(shop)
    case = await shop.open_case(order.order_id)
    getattr(shop.breakers, breaker).open()
    await ask(shop, case, "RECONFIRM")
    await shop.commands.run_waiting()
    assert (await stored(shop)).outcome.title == "Case resolved"


# ------------------------------------------------------------------------- bulk


async def begun(shop, number=3):
    cases = [await waiting(shop, f"order-{count}") for count in range(number)]
    seen = {case.review_id: (case.version, case.state) for case in cases}
    owners = {case.review_id: case.order_id for case in cases}
    await begin(
        shop, list(seen), bulk_action="resolve_review", action="RETRY_RESERVATION", versions=seen,
        owner=owners.__getitem__, causes=["PENDING_INVENTORY"],
    )  # fmt: skip
    return cases


async def test_a_bulk_retry_of_reservations_waits_and_drains_through_the_half_open_budget(shop):
    cases = await begun(shop)
    shop.breakers.reserver.open()
    await run(shop)
    assert (await look(shop)).note == "Waits for the circuit breaker to close."
    assert reserved(shop) == []
    shop.breakers.reserver.half_open()
    shop.clock.advance(1)
    await shop.bulk_jobs.run_due()
    assert len(reserved(shop)) == 1
    for _ in range(6):
        await shop.pump()
        shop.clock.advance(1)
        await run(shop)
    assert (await look(shop)).tally == {"CONFIRMED": len(cases)}


async def test_an_item_that_the_breaker_stops_is_sent_again_and_does_not_stop_the_bulk_job(shop):
    cases = await begun(shop, 1)
    gate = shop.bulk_jobs.gate_of
    shop.bulk_jobs.gate_of = lambda _: gate(None)
    shop.breakers.reserver.open()
    await shop.bulk_jobs.run_due()
    (item,) = (await job_items(shop)).values()
    assert (item.state, item.version) == ("ASKED", cases[0].version + 1)
    shop.bulk_jobs.gate_of = gate
    shop.breakers.reserver.close()
    for _ in range(4):
        shop.clock.advance(1)
        await run(shop)
        await shop.pump()
    assert (await look(shop)).tally == {"CONFIRMED": 1}


async def test_a_bulk_action_that_calls_nobody_is_not_delayed(shop):
    order = await unanswered(shop)
    case = await shop.open_case(order.order_id)
    seen = {case.review_id: (case.version, case.state)}
    await begin(
        shop, list(seen), bulk_action="resolve_review", action="RECONFIRM", versions=seen,
        owner=lambda _: order.order_id, causes=["CONFIRMATION_TIMEOUT"],
    )  # fmt: skip
    shop.breakers.reserver.open()
    await shop.bulk_jobs.run_due()
    assert [item.state for item in (await job_items(shop)).values()] == ["ACCEPTED"]
