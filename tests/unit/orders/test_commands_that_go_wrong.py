"""Commands whose execution goes wrong, or whose worker loses its claim: none holds up another, none is run blindly."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import update

from services.clients.payments import PaymentState
from services.commands import queue as executor
from services.commands.queue import ATTEMPTS, CLAIM, COMMANDS_PER_ROUND
from services.domain.commands import Outcome
from state import commands, conservation, tables
from tests.support.fakes import CAPTURE, Fault, PaymentFault

RELEASE = "release"


class Broken(Exception):
    """A mistake of ours, as no caller expects it."""


@pytest.fixture
def tries(shop):
    """How often each command was tried that always goes wrong; ``shop.broken`` executes it."""
    tried = []

    async def go_wrong(_use, command, _given):
        tried.append(command.command_id)
        raise Broken("secret value")

    shop.broken = shop.executor({"end_silence": go_wrong})
    return tried


async def run_for(shop, seconds, *, step=5):
    for _ in range(0, seconds, step):
        while await shop.broken.run_waiting():
            pass
        shop.clock.advance(step)


async def test_a_command_that_always_goes_wrong_delays_none_of_those_behind_it(shop, tries):
    await shop.command("end_silence", "all", "c-bad")
    orders = [await shop.place() for _ in range(COMMANDS_PER_ROUND + 2)]
    for number, order in enumerate(orders):
        await shop.command("cancel_order", order.order_id, f"c-{number}", reason="X")
    while await shop.broken.run_waiting():
        pass
    assert {(await shop.order(order.order_id)).status for order in orders} == {"CANCELLED"}
    assert (await shop.stored_command("c-bad")).state == "RUNNING"


async def test_what_goes_wrong_is_tried_again_and_then_ends_on_record_as_not_known(shop, tries):
    await shop.command("end_silence", "all", "c-bad", reason="noise")
    await run_for(shop, 600)
    assert tries == ["c-bad"] * ATTEMPTS
    ended = await shop.stored_command("c-bad")
    assert (ended.state, ended.outcome.title, ended.outcome.code) == (
        "FAILED", "Not known whether it took effect", "INTERNAL_ERROR",
    )  # fmt: skip
    assert "Broken" in ended.outcome.detail
    assert "secret" not in ended.outcome.detail
    (entry,) = await shop.audit()
    assert (entry.actor, entry.action, entry.reason, entry.result, entry.correlation_id) == (
        "ada", "END_SILENCE", "noise", "failed: effect unknown", "c-bad",
    )  # fmt: skip


@pytest.mark.parametrize("error", [KeyError("order"), TypeError("none"), ValueError("odd")])
async def test_an_error_after_the_arguments_were_read_is_no_refusal(shop, error):
    async def go_wrong(_use, command, _given):
        raise error

    shop.broken = shop.executor({"end_silence": go_wrong})
    await shop.command("end_silence", "all", "c-bad", reason="noise")
    await run_for(shop, 600)
    ended = await shop.stored_command("c-bad")
    assert (ended.state, ended.outcome.title) == ("FAILED", "Not known whether it took effect")


async def test_what_goes_wrong_once_is_done_at_the_second_try(shop):
    tried = []

    async def at_the_second_try(_use, command, _given):
        tried.append(command.attempts)
        if len(tried) == 1:
            raise Broken
        return Outcome("Done")

    shop.broken = shop.executor({"end_silence": at_the_second_try})
    await shop.command("end_silence", "all", "c-1")
    await run_for(shop, 60)
    assert tried == [1, 2]
    assert (await shop.stored_command("c-1")).state == "DONE"


async def test_a_command_that_takes_its_worker_along_every_time_is_given_up(shop):
    order = await shop.place()
    await shop.command("cancel_order", order.order_id, "c-1", reason="X")
    for _ in range(ATTEMPTS):
        assert await shop.crash(1, shop.commands.run_waiting, after=True)
        shop.clock.advance(CLAIM.total_seconds() + 1)
    await shop.commands.run_waiting()
    assert (await shop.stored_command("c-1")).state == "FAILED"
    assert (await shop.order(order.order_id)).status != "CANCELLED"


async def test_a_worker_whose_claim_ran_out_does_not_overwrite_what_its_successor_found(shop):
    """The first one hangs in the middle; the second one runs the command; then the first one goes on."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(_use, command, _given):
        if command.attempts == 1:
            begun.set()
            await go_on.wait()
            raise ValueError("too late")
        return Outcome("By the second")

    first, second = (shop.executor({"end_silence": slowly}) for _ in range(2))
    await shop.command("end_silence", "all", "c-1")
    running = asyncio.ensure_future(first.run_waiting())
    await begun.wait()
    shop.clock.advance(CLAIM.total_seconds() + 1)
    await second.run_waiting()
    go_on.set()
    await running
    ended = await shop.stored_command("c-1")
    assert (ended.state, ended.outcome.title) == ("DONE", "By the second")
    assert await shop.audit() == []


async def test_each_command_is_claimed_when_its_turn_comes(shop):
    """Else the last ones of a batch would be taken by a second worker while the first one still runs them."""
    seen = []

    async def look(_use, command, _given):
        seen.append(sorted([(await shop.stored_command(f"c-{n}")).state for n in range(3)]))
        shop.clock.advance(CLAIM.total_seconds() / 2)
        return Outcome("Done")

    shop.broken = shop.executor({"end_silence": look})
    for number in range(3):
        await shop.command("end_silence", "all", f"c-{number}")
        shop.clock.advance(1)
    await shop.broken.run_waiting()
    assert seen == [["RUNNING", "STORED", "STORED"], ["DONE", "RUNNING", "STORED"], ["DONE", "DONE", "RUNNING"]]


