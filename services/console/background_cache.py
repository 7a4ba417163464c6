"""Readings that take long: loaded by threads of their own and shared by everybody who looks.

A look waits a moment for what is just being loaded and then takes what is there, so that no page stands
still behind a slow source.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar

from services.console.cache import Reading
from state.engine.source import SourceUnavailable

T = TypeVar("T")
THREADS = 2
PATIENCE_SECONDS = 0.5
"""How long a look waits: most loads are done by then."""
AGAIN_SECONDS = 5.0
"""After this long a load that failed is tried again, however long a good one would serve."""

logger = logging.getLogger("holdfast.console")


@dataclass(slots=True)
class _Entry:
    reading: Reading[Any] = field(default_factory=Reading)
    due_at: float = float("-inf")
    loading: Future[None] | None = None


class BackgroundReadings:
    """A bounded store of readings by key, each loaded by one thread at a time."""

    def __init__(
        self,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        capacity: int = 32,
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._patience_seconds = patience_seconds
        self._capacity = capacity
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="history")

    def get(self, key: Hashable, ttl_seconds: float, load: Callable[[], T]) -> Reading[T]:
        """What is known of ``key``; neither value nor problem means that it is still being loaded."""
        with self._lock:
            entry = self._entry(key)
            if entry.loading is None and self._monotonic() >= entry.due_at:
                entry.loading = self._threads.submit(self._load, entry, ttl_seconds, load)
            loading = entry.loading
        if loading is not None:
            wait([loading], self._patience_seconds)
        return entry.reading

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _entry(self, key: Hashable) -> _Entry:
        entry = self._entries.setdefault(key, _Entry())
        self._entries.move_to_end(key)
        while len(self._entries) > self._capacity:
            self._entries.popitem(last=False)
        return entry

    def _load(self, entry: _Entry, ttl_seconds: float, load: Callable[[], Any]) -> None:
        try:
            entry.reading = Reading(load(), self._clock())
        except SourceUnavailable as error:
            entry.reading = replace(entry.reading, problem=str(error))
        except Exception:
            # A boundary: nobody waits for this thread, so that the failure must be told here.
            logger.exception("reading_failed")
            entry.reading = replace(entry.reading, problem="It could not be read.")
        finally:
            with self._lock:
                wait_seconds = min(ttl_seconds, AGAIN_SECONDS) if entry.reading.problem else ttl_seconds
                entry.due_at = self._monotonic() + wait_seconds
                entry.loading = None
