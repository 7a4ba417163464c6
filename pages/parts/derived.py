"""Values derived from a reading, computed once and shared by all viewers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

S = TypeVar("S")
T = TypeVar("T")


class Derived(Generic[S, T]):
    """A pure function of a reading's value that caches its last result.

    One result is enough, because all open pages draw the same value until the next load. The threads of the pages
    share the result, so it must not be changed.
    """

    def __init__(self, make: Callable[[S], T]) -> None:
        self._make = make
        self._last: tuple[S, T] | None = None

    def of(self, source: S) -> T:
        """The result for ``source``, which is compared by identity."""
        last = self._last
        if last is None or last[0] is not source:
            last = self._last = (source, self._make(source))
        return last[1]
