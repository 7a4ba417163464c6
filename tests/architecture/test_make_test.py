"""``make test`` runs every test once, whatever it is marked with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

MAKEFILE = (Path(__file__).parents[2] / "Makefile").read_text()
RECIPE = MAKEFILE.partition("\ntest:")[2].partition("\n\n")[0]


@pytest.mark.parametrize("marks", [set(), {"slow"}, {"slow", "alone"}])
def test_each_test_is_in_one_of_the_calls(marks: set[str]) -> None:
    calls = re.findall(r'-m "([a-z ]+)"', RECIPE)
    assert len(calls) == RECIPE.count("-m pytest") == 3
    known = {"slow": "slow" in marks, "alone": "alone" in marks}
    assert sum(bool(eval(call, {}, known)) for call in calls) == 1, calls
