"""Child processes that are started in order, kept running, and stopped in reverse order.

Source: contract 1; docs/adr/0001.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Self

from services.base.addresses import write_whole
from services.base.child_process import ChildProcess, bound_log, open_log, tail

log = logging.getLogger(__name__)

KILL_RESERVE_SECONDS = 0.2
"""Reserved per child for killing it, out of the time to stop all children."""

FIRST_RESTART_SECONDS = 0.2
LONGEST_RESTART_SECONDS = 5.0
STEADY_SECONDS = 30.0
"""Uptime after which the restart delay of a child is reset to FIRST_RESTART_SECONDS."""

WORKS_ASKED_SECONDS = 2.0
WORKS_SECONDS = 10.0
"""Interval and timeout of the check ``Child.works``."""

LOG_LOOKED_AT_SECONDS = 5.0


class ChildFailed(Exception):
    """A child ended or was not ready in time. The message contains the end of its log."""


class ChildState(StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    """The child crashed; it is started again after a pause."""
    STOPPED = "stopped"


async def _at_once() -> None:
    return


@dataclass(frozen=True, slots=True)
class Child:
    """The definition of a process to supervise."""

    name: str
    """Name of the child and of its log file ``DATA_DIR/logs/<name>.log``."""
    argv: tuple[str, ...]
    env: Mapping[str, str] | None = None
    """Environment of the process; None passes on the environment of the parent."""
    cwd: Path | None = None
    ready: Callable[[], Awaitable[None]] = _at_once
    """Returns when the process is ready. It may poll without limit: the supervisor applies ``start_seconds``."""
    works: Callable[[], Awaitable[bool]] | None = None
    """Called every few seconds while the process runs. On False the process is ended and started again."""
    start_seconds: float = 20.0
    """Time limit of ready()."""
    stop_signal: signal.Signals = signal.SIGTERM
    grace_seconds: float = 5.0
    """Time between stop_signal and SIGKILL."""
    pass_fds: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ChildStatus:
    """Present state of a child."""

    name: str
    pid: int | None
    state: ChildState
    restarts: int
    since: str
    """Start of the present state, UTC."""
    not_working: int = 0
    """How often the process was ended because ``works`` failed."""


class Supervisor:
    """Starts children one after another, each once the previous one is ready, and keeps them running.

    Each child has its own session, so that Ctrl-C reaches the parent only. Its standard input is a pipe that ends when
    the parent ends (see ``die_with_parent``). Use it on the main thread: a parent-death signal is sent when the
    *thread* that forked ends.
    """

    def __init__(
        self, children: Sequence[Child], data_dir: Path, *, start_seconds: float = 60.0, stop_seconds: float = 8.0
    ) -> None:
        self._status_file = data_dir / "run" / "children.json"
        self._start_seconds = start_seconds
        self._stop_seconds = stop_seconds
        self._keepers = [_Keeper(child, data_dir / "logs" / f"{child.name}.log", self._write) for child in children]

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start all children. Raises ChildFailed after stopping them all when one does not become ready."""
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("children must be started from the main thread")
        try:
            async with asyncio.timeout(self._start_seconds):
                for keeper in self._keepers:
                    await keeper.start()
        except BaseException as error:
            await self.stop()
            if isinstance(error, TimeoutError):
                raise ChildFailed(f"not all children were ready within {self._start_seconds:g} s") from None
            raise

    async def stop(self) -> None:
        """Stop all children in reverse order, within stop_seconds in total. A repeated call is allowed."""
        deadline = time.monotonic() + self._stop_seconds
        for still_waiting, keeper in reversed(list(enumerate(self._keepers))):
            await keeper.stop(deadline - time.monotonic() - KILL_RESERVE_SECONDS * (still_waiting + 1))

    def status(self) -> list[ChildStatus]:
        """All children in the order of their start."""
        return [keeper.status for keeper in self._keepers]

    def _write(self) -> None:
        rows = [asdict(status) for status in self.status()]
        try:
            self._status_file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._status_file, json.dumps(rows))
        except OSError as error:
            # Supervision continues on a full disk.
            log.warning("children_status_not_written", extra={"reason": str(error)})


