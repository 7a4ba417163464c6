"""What the kernel says of another process, and when it listens."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path


def cpu_seconds(pid: int) -> tuple[float, float]:
    """User and system time since its start."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    ticks = os.sysconf("SC_CLK_TCK")
    return int(fields[11]) / ticks, int(fields[12]) / ticks


def rss_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def listening(port: int):
    """A Child's ready(): returns when something accepts connections on the port."""

    async def ready() -> None:
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return

    return ready
