"""Loops outlive their failures, rest when there is nothing to do, and can be woken and stopped."""

from __future__ import annotations

import asyncio
import logging

import pytest

from services.base.loops import LONGEST_PAUSE_SECONDS, Loop, kept_running


class Rounds:
    """Answers of the rounds, in turn; ``done`` is set when they are used up."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.ran = 0
        self.done = asyncio.Event()

    async def __call__(self):
        self.ran += 1
        answer = self.answers.pop(0)
        if not self.answers:
            self.done.set()
        if isinstance(answer, Exception):
            raise answer
        return answer


async def run(loop: Loop, until: asyncio.Event) -> None:
    task = asyncio.create_task(loop.run())
    async with asyncio.timeout(5):
        await until.wait()
        loop.stop()
        await task


async def test_rounds_follow_each_other_at_once_while_more_waits():
    rounds = Rounds(True, True, True, False)
    await run(Loop("test", rounds, pause_seconds=60), rounds.done)
    assert rounds.ran == 4


async def test_it_rests_between_rounds_that_leave_nothing():
    rounds = Rounds(False, False, False)
    await run(Loop("test", rounds, pause_seconds=0.001), rounds.done)
    assert rounds.ran == 3


async def test_waking_ends_a_rest():
    first, second = asyncio.Event(), asyncio.Event()

    async def round_() -> bool:
        (second if first.is_set() else first).set()
        return False

    loop = Loop("test", round_, pause_seconds=60)
    task = asyncio.create_task(loop.run())
    async with asyncio.timeout(5):
        await first.wait()
        loop.wake()
        await second.wait()
        loop.stop()
        await task


async def test_waking_during_a_round_is_not_lost():
    rounds = 0
    done = asyncio.Event()
    loop: Loop

    async def round_() -> bool:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            loop.wake()
        else:
            done.set()
        return False

    loop = Loop("test", round_, pause_seconds=60)
    await run(loop, done)
    assert rounds == 2


async def test_a_failed_round_is_logged_and_the_next_one_comes(caplog):
    rounds = Rounds(RuntimeError("down"), RuntimeError("down"), False)
    with caplog.at_level(logging.WARNING):
        await run(Loop("test", rounds, pause_seconds=0.001), rounds.done)
    assert [(record.message, record.loop, bool(record.exc_info)) for record in caplog.records] == [
        ("round_failed", "test", True),
        ("round_failed", "test", False),
    ]


async def test_a_failure_of_another_type_is_logged_with_its_own_traceback(caplog):
    rounds = Rounds(RuntimeError("down"), ValueError("odd"), ValueError("odd"), False)
    with caplog.at_level(logging.WARNING):
        await run(Loop("test", rounds, pause_seconds=0.001), rounds.done)
    assert [bool(record.exc_info) for record in caplog.records] == [True, True, False]


async def test_every_failed_round_is_counted_and_no_other():
    failed = []
    rounds = Rounds(True, RuntimeError("down"), False, RuntimeError("down"), False)
    loop = Loop("test", rounds, pause_seconds=0.001)
    task = asyncio.create_task(loop.run(lambda: failed.append(rounds.ran)))
    async with asyncio.timeout(5):
        await rounds.done.wait()
        loop.stop()
        await task
    assert (failed, loop.rounds) == ([2, 4], 5)


async def test_work_without_rounds_is_begun_again_and_counted():
    failed, began = [], []

    async def work() -> None:
        began.append(True)
        if len(began) < 3:
            raise RuntimeError("down")

    await kept_running("test", work, lambda: failed.append(True), pause_seconds=0.001)
    assert (len(began), len(failed)) == (3, 2)


@pytest.mark.parametrize(
    ("failures", "pause"), [(0, 0.5), (1, 1.0), (2, 2.0), (4, 8.0), (5, 10.0), (60, LONGEST_PAUSE_SECONDS)]
)
def test_the_pause_grows_with_the_failures_in_a_row_up_to_a_bound(failures, pause):
    async def nothing() -> bool:
        return False

    assert Loop("test", nothing, pause_seconds=0.5)._seconds_after(failures) == pause


async def test_a_stopped_loop_finishes_its_round_and_runs_no_other():
    entered, go_on = asyncio.Event(), asyncio.Event()
    ended = []

    async def round_() -> bool:
        entered.set()
        await go_on.wait()
        ended.append(True)
        return True

    loop = Loop("test", round_, pause_seconds=60)
    task = asyncio.create_task(loop.run())
    await entered.wait()
    loop.stop()
    go_on.set()
    async with asyncio.timeout(5):
        await task
    assert ended == [True]


async def test_a_loop_stopped_before_it_began_runs_nothing():
    rounds = Rounds(False)
    loop = Loop("test", rounds, pause_seconds=60)
    loop.stop()
    await loop.run()
    assert rounds.ran == 0


async def test_a_cancelled_loop_ends():
    async def forever() -> bool:
        await asyncio.Event().wait()
        return False

    task = asyncio.create_task(Loop("test", forever, pause_seconds=60).run())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
