"""A process that another one starts: it gets what it is given and no other descriptor."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from signal import Signals


class ChildProcess:
    """Started at once, in a session of its own; to be made on the main thread, inside a running loop.

    The event loops' own ways to start a process let it inherit what its parent was given and copies of its
    own standard streams; ``subprocess`` closes everything.
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
        """``env``: the whole environment, None for ours. Raises OSError when it cannot be started."""
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
        """None while it runs."""
        return self._process.returncode

    def send_signal(self, number: Signals) -> None:
        """Nothing happens when it has ended."""
        self._process.send_signal(number)

    async def wait(self) -> int:
        """Its exit code once it has ended, negative for a signal; any number may wait."""
        return await asyncio.shield(self._ended)

    def _collect(self) -> None:
        code = self._process.wait()
        # The loop may have ended before its children.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._note_end, code)

    def _note_end(self, code: int) -> None:
        if not self._ended.done():
            self._ended.set_result(code)
