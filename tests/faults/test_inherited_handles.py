"""No child holds what its parent or a sibling has open: sockets, pipes, locks, log files. A real stack, by /proc."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.chaos.stack import CONSOLE, HEADLESS, LiveStack

pytestmark = pytest.mark.slow

SHAREABLE = ("socket:", "pipe:")
"""What has a number of its own in the kernel, the same in every process that has it open."""


@contextmanager
def given_to_the_command(folder: Path) -> Iterator[dict[int, str]]:
    """What a careless parent leaves open for the command: descriptors with what they are."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        log = stack.enter_context((folder / "a log of the parent").open("ab"))
        reading, writing = (
            stack.enter_context(os.fdopen(end, mode)) for end, mode in zip(os.pipe(), "rw", strict=True)
        )
        opened = [listener.fileno(), log.fileno(), reading.fileno(), writing.fileno()]
        yield {number: str(Path(f"/proc/self/fd/{number}").readlink()) for number in opened}


def opened_by(pid: int) -> dict[int, str]:
    """The descriptors of a process and what each is."""
    found = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        # Some are closed while they are looked at.
        with suppress(FileNotFoundError):
            found[int(entry.name)] = str(entry.readlink())
    return found


def problems(stack: LiveStack, launcher: int, children: dict[str, int], given: set[str]) -> list[str]:
    """What the children have open that is not theirs."""
    var, lifelines = stack.folder / "var", {name: opened_by(pid)[0] for name, pid in children.items()}
    by_parent = set(opened_by(launcher).values())
    found = [f"lifelines shared: {lifelines}"] if len(set(lifelines.values())) < len(lifelines) else []
    for name, pid in children.items():
        others = {
            each for other, other_pid in children.items() if other != name for each in opened_by(other_pid).values()
        }
        own_log, lock = str(var / "logs" / f"{name}.log"), str(var / "nats" / "lock")
        for number, what in opened_by(pid).items():
            is_shared = what.startswith(SHAREABLE) and what in by_parent | others and what != lifelines[name]
            is_foreign_log = what.endswith(".log") and what.startswith(str(var / "logs")) and what != own_log
            # The server keeps the lock of its directory, also when its parent is gone.
            is_foreign_lock = what == lock and name != "nats-server"
            if is_shared or is_foreign_log or is_foreign_lock or what in given or (what == lifelines[name] and number):
                found.append(f"{name} has {number} -> {what}")
        if {opened_by(pid)[number] for number in (1, 2)} != {own_log}:
            found.append(f"{name} writes to {opened_by(pid)[1]}, {opened_by(pid)[2]}")
    return found


@pytest.mark.parametrize(
    ("command", "names"),
    [
        (HEADLESS, ("nats-server", "inventory", "payments")),
        (CONSOLE, ("nats-server", "inventory", "payments", "worker", "traffic")),
    ],
    ids=["headless", "console"],
)
async def test_children_have_open_only_what_is_theirs(
    tmp_path: Path, command: tuple[str, ...], names: tuple[str, ...]
) -> None:
    stack = LiveStack(tmp_path, command, SANDBOX_TRAFFIC="1")
    with given_to_the_command(tmp_path) as given:
        stack.pass_fds = tuple(given)
        try:
            await stack.start()
            children = {name: await stack.running(name) for name in names}
            launcher = stack.pid
            # The command itself got them: what the children lack was there to be inherited.
            assert set(given.values()) <= set(opened_by(launcher).values())
            assert problems(stack, launcher, children, set(given.values())) == []
            # One that is started again is forked by a parent that has more open than at its start.
            before = children["inventory"]
            await stack.signal("inventory", signal.SIGKILL)
            children["inventory"] = await stack.running("inventory", instead_of=before)
            assert problems(stack, launcher, children, set(given.values())) == []
        finally:
            await stack.destroy()
