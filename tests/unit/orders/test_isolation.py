"""One bad item of many: the others go on, it comes to a person after a bounded number of tries, and it is counted."""

from __future__ import annotations

import pytest

from services.bulk.actions import ReplayEvent
from services.bulk.runner import BulkRunner
from services.domain.bulk import BulkItemState, Gate, ItemResult
from services.domain.orders.lifecycle import TRIES
from services.messaging.dead_letters import DeadLetters
from services.runtime.clock_skew import ClockSkewRepair
from services.sandbox.drills.runner import TRIES as DRILL_TRIES
from state import reviews, sandbox
from tests.support.bulk_jobs import begin, failed_release, job_items, look, states
from tests.support.dead_letters import begin as begin_dead_letters
from tests.support.dead_letters import keep_dead_letter, stored_dead_letters
from tests.support.drills import Switches, runner_of, start
from tests.support.orders_harness import POLICY
from tests.support.review_cases import a_case

RELEASE = "release"


class Unforeseen(Exception):
    """Nobody has written a handler for this."""


@pytest.fixture
def counted(shop):
    """The names of the loops in which something failed unexpectedly."""
    names = []
    object.__setattr__(shop.context, "failed", names.append)
    return names


async def refuse_writes(shop, table, column, value):
    """From now on the database refuses every change of that row, as no code expects it."""
    await shop.real_database.write(
        lambda c: c.exec_driver_sql(
            f"CREATE TRIGGER odd BEFORE UPDATE ON {table} WHEN OLD.{column} = '{value}'"
            " BEGIN SELECT RAISE(ABORT, 'nobody thought of this'); END"
        )
    )


async def accept_writes(shop):
    await shop.real_database.write(lambda c: c.exec_driver_sql("DROP TRIGGER odd"))


# ---------------------------------------------------------------- dead letters


def failing_dead_letters(shop, bad):
    async def handle(event):
        if event.data["orderId"] == bad:
            raise Unforeseen("nobody thought of this")
        return await shop.inbound.handle(event)

    return DeadLetters(shop.database, shop.clock, shop.new_id, handle)


async def test_a_dead_letter_whose_replay_raises_keeps_no_other_from_being_replayed(shop):
    placed = [await shop.place(order_id=f"order-{number}") for number in range(5)]
    ids = [await keep_dead_letter(shop, order, number) for number, order in enumerate(placed)]
    executor = shop.executor(dead_letters=failing_dead_letters(shop, "order-0"))
    for number, dead_letter_id in enumerate(ids):
        await shop.command("replay_dead_letter", dead_letter_id, f"c-{number}")
    while await executor.run_waiting():
        pass
    ends = [(await shop.stored_command(f"c-{number}")).state for number in range(5)]
    assert ends == ["REFUSED", "DONE", "DONE", "DONE", "DONE"]
    (still,) = await stored_dead_letters(shop, "OPEN")
    assert (still.id, still.attempts, still.reason) == (ids[0], 9, "Unforeseen: nobody thought of this")
    (entry,) = [entry for entry in await shop.audit() if entry.result == "failed"]
    assert entry.target == f"dead-letter:{ids[0]}"


async def test_in_bulk_a_dead_letter_that_raises_ends_failed_and_the_others_are_replayed(shop):
    placed = [await shop.place(order_id=f"order-{number:02}") for number in range(20)]
    ids = [await keep_dead_letter(shop, order, number) for number, order in enumerate(placed)]
    await begin_dead_letters(shop, ids)
    actions = {"replay_event": ReplayEvent(failing_dead_letters(shop, "order-19"))}
    runner = a_runner(shop, actions)
    for _ in range(20):
        await runner.run_due()
        shop.clock.advance(2)
    bulk_job = await look(shop)
    assert (bulk_job.state, bulk_job.tally) == ("DONE", {"CONFIRMED": 19, "FAILED": 1})
    assert (await job_items(shop))[ids[19]].detail == "The handler failed again: nobody thought of this"


# ---------------------------------------------------------- claims and leases


async def test_a_case_whose_claim_raises_keeps_no_other_from_being_claimed_and_is_given_up(shop, counted):
    bad, good = await a_case(shop), await a_case(shop)
    await refuse_writes(shop, "reviews", "review_id", bad.review_id)
    await shop.command("claim_review", bad.review_id, "c-bad")
    await shop.command("claim_review", good.review_id, "c-good")
    while await shop.commands.run_waiting():
        pass
    assert (await shop.stored_command("c-good")).state == "DONE"
    for _ in range(60):
        shop.clock.advance(5)
        await shop.commands.run_waiting()
    ended = await shop.stored_command("c-bad")
    assert (ended.state, ended.attempts) == ("FAILED", 4)
    assert "IntegrityError" in ended.outcome.detail
    assert counted == ["commands"] * 4


async def test_what_cannot_be_brought_forward_keeps_no_other_lease_waiting(shop, counted):
    """A clock was set back: claims last for hours, and one kind of work cannot even be read."""
    case = await a_case(shop)
    shop.clock.advance(7200)
    await shop.claims.claim(case.review_id, actor="ada")
    shop.clock.advance(-7200)
    await shop.real_database.write(lambda c: c.exec_driver_sql("ALTER TABLE alert_notifications RENAME TO gone"))
    clock_skew = ClockSkewRepair(shop.context, POLICY.confirmation_timeout)
    assert await clock_skew.run_round() is False
    after = await shop.real_database.read(lambda c: reviews.get(c, case.review_id))
    assert after.owner_at(shop.clock()) is None
    assert counted == ["timekeeping"]


