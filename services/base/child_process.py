"""A child process that inherits only the file descriptors given to it."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from signal import Signals


class ChildProcess:
    """A running process in a session of its own. Create it on the main thread, inside a running loop.

    Event loops let a child inherit descriptors of the parent and copies of its standard streams; ``subprocess``
    closes them.
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
        """Start it. ``env`` is its whole environment, None for that of this process. Raises OSError."""
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = self._loop.create_future()
        self._process = subprocess.Popen(  # noqa: S603 - the command is one of ours
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
        """Wait for the end and return the exit code, negative for a signal; several callers may wait."""
        return await asyncio.shield(self._ended)

    def _collect(self) -> None:
        code = self._process.wait()
        # The loop may have ended before its children.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._note_end, code)

    def _note_end(self, code: int) -> None:
        if not self._ended.done():
            self._ended.set_result(code)
