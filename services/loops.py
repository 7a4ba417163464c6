"""Work that is repeated for as long as the worker runs, and outlives its own failures."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

logger = logging.getLogger("holdfast.loops")

LONGEST_PAUSE_SECONDS = 10.0
RESTART_SECONDS = 1.0


async def kept_running(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run until ``run`` returns by itself; what it raises is logged, and it is begun again a second later."""
    while True:
        try:
            await run()
        except Exception as error:
            # A boundary: work without rounds of its own must not end unseen either.
            logger.warning("work_ended_unexpectedly", extra={"work": name}, exc_info=error)
            await asyncio.sleep(RESTART_SECONDS)
        else:
            return


class Loop:
    """Runs rounds of some work; at once again while a round says that more waits, else after a pause."""

    def __init__(self, name: str, run_round: Callable[[], Awaitable[bool]], *, pause_seconds: float) -> None:
        """``run_round`` returns whether more work waits."""
        self._name = name
        self._run_round = run_round
        self._pause_seconds = pause_seconds
        self._woken = asyncio.Event()
        self._stopping = False

    def wake(self) -> None:
        """Begin the next round now; to be called on the loop."""
        self._woken.set()

    def stop(self) -> None:
        """Finish the present round and return from run()."""
        self._stopping = True
        self._woken.set()

    async def run(self) -> None:
        """Run rounds until stop()."""
        failures = 0
        while not self._stopping:
            self._woken.clear()
            try:
                more = await self._run_round()
                failures = 0
            except Exception as error:
                # A boundary: whatever went wrong, the next round finds the work still stored.
                failures, more = failures + 1, False
                logger.warning("round_failed", extra={"loop": self._name, "error": repr(error)}, exc_info=failures == 1)
            if not more:
                await self._rest(self._seconds_after(failures))

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