async def test_a_claim_is_renewed_for_as_long_as_its_command_runs(shop, monkeypatch):
    monkeypatch.setattr(executor, "CLAIM_RENEWAL_SECONDS", 0.001)
    keep, loop, renewals = commands.keep, asyncio.get_running_loop(), asyncio.Queue()

    def noted(*given):
        loop.call_soon_threadsafe(renewals.put_nowait, None)
        return keep(*given)

    monkeypatch.setattr(commands, "keep", noted)
    second = shop.executor()

    async def takes_long(*_):
        for _turn in range(3):
            shop.clock.advance(CLAIM.total_seconds() - 1)
            # The third one from here begins when the second, which knows the new time, is committed.
            for _ in range(3):
                await asyncio.wait_for(renewals.get(), 10)
        assert await second.run_waiting() is False
        return Outcome("At last")

    shop.broken = shop.executor({"end_silence": takes_long})
    await shop.command("end_silence", "all", "c-1")
    await shop.broken.run_waiting()
    ended = await shop.stored_command("c-1")
    assert (ended.outcome.title, ended.attempts) == ("At last", 1)


# ------------------------------------------------------------ run twice, one effect and its result


async def run_again(shop, command_id):
    """As after a crash between the effect of a command and the note that it was done."""

    def forget_the_end(connection):
        anew = {"state": "STORED", "outcome": None, "finished_at": None}
        connection.execute(update(tables.commands).where(tables.commands.c.command_id == command_id).values(anew))

    first = await shop.stored_command(command_id)
    await shop.real_database.write(forget_the_end)
    await shop.commands.run_waiting()
    return first, await shop.stored_command(command_id)


async def test_a_release_that_was_confirmed_is_not_started_again_by_a_second_run(shop):
    shop.payments.fail(CAPTURE, PaymentFault.DECLINE)
    order = await shop.place()
    await shop.command("retry_release", order.order_id, "c-1")
    await shop.commands.run_waiting()
    first, second = await run_again(shop, "c-1")
    assert (second.state, second.outcome) == (first.state, first.outcome) == ("DONE", second.outcome)
    assert [entry.action_id for entry in await shop.audit()] == ["c-1"]


async def test_a_release_that_failed_is_neither_restarted_nor_audited_by_a_second_run(shop):
    shop.payments.fail(CAPTURE, PaymentFault.DECLINE)
    shop.inventory.fail(RELEASE, Fault.UNAVAILABLE, Fault.UNAVAILABLE)
    order = await shop.place()
    await shop.releases.run_due()
    await shop.command("retry_release", order.order_id, "c-1")
    await shop.commands.run_waiting()
    job = await shop.release(order.order_id)
    first, second = await run_again(shop, "c-1")
    assert (second.state, second.outcome) == (first.state, first.outcome)
    assert second.state == "REFUSED"
    assert await shop.release(order.order_id) == job
    assert [entry.action_id for entry in await shop.audit()] == ["c-1"]


@pytest.mark.parametrize("died_after", [False, True])
@pytest.mark.parametrize("commit", [1, 2, 3, 4, 5])
async def test_a_retry_whose_worker_died_is_carried_to_its_end_and_audited_once(shop, commit, died_after):
    shop.payments.fail(CAPTURE, PaymentFault.DECLINE)
    order = await shop.place()
    await shop.command("retry_release", order.order_id, "c-1")
    died = await shop.crash(commit, shop.commands.run_waiting, after=died_after)
    assert died or commit == 5
    shop.clock.advance(61)
    await shop.commands.run_waiting()
    ended = await shop.stored_command("c-1")
    assert (ended.state, ended.outcome.title) == ("DONE", "Release confirmed by the Inventory Service")
    assert [(entry.action, entry.action_id) for entry in await shop.audit()] == [("RETRY_RELEASE", "c-1")]


async def test_a_compensation_that_was_started_is_found_started_by_a_second_run(shop):
    order = await shop.place_confirmed()
    shop.payments.states[order.order_id] = PaymentState.DECLINED
    await shop.conservation.compare([order.order_id])
    (known,) = await shop.real_database.read(conservation.page)
    arguments = {"orderId": order.order_id, "kind": known.kind, "reason": "seen"}
    await shop.command("compensate", f"{order.order_id}/{known.kind}", "c-1", **arguments)
    await shop.commands.run_waiting()
    first, second = await run_again(shop, "c-1")
    assert first.state == "DONE"
    assert (second.state, second.outcome) == (first.state, first.outcome)
    assert [(entry.action, entry.action_id) for entry in await shop.audit()] == [("COMPENSATE", "c-1")]


async def test_a_retry_that_another_person_started_again_meanwhile_reports_it(shop):
    shop.payments.fail(CAPTURE, PaymentFault.DECLINE)
    order = await shop.place()

    async def again():
        await shop.releases.retry([order.order_id], actor="bob")

    shop.inventory.hooks.before(RELEASE, again)
    await shop.command("retry_release", order.order_id, "c-1")
    await shop.commands.run_waiting()
    ended = await shop.stored_command("c-1")
    assert (ended.state, ended.outcome.title) == (
        "REFUSED", "Not confirmed yet: the release was started again meanwhile and is being tried.",
    )  # fmt: skip
