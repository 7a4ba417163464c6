"""``python -m tests.chaos.replicated``: Holdfast without console, but with two workers on one database."""

from __future__ import annotations

import asyncio
import os

from services.base import logs
from services.base.settings import Settings
from services.http_server.process import run
from services.runtime.stack import Stack

SECOND = "worker-2"
SECOND_PORT = "API_PORT_OF_THE_SECOND"


class TwoWorkers(Stack):
    """The product's own stack, and another replica of its worker."""

    def _choose(self, with_worker: bool) -> None:
        super()._choose(with_worker)
        port = os.environ[SECOND_PORT]
        self._add_python(SECOND, "services", {"API_PORT": port}, ("127.0.0.1", int(port)), "worker")


async def serve(stop: asyncio.Event) -> None:
    """Run everything until ``stop`` is set."""
    stack = TwoWorkers(Settings.load(), with_worker=True)
    await stack.start()
    try:
        await stop.wait()
    finally:
        await stack.stop()


if __name__ == "__main__":
    logs.configure("WARNING")
    run(serve, is_supervised=False)
