"""Supervising real child processes."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvloop

from services.base.child_process import MAX_LOG_BYTES
from services.base.supervisor import Child, ChildFailed, ChildState, Supervisor
from tests.chaos.stack import until
from tests.support.nats_server import eventually, is_running
from tests.support.supervised import read_status

DIARY = """
import signal, sys, time
name, diary = sys.argv[1:3]
def write(word):
    with open(diary, "a") as file: file.write(f"{name} {word}\\n")
def end(*_):
    write("stopped"); sys.exit(0)
signal.signal(signal.SIGTERM, end)
write("started")
time.sleep(60)
"""
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
grandchild = subprocess.Popen(["sleep", "60"])
with open(sys.argv[1], "w") as file: file.write(f"{grandchild.pid} ")
time.sleep(60)
"""
CRASHING = "import sys; print('out of luck', flush=True); sys.exit(3)"


def python(name: str, code: str, *arguments: object, **options: Any) -> Child:
    return Child(name=name, argv=(sys.executable, "-c", code, *map(str, arguments)), **options)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def written(path: Path, line: str) -> Callable[[], Coroutine[Any, Any, None]]:
    async def ready() -> None:
        await eventually(lambda: line in lines(path))

    return ready


def diarist(name: str, diary: Path) -> Child:
    return python(name, DIARY, name, diary, ready=written(diary, f"{name} started"))


