"""Child processes: start, end together with the parent, and log files."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from signal import Signals

MAX_LOG_BYTES = 10 * 2**20


class ChildProcess:
    """A running process in a session of its own. Create it on the main thread, inside a running loop.

    It uses ``subprocess``, which closes inherited file descriptors; the process functions of event loops do not close
    all of them.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None,
        cwd: Path | None,
        stdin: int,
        output: int,
        pass_fds: Sequence[int],
    ) -> None:
        """Start the process. ``env`` replaces the environment; None passes on the environment of this process.

        Raises OSError.
        """
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = self._loop.create_future()
        self._process = subprocess.Popen(  # noqa: S603 - the command comes from this project
            argv,
            env=env,
            cwd=cwd,
            stdin=stdin,
            stdout=output,
            stderr=output,
            close_fds=True,
            pass_fds=pass_fds,
            start_new_session=True,
        )
        self.pid = self._process.pid
        threading.Thread(target=self._collect, name=f"wait-{self.pid}", daemon=True).start()

    @property
    def returncode(self) -> int | None:
        """The exit code; None while the process runs."""
        return self._process.returncode

    def send_signal(self, number: Signals) -> None:
        """Send a signal; does nothing when the process has ended."""
        self._process.send_signal(number)

    async def wait(self) -> int:
        """Wait until the process ends; returns its exit code, negative for a signal. Several callers may wait."""
        return await asyncio.shield(self._ended)

    def _collect(self) -> None:
        code = self._process.wait()
        # The event loop may already be closed.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._note_end, code)

    def _note_end(self, code: int) -> None:
        if not self._ended.done():
            self._ended.set_result(code)


def die_with_parent(on_eof: Callable[[], None], *, within_seconds: float = 10.0) -> None:
    """Call ``on_eof`` on another thread when the parent has ended, and exit ``within_seconds`` later.

    Use it only in a child of a Supervisor. The end of standard input signals the end of the parent, but the standard
    input of a process that a user starts may be at its end from the beginning.
    """

    def watch() -> None:
        # Read the descriptor, not sys.stdin: a daemon thread that holds its lock breaks the end of the interpreter.
        while os.read(0, 4096):
            continue
        on_eof()
        time.sleep(within_seconds)
        os._exit(1)

    threading.Thread(target=watch, name="die-with-parent", daemon=True).start()


def open_log(path: Path) -> int:
    """Open a log for appending. A log above MAX_LOG_BYTES is first renamed and replaces the earlier copy."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def bound_log(path: Path, limit: int = MAX_LOG_BYTES) -> None:
    """Rotate a log above ``limit`` bytes while its writer continues; the copy replaces the earlier copy.

    The writer keeps the file open, so the file is copied and truncated. A line written in between may be lost.
    """
    if path.exists() and path.stat().st_size > limit:
        shutil.copyfile(path, aside := path.with_suffix(".log.1"))
        aside.chmod(0o600)
        os.truncate(path, 0)


def tail(path: Path, limit: int = 2000) -> str:
    """The last ``limit`` bytes of a log file, as text."""
    return path.read_bytes()[-limit:].decode(errors="replace")
