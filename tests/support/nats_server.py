"""A real NATS server that tests may kill, and waiting for what it brings about."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

from services.base.supervisor import Child
from services.messaging.embedded import EmbeddedNats

PATIENCE_SECONDS = 45.0


async def eventually(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Return as soon as the condition holds; fails after PATIENCE_SECONDS."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            answer = condition()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0.005)


def is_running(pid: int) -> bool:
    """Whether the process exists and is more than an entry that nobody has collected."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return fields.rpartition(")")[2].split()[0] not in "ZX"


class NatsServer:
    """An embedded server that a test may stop, kill and start again on the same port and store."""

    def __init__(self, data_dir: Path) -> None:
        self._embedded = EmbeddedNats(data_dir)
        self._embedded.open()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self._embedded.url

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    async def start(self) -> None:
        child = self._embedded.child()
        self._spawn(child)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await child.ready()

    def _spawn(self, child: Child) -> None:
        self._process = subprocess.Popen(
            child.argv, pass_fds=child.pass_fds, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def kill(self) -> None:
        """As kill -9 does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE_SECONDS)
            self._process = None

    def close(self) -> None:
        self.kill()
        self._embedded.close()