async def test_children_start_in_order_and_stop_in_reverse(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    async with Supervisor([diarist(name, diary) for name in "abc"], tmp_path) as supervisor:
        assert lines(diary) == ["a started", "b started", "c started"]
        assert [status.state for status in supervisor.status()] == [ChildState.RUNNING] * 3
    assert lines(diary)[3:] == ["c stopped", "b stopped", "a stopped"]
    assert [(status.pid, status.state) for status in supervisor.status()] == [(None, ChildState.STOPPED)] * 3
    await supervisor.stop()


async def test_others_can_read_the_status_from_the_data_directory(tmp_path: Path) -> None:
    assert read_status(tmp_path) == []
    async with Supervisor([diarist("a", tmp_path / "diary")], tmp_path) as supervisor:
        (status,) = read_status(tmp_path)
        assert [status] == supervisor.status()
        assert status.pid is not None
        assert is_running(status.pid)
    assert read_status(tmp_path)[0].state is ChildState.STOPPED


async def test_a_crashed_child_is_started_again(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    async with Supervisor([diarist("a", diary)], tmp_path) as supervisor:
        first = supervisor.status()[0].pid or 0
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: supervisor.status()[0].restarts == 1)
        await eventually(lambda: supervisor.status()[0].state is ChildState.RUNNING)
        assert supervisor.status()[0].pid != first
        await eventually(lambda: lines(diary) == ["a started", "a started"])


async def test_restarts_of_a_child_that_keeps_crashing_come_slower_and_slower(tmp_path: Path) -> None:
    times: list[float] = []

    async def ready() -> None:
        times.append(asyncio.get_running_loop().time())

    async with Supervisor([python("a", CRASHING, ready=ready)], tmp_path) as supervisor:
        await eventually(lambda: len(times) == 4)
        assert supervisor.status()[0].restarts == 3
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert pauses[0] >= 0.2
    assert pauses[1] >= 0.4
    assert pauses[2] >= 0.8


async def test_stopping_ends_the_wait_for_a_restart(tmp_path: Path) -> None:
    async with Supervisor([python("a", CRASHING)], tmp_path) as supervisor:
        await eventually(lambda: supervisor.status()[0].state is ChildState.RESTARTING)
    assert supervisor.status()[0].state is ChildState.STOPPED


async def test_a_child_that_ends_before_it_is_ready_fails_the_start_and_shows_its_log(tmp_path: Path) -> None:
    never = asyncio.Event()
    diary = tmp_path / "diary"

    async def ready() -> None:
        await never.wait()

    supervisor = Supervisor([diarist("a", diary), python("b", CRASHING, ready=ready)], tmp_path)
    with pytest.raises(ChildFailed, match=r"b ended with code 3 .*\nout of luck"):
        await supervisor.start()
    assert lines(diary) == ["a started", "a stopped"]


async def test_a_child_that_never_gets_ready_fails_the_start(tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    child = python("a", DIARY, "a", diary, ready=asyncio.Event().wait, start_seconds=0.3)
    with pytest.raises(ChildFailed, match=r"a was not ready within 0\.3 s"):
        await Supervisor([child], tmp_path).start()


async def test_the_start_of_all_children_is_bounded_together(tmp_path: Path) -> None:
    child = python("a", DIARY, "a", tmp_path / "diary", ready=asyncio.Event().wait)
    supervisor = Supervisor([child], tmp_path, start_seconds=0.3)
    with pytest.raises(ChildFailed, match=r"not all children were ready within 0\.3 s"):
        await supervisor.start()
    assert supervisor.status()[0].state is ChildState.STOPPED


async def test_an_absent_program_fails_the_start(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        await Supervisor([Child(name="a", argv=("no-such-program",))], tmp_path).start()


async def test_a_child_that_ignores_the_signal_is_killed_with_what_it_started(tmp_path: Path) -> None:
    notes = tmp_path / "pid"

    async def ready() -> None:
        await eventually(lambda: notes.exists() and notes.read_text().endswith(" "))

    async with Supervisor([python("a", STUBBORN, notes, ready=ready, grace_seconds=0.2)], tmp_path) as supervisor:
        pids = [supervisor.status()[0].pid or 0, int(notes.read_text())]
        assert all(map(is_running, pids))
    await eventually(lambda: not any(map(is_running, pids)))


async def test_stopping_many_stubborn_children_takes_no_longer_than_allowed(tmp_path: Path) -> None:
    notes = [tmp_path / name for name in "abc"]

    def ready(note: Path) -> Callable[[], Coroutine[Any, Any, None]]:
        return lambda: eventually(lambda: note.exists() and note.read_text().endswith(" "))

    children = [python(note.name, STUBBORN, note, ready=ready(note)) for note in notes]
    supervisor = Supervisor(children, tmp_path, stop_seconds=1.5)
    await supervisor.start()
    pids = [status.pid or 0 for status in supervisor.status()]
    began = asyncio.get_running_loop().time()
    await supervisor.stop()
    assert asyncio.get_running_loop().time() - began < 4.0
    assert not any(map(is_running, pids))


SELF_PORTRAIT = """
import os, sys, time
with open(sys.argv[1], "w") as file: file.write(f"{os.getsid(0) == os.getpid()} {os.environ['COLOUR']}\\n")
time.sleep(60)
"""


async def test_a_child_has_a_session_and_an_environment_of_its_own(tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    child = python("a", SELF_PORTRAIT, answer, env={"COLOUR": "blue"}, ready=written(answer, "True blue"))
    async with Supervisor([child], tmp_path):
        assert lines(answer) == ["True blue"]


async def test_output_goes_to_a_log_that_is_set_aside_when_it_is_large(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "a.log"
    log.parent.mkdir()
    log.write_bytes(b"x" * (MAX_LOG_BYTES + 1))
    async with Supervisor([python("a", CRASHING)], tmp_path):
        await eventually(lambda: lines(log)[:1] == ["out of luck"])
    assert (tmp_path / "logs" / "a.log.1").stat().st_size == MAX_LOG_BYTES + 1


async def test_children_are_started_from_the_main_thread_only(tmp_path: Path) -> None:
    errors: list[BaseException] = []

    def elsewhere() -> None:
        try:
            asyncio.run(Supervisor([python("a", DIARY)], tmp_path).start())
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    await asyncio.to_thread(thread.join)
    assert "main thread" in str(errors[0])


def test_all_of_it_works_on_uvloop(tmp_path: Path) -> None:
    diary = tmp_path / "diary"

    async def scenario() -> None:
        async with Supervisor([diarist(name, diary) for name in "ab"], tmp_path) as supervisor:
            os.kill(supervisor.status()[0].pid or 0, signal.SIGKILL)
            await eventually(lambda: supervisor.status()[0].restarts == 1)
            await eventually(lambda: lines(diary).count("a started") == 2)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())
    assert lines(diary)[-2:] == ["b stopped", "a stopped"]


HANGING = """
import sys, threading, time
from services.base.child_process import die_with_parent
die_with_parent(lambda: open(sys.argv[1], "w").write("told"), within_seconds=0.2)
threading.Event().wait()
"""


async def test_a_child_that_hangs_after_the_end_of_its_parent_is_ended_hard(tmp_path: Path) -> None:
    note = tmp_path / "note"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", HANGING, note, stdin=asyncio.subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.close()
    async with asyncio.timeout(10):
        assert await process.wait() == 1
    assert note.read_text() == "told"


async def test_a_child_that_is_up_and_does_not_work_is_started_again(tmp_path: Path) -> None:
    answers = iter([False])

    async def works() -> bool:
        return next(answers, True)

    child = replace(diarist("a", tmp_path / "diary"), works=works)
    async with Supervisor([child], tmp_path) as supervisor:
        first = supervisor.status()[0].pid or 0
        await eventually(lambda: supervisor.status()[0].restarts == 1)
        await eventually(lambda: supervisor.status()[0].state is ChildState.RUNNING)
        assert not is_running(first)
        await eventually(lambda: lines(tmp_path / "diary") == ["a started", "a stopped", "a started"])
        assert read_status(tmp_path)[0].not_working == 1


async def test_a_check_that_raises_does_not_end_its_child(tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def works() -> bool:
        asked.set()
        raise OSError("no answer")

    child = replace(diarist("a", tmp_path / "diary"), works=works)
    async with Supervisor([child], tmp_path) as supervisor:
        await asked.wait()
        await eventually(lambda: lines(tmp_path / "diary") == ["a started"])
        assert (supervisor.status()[0].state, supervisor.status()[0].not_working) == (ChildState.RUNNING, 0)


@pytest.mark.slow
async def test_the_log_of_a_child_that_goes_on_is_bounded(tmp_path: Path) -> None:
    talking = f"import time; print('x' * {MAX_LOG_BYTES + 1}, flush=True); time.sleep(60)"
    async with Supervisor([python("a", talking)], tmp_path) as supervisor:
        (log,) = (tmp_path / "logs").glob("a.log")
        # Written whole, and then set aside although its writer goes on.
        before = log.with_suffix(".log.1")
        await until(lambda: before.exists() and log.stat().st_size <= MAX_LOG_BYTES, 60.0)
        assert before.stat().st_size > MAX_LOG_BYTES
        assert [status.state for status in supervisor.status()] == [ChildState.RUNNING]
