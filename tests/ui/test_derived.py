"""What is worked out of a reading once for everybody."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

PAGES = Path(__file__).resolve().parents[2] / "pages"


def test_it_is_made_once_per_object_and_anew_for_an_equal_other_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(PAGES), *sys.path])
    from pages.parts.time_series import Derived

    made: list[list[int]] = []

    def make(source: list[int]) -> int:
        made.append(source)
        return sum(source)

    derived = Derived(make)
    first = [1, 2]
    assert [derived.of(first), derived.of(first), derived.of([1, 2]), derived.of([5])] == [3, 3, 3, 5]
    assert made == [[1, 2], [1, 2], [5]]
