"""Background loops of the worker: repeat rounds of work; log and count failed rounds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

logger = logging.getLogger("holdfast.loops")

LONGEST_PAUSE_SECONDS = 10.0
RESTART_SECONDS = 1.0

OnFailure = Callable[[], None]
"""Callback: counts a failed round."""


def _uncounted() -> None:
    """Default of ``OnFailure``: count nothing."""


class Boundary:
    """Catches, logs and counts every exception of background work."""

    def __init__(self, name: str, on_failure: OnFailure = _uncounted) -> None:
        self._name = name
        self._on_failure = on_failure
        self._last: type[Exception] | None = None
        self.failures = 0
        """Number of consecutive failed runs."""

    async def run(self, work: Callable[[], Awaitable[bool | None]]) -> bool:
        """Run the work and return its result; on an exception, log and count it and return False.

        Consecutive failures of the same type log the traceback only once.
        """
        try:
            more = await work()
        except Exception as error:  # noqa: BLE001 - a boundary: the work is stored, and the next round repeats it
            self.failed(error)
            return False
        self.failures, self._last = 0, None
        return bool(more)

    def failed(self, error: Exception) -> None:
        """Log and count a failure. A failure of the same type as the last one is logged without its traceback."""
        self.failures += 1
        is_new, self._last = type(error) is not self._last, type(error)
        facts = {"loop": self._name, "error": repr(error), "failures": self.failures}
        logger.warning("round_failed", extra=facts, exc_info=error if is_new else None)
        self._on_failure()


async def kept_running(
    name: str,
    run: Callable[[], Awaitable[None]],
    on_failure: OnFailure = _uncounted,
    *,
    pause_seconds: float = RESTART_SECONDS,
) -> None:
    """Call ``run`` until it returns; after an exception, pause and call it again."""
    boundary = Boundary(name, on_failure)
    while True:
        try:
            await run()
        except Exception as error:  # noqa: BLE001 - a boundary: the work starts again
            boundary.failed(error)
            await asyncio.sleep(pause_seconds)
        else:
            return


class Loop:
    """Runs rounds of work. The next round starts at once if the last one returned True, else after a pause."""

    def __init__(self, name: str, run_round: Callable[[], Awaitable[bool]], *, pause_seconds: float) -> None:
        """``run_round``: a coroutine function that returns whether more work waits."""
        self.name = name
        self.rounds = 0
        """Number of finished rounds, including failed rounds."""
        self._run_round = run_round
        self._pause_seconds = pause_seconds
        self._woken = asyncio.Event()
        self._stopping = False

    def wake(self) -> None:
        """Begin the next round now. Call it on the event loop."""
        self._woken.set()

    def stop(self) -> None:
        """Make run() return after the present round."""
        self._stopping = True
        self._woken.set()

    async def run(self, on_failure: OnFailure = _uncounted) -> None:
        """Run rounds until stop()."""
        boundary = Boundary(self.name, on_failure)
        while not self._stopping:
            self._woken.clear()
            more = await boundary.run(self._run_round)
            self.rounds += 1
            if not more:
                await self._rest(self._seconds_after(boundary.failures))

    def _seconds_after(self, failures: int) -> float:
        if failures == 0:
            return self._pause_seconds
        return min(self._pause_seconds * 2.0 ** min(failures, 6), LONGEST_PAUSE_SECONDS)

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return


def full_batches(run: Callable[[], Awaitable[int]], batch_size: int) -> Callable[[], Awaitable[bool]]:
    """Make a round of a Loop from a function that returns the number of handled items.

    After a full batch the round returns True, because more items may wait.
    """

    async def run_round() -> bool:
        return await run() >= batch_size

    return run_round
