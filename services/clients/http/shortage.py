"""Distinguishes a shortage in this process from a failure of the called service.

A process without free files, memory, ports or CPU time cannot make calls. Such failures must not open a breaker.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

OUR_ERRNOS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
"""Errors for a lack of files, buffers, memory or local ports."""

OUR_LOOKUP_ERRORS = frozenset({socket.EAI_MEMORY, getattr(socket, "EAI_SYSTEM", socket.EAI_MEMORY)})
"""Lookup errors of the local resolver. They do not show that the name is unknown."""

BEAT_SECONDS = 0.1
"""Interval of the timer on the event loop. Shorter delays of the timer do not count as pauses."""

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def is_our_shortage(error: BaseException) -> bool:
    """Whether ``error`` or one of its causes is an operating system error of this process or machine."""
    return any(_is_ours(found) for found in _chain(error))


def has_no_free_file() -> bool:
    """Whether no file can be opened now. A lookup that fails for lack of files reports an unknown name."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno in OUR_ERRNOS
    return False


def _is_ours(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    if not isinstance(error, OSError):
        return False
    return error.errno in (OUR_LOOKUP_ERRORS if isinstance(error, socket.gaierror) else OUR_ERRNOS)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        found = waiting.pop()
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        inner = getattr(found, "exceptions", ())
        waiting += [found.__cause__, found.__context__, getattr(found, "os_error", None), *inner]


def wall_seconds() -> float:
    """Return monotonic seconds that include the time for which the machine was suspended."""
    return time.clock_gettime(_CLOCK)


class PauseWatch:
    """Measures how long the event loop did not run (SIGSTOP, a suspended machine, a busy process).

    Its timer runs only during ``watched`` blocks.
    """

    def __init__(self, seconds: Callable[[], float] = wall_seconds) -> None:
        self._seconds = seconds
        self._watchers = 0
        self._lost = 0.0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def watched(self) -> Iterator[Callable[[], float]]:
        """Context manager: yields a function that returns the seconds of pauses since the start of the block."""
        if self._watchers == 0:
            self._schedule()
        self._watchers += 1
        before = self._lost
        try:
            yield lambda: self._lost + self._overdue() - before
        finally:
            self._watchers -= 1
            if self._watchers == 0 and self._timer is not None:
                self._timer.cancel()

    def _schedule(self) -> None:
        self._due = self._seconds() + BEAT_SECONDS
        self._timer = asyncio.get_running_loop().call_later(BEAT_SECONDS, self._beat)

    def _beat(self) -> None:
        self._lost += self._overdue()
        self._schedule()

    def _overdue(self) -> float:
        late = self._seconds() - self._due
        return late if late >= BEAT_SECONDS else 0.0