class _Keeper:
    """Keeps one child running."""

    def __init__(self, child: Child, log_file: Path, on_change: Callable[[], None]) -> None:
        self.status = ChildStatus(child.name, None, ChildState.STOPPED, 0, _now())
        self._child = child
        self._log_file = log_file
        self._on_change = on_change
        self._process: ChildProcess | None = None
        self._lifeline: int | None = None
        self._keeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._launch(restarts=0)
        self._keeping = asyncio.create_task(self._keep(), name=f"keep-{self._child.name}")

    async def stop(self, seconds: float) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait({self._keeping})
        await self._end(min(seconds, self._child.grace_seconds))
        self._become(ChildState.STOPPED, pid=None)

    async def _keep(self) -> None:
        delay = FIRST_RESTART_SECONDS
        while True:
            began = time.monotonic()
            await self._wait_for_end()
            if time.monotonic() - began >= STEADY_SECONDS:
                delay = FIRST_RESTART_SECONDS
            self._become(ChildState.RESTARTING, pid=None)
            await asyncio.sleep(delay)
            delay = min(2 * delay, LONGEST_RESTART_SECONDS)
            try:
                await self._launch(restarts=self.status.restarts + 1)
            except (ChildFailed, OSError) as error:
                log.error("child_not_restarted", extra={"child": self._child.name, "reason": str(error)})  # noqa: TRY400 - the message has the cause

    async def _wait_for_end(self) -> None:
        if self._process is not None:
            watching = [
                asyncio.create_task(self._bound_log()),
                asyncio.create_task(self._end_once_it_does_not_work(self._process)),
            ]
            try:
                code = await self._process.wait()
            finally:
                for task in watching:
                    task.cancel()
            log.error("child_ended", extra={"child": self._child.name, "exit_code": code})
            self._forget()

    async def _bound_log(self) -> None:
        while True:
            await asyncio.sleep(LOG_LOOKED_AT_SECONDS)
            try:
                await asyncio.to_thread(bound_log, self._log_file)
            except OSError as error:
                # Supervision continues on a full disk.
                log.warning("log_not_bounded", extra={"file": self._log_file.name, "reason": str(error)})

    async def _end_once_it_does_not_work(self, process: ChildProcess) -> None:
        if self._child.works is None:
            return
        while True:
            await asyncio.sleep(WORKS_ASKED_SECONDS)
            if not await self._is_working(self._child.works):
                break
        log.error("child_does_not_work", extra={"child": self._child.name, "pid": process.pid})
        self.status = replace(self.status, not_working=self.status.not_working + 1)
        self._on_change()
        await self._stop_running(process, self._child.grace_seconds)

    async def _is_working(self, works: Callable[[], Awaitable[bool]]) -> bool:
        try:
            async with asyncio.timeout(WORKS_SECONDS):
                return await works()
        except Exception as error:  # noqa: BLE001 - a boundary: an error of the check itself does not prove that the child fails
            log.warning("child_not_checked", extra={"child": self._child.name, "reason": repr(error)})
            return True

    async def _launch(self, restarts: int) -> None:
        self._become(ChildState.STARTING, pid=None, restarts=restarts)
        self._process = self._spawn()
        self._become(ChildState.STARTING, pid=self._process.pid)
        failure = await self._failure_to_start(self._process)
        if failure is not None:
            await self._end(0)
            raise ChildFailed(f"{self._child.name} {failure}; end of {self._log_file}:\n{tail(self._log_file)}")
        self._become(ChildState.RUNNING, pid=self._process.pid)

    def _spawn(self) -> ChildProcess:
        output = open_log(self._log_file)
        reading, self._lifeline = os.pipe()
        try:
            return ChildProcess(
                self._child.argv,
                env=self._child.env,
                cwd=self._child.cwd,
                stdin=reading,
                output=output,
                pass_fds=self._child.pass_fds,
            )
        except BaseException:
            self._forget()
            raise
        finally:
            os.close(reading)
            os.close(output)

    async def _failure_to_start(self, process: ChildProcess) -> str | None:
        ready = asyncio.ensure_future(self._child.ready())
        ended = asyncio.ensure_future(process.wait())
        try:
            await asyncio.wait({ready, ended}, timeout=self._child.start_seconds, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                return f"ended with code {ended.result()} before it was ready"
            if not ready.done():
                return f"was not ready within {self._child.start_seconds:g} s"
            return None if ready.exception() is None else f"cannot be asked whether it is ready: {ready.exception()!r}"
        finally:
            ready.cancel()
            ended.cancel()

    async def _end(self, grace_seconds: float) -> None:
        """Stop the process. After ``grace_seconds``, kill it and the processes that it started."""
        if self._process is not None and self._process.returncode is None:
            await self._stop_running(self._process, grace_seconds)
        self._forget()

    async def _stop_running(self, process: ChildProcess, grace_seconds: float) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(self._child.stop_signal)
        try:
            await asyncio.wait_for(process.wait(), max(grace_seconds, 0))
        except TimeoutError:
            log.warning("child_killed", extra={"child": self._child.name})
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    def _forget(self) -> None:
        self._process = None
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None

    def _become(self, state: ChildState, *, pid: int | None, restarts: int | None = None) -> None:
        count = self.status.restarts if restarts is None else restarts
        since = self.status.since if state is self.status.state else _now()
        self.status = replace(self.status, pid=pid, state=state, restarts=count, since=since)
        self._on_change()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
