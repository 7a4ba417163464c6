"""Readings shared by everybody who looks: loaded at most once per interval, kept when a load fails.

A failed load is remembered as well, so that a hundred open pages do not queue up behind a database
that is away. While one caller loads, the others get what is there.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Generic, TypeVar

from state.engine.source import SourceUnavailable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reading(Generic[T]):
    """The last good value, when it was read, and what has gone wrong since."""

    value: T | None = None
    """None: there has never been a good one."""
    as_of: datetime | None = None
    problem: str | None = None
    """Why the value is not fresh; None of a fresh one."""


@dataclass(slots=True)
class _Entry:
    lock: threading.Lock = field(default_factory=threading.Lock)
    reading: Reading[Any] = field(default_factory=Reading)
    due_at: float = float("-inf")


class Readings:
    """A bounded store of readings by key."""

    def __init__(self, clock: Callable[[], datetime], monotonic: Callable[[], float], *, capacity: int = 256) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._capacity = capacity
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()

    def get(self, key: Hashable, ttl_seconds: float, load: Callable[[], T]) -> Reading[T]:
        """The reading of ``key``, loaded again when it is older than ``ttl_seconds``."""
        entry = self._entry(key)
        if self._monotonic() < entry.due_at:
            return entry.reading
        has_something = entry.reading.as_of is not None or entry.reading.problem is not None
        if not entry.lock.acquire(blocking=not has_something):
            return entry.reading
        try:
            if self._monotonic() >= entry.due_at:
                entry.reading = self._load(entry.reading, load)
                entry.due_at = self._monotonic() + ttl_seconds
            return entry.reading
        finally:
            entry.lock.release()

    def expire(self) -> None:
        """Have everything loaded again at the next look; what is kept stays kept."""
        with self._lock:
            for entry in self._entries.values():
                entry.due_at = float("-inf")

    def _entry(self, key: Hashable) -> _Entry:
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            self._entries.move_to_end(key)
            while len(self._entries) > self._capacity:
                self._entries.popitem(last=False)
            return entry

    def _load(self, last: Reading[T], load: Callable[[], T]) -> Reading[T]:
        try:
            return Reading(load(), self._clock())
        except SourceUnavailable as error:
            return replace(last, problem=str(error))