# -------------------------------------------------------------- release jobs


async def test_a_release_whose_end_cannot_be_recorded_comes_to_a_person_and_keeps_no_other(shop, counted):
    for order_id in ("odd", "fine"):
        await failed_release(shop, order_id)
    await shop.releases.retry(["odd", "fine"], actor="ada")
    await refuse_writes(shop, "orders", "order_id", "odd")
    for _ in range(12):
        shop.clock.advance(1000)
        await shop.releases.run_due()
    assert (await shop.release("fine")).state == "DONE"
    job = await shop.release("odd")
    assert (job.state, job.attempts) == ("FAILED", 8)
    assert job.last_error.startswith("RELEASE_FAILED: Its end could not be recorded. IntegrityError")
    assert counted == ["releases"] * 8
    await accept_writes(shop)
    await shop.releases.retry(["odd"], actor="ada")
    await shop.quiesce()
    assert (await shop.release("odd")).state == "DONE"
    assert await shop.open_reasons("odd") == []


# ---------------------------------------------------------- bulk jobs


class BreakingAction:
    """An action whose parts a test can break."""

    def __init__(self, *, bad=None, breaks=()):
        self.bad, self.breaks = bad, breaks
        self.has_ended = set()

    def guarded_by(self, bulk_job):
        if "step" in self.breaks and bulk_job.job_id == self.bad:
            raise Unforeseen("nobody thought of this")

    async def act(self, bulk_job, item):
        return ItemResult(BulkItemState.ACCEPTED)

    def follow(self, connection, bulk_job, items):
        if "follow" in self.breaks and self.bad in {item.item_id for item in items}:
            raise Unforeseen("nobody thought of this")
        return {item.item_id: ItemResult(BulkItemState.CONFIRMED) for item in items}

    def new_failures(self, connection, bulk_job, since):
        return 0


def a_runner(shop, actions):
    return BulkRunner(
        shop.context,
        actions,
        lambda _: Gate(),
        POLICY.confirmation_timeout,
        "runner-1",
        monotonic=shop.monotonic,
    )


async def test_an_item_of_which_nobody_can_tell_the_end_keeps_none_of_the_others_waiting(shop, counted):
    ids = [(await failed_release(shop, f"order-{number}")).order_id for number in range(3)]
    await begin(shop, ids, stage=3)
    runner = a_runner(shop, {"retry_release": BreakingAction(bad="order-1", breaks=("follow",))})
    for _ in range(4):
        await runner.run_due()
        shop.clock.advance(2)
    assert await states(shop) == {"CONFIRMED": 2, "UNANSWERED": 1}
    assert (await job_items(shop))["order-1"].detail == "Accepted, and not known how it ended: Unforeseen."
    assert counted == ["operations"]


async def test_a_bulk_job_whose_rounds_raise_is_stopped_and_blocks_no_other(shop, counted):
    ids = [(await failed_release(shop, f"order-{number}")).order_id for number in range(4)]
    await begin(shop, ids[:2], job_id="op-bad")
    await begin(shop, ids[2:], job_id="op-good")
    breaking = BreakingAction(bad="op-bad", breaks=("step",))
    runner = a_runner(shop, {"retry_release": breaking})
    for _ in range(10):
        await runner.run_due()
        shop.clock.advance(20)
    assert (await look(shop, "op-good")).state == "DONE"
    stopped = await look(shop, "op-bad")
    assert stopped.state == "STOPPED"
    assert stopped.note == (
        f"Stopped by itself: {TRIES} rounds in a row failed unexpectedly. Unforeseen: nobody thought of this"
    )
    assert counted == ["operations"] * TRIES
    breaking.breaks = ()
    await shop.bulk_control.apply_control("op-bad", "resume", actor="ada", action_id="a-1")
    for _ in range(6):
        await runner.run_due()
        shop.clock.advance(70)
    assert (await look(shop, "op-bad")).state == "DONE"


# --------------------------------------------------------------------- drills


async def test_a_drill_that_never_gets_on_is_given_up_and_the_next_one_runs(shop):
    switches = Switches()
    runner = runner_of(shop, switches)
    await start(runner)
    await shop.real_database.write(lambda c: c.exec_driver_sql("UPDATE drills SET phase = 'DREAMING'"))
    for _ in range(DRILL_TRIES):
        with pytest.raises(ValueError, match="DREAMING"):
            await runner.run_next()
    ended = await shop.real_database.read(lambda c: sandbox.get(c, "d-1"))
    assert (ended.phase, ended.report["completed"]) == ("DONE", False)
    assert ended.report["why"].startswith(f"It was given up: {DRILL_TRIES} steps in a row failed unexpectedly.")
    assert [entry.action for entry in await shop.audit()].count("FINISH_DRILL") == 1
    await start(runner, drill_id="d-2")
    assert await runner.run_next()


async def test_a_drill_whose_steps_fail_now_and_then_is_not_given_up(shop):
    class Flaky(Switches):
        is_broken = False

        async def faults(self):
            if self.is_broken:
                raise Unforeseen
            return await super().faults()

    switches = Flaky()
    runner = runner_of(shop, switches)
    await start(runner)
    for _ in range(3):
        switches.is_broken = True
        for _ in range(DRILL_TRIES - 1):
            with pytest.raises(Unforeseen):
                await runner.run_next()
        switches.is_broken = False
        await runner.run_next()
    assert (await shop.real_database.read(lambda c: sandbox.get(c, "d-1"))).phase == "RUNNING"
