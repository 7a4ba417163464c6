"""Cached readings, shared by every open page: loaded at most once per interval, kept when a load fails.

A failed load is cached as well, so that a hundred open pages do not queue up behind a database that is down.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Generic, TypeVar

from state.engine.source import SourceUnavailable

T = TypeVar("T")
THREADS = 2
PATIENCE_SECONDS = 0.5
"""How long a page waits for a background load; most loads are done by then."""
RETRY_AFTER_SECONDS = 5.0
"""A background load that failed is tried again after this time, or after its TTL if that is shorter."""

logger = logging.getLogger("holdfast.console")


@dataclass(frozen=True, slots=True)
class Reading(Generic[T]):
    """The last good value, the time of its load, and the problem of a later load."""

    value: T | None = None
    """None until the first successful load."""
    as_of: datetime | None = None
    problem: str | None = None
    """Why the value is not fresh; None for a fresh value."""


@dataclass(slots=True)
class _Entry:
    lock: threading.Lock = field(default_factory=threading.Lock)
    reading: Reading[Any] = field(default_factory=Reading)
    due_at: float = float("-inf")
    loading: Future[None] | None = None


class ReadingCache:
    """A bounded cache of readings by key, loaded by the thread that needs them.

    While one thread loads, the other threads get the previous reading. They wait only if there is none.
    """

    def __init__(self, clock: Callable[[], datetime], monotonic: Callable[[], float], *, capacity: int = 256) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._capacity = capacity
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()

    def get(self, key: Hashable, ttl_seconds: float, load: Callable[[], T]) -> Reading[T]:
        """The reading of ``key``, loaded again when it is older than ``ttl_seconds``."""
        with self._lock:
            entry = self._entry(key)
        if self._monotonic() < entry.due_at:
            return entry.reading
        has_something = entry.reading.as_of is not None or entry.reading.problem is not None
        if not entry.lock.acquire(blocking=not has_something):
            return entry.reading
        try:
            if self._monotonic() >= entry.due_at:
                entry.reading = self._loaded(entry.reading, load)
                entry.due_at = self._monotonic() + ttl_seconds
            return entry.reading
        finally:
            entry.lock.release()

    def expire(self) -> None:
        """Mark every key for a new load at its next use. The values are kept until then."""
        with self._lock:
            for entry in self._entries.values():
                entry.due_at = float("-inf")

    def _entry(self, key: Hashable) -> _Entry:
        """The entry of a key, made if needed; drops the least recently used ones. The caller has the lock."""
        entry = self._entries.setdefault(key, _Entry())
        self._entries.move_to_end(key)
        while len(self._entries) > self._capacity:
            self._entries.popitem(last=False)
        return entry

    def _loaded(self, last: Reading[T], load: Callable[[], T]) -> Reading[T]:
        try:
            return Reading(load(), self._clock())
        except SourceUnavailable as error:
            return replace(last, problem=str(error))


class BackgroundReadingCache(ReadingCache):
    """A cache whose readings are loaded by its own threads, so that no page waits long for a slow source."""

    def __init__(
        self,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        capacity: int = 32,
    ) -> None:
        super().__init__(clock, monotonic, capacity=capacity)
        self._patience_seconds = patience_seconds
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="history")

    def get(self, key: Hashable, ttl_seconds: float, load: Callable[[], T]) -> Reading[T]:
        """The reading of ``key``. It has neither value nor problem while the first load is running."""
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

    def _load(self, entry: _Entry, ttl_seconds: float, load: Callable[[], Any]) -> None:
        try:
            entry.reading = self._loaded(entry.reading, load)
        except Exception:
            # No caller reads the result of this thread, so an unexpected error is logged and shown here.
            logger.exception("reading_failed")
            entry.reading = replace(entry.reading, problem="It could not be read.")
        finally:
            with self._lock:
                wait_seconds = min(ttl_seconds, RETRY_AFTER_SECONDS) if entry.reading.problem else ttl_seconds
                entry.due_at = self._monotonic() + wait_seconds
                entry.loading = None
