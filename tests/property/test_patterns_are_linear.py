"""Every regular expression of the product costs time in proportion to its input, whatever the input is."""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.domain import calls
from state import dead_letters

ROOT = Path(__file__).parents[2]
FOLDERS = ("services", "state", "pages")
SHORTEST, LONGEST = 1024, 32 * 1024
ENOUGH_SECONDS = 0.1
"""An input that takes so long has shown how the time grows."""
FLAGS = {"IGNORECASE": re.IGNORECASE, "MULTILINE": re.MULTILINE, "DOTALL": re.DOTALL, "ASCII": re.ASCII}

BUILT = {"pages/parts/labels.py": "alternatives of our own words between word boundaries"}
"""Modules with a pattern that is no literal, and what it consists of."""

HOSTILE = [
    "'", '"', "a", "A", "0", "-", "_", ":", "[", "\\", " ", "é",
    "a-", "A_", "AA_", "a1", "1.", "1-", "a.", "[a", "[0", ":1", "0:", "'a", '"1', "a ", "1 ", "aA", "{a", "x-1-",
    "Circuit breaker ", "2026-01-01T", "12345678-", "0123abcd-1234-", "1ms", "+1.0",
]  # fmt: skip
ENDS = ["", "!"]


def _literal(node: ast.expr) -> str | None:
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return None
    return value if isinstance(value, str) else None


def _flags(call: ast.Call) -> int:
    named = [*call.args[1:], *(keyword.value for keyword in call.keywords)]
    return sum(FLAGS[node.attr] for node in named if isinstance(node, ast.Attribute) and node.attr in FLAGS)


def _calls() -> Iterator[tuple[str, ast.Call]]:
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    owner = node.func.value
                    if isinstance(owner, ast.Name) and owner.id == "re" and node.func.attr != "escape":
                        yield str(path.relative_to(ROOT)), node


CALLS = list(_calls())
PATTERNS = sorted(
    {(where, text, _flags(call)) for where, call in CALLS if (text := _literal(call.args[0])) is not None}
)


def grows_like_its_input(work: Callable[[str], object], unit: str, end: str) -> bool:
    """Whether twice the input takes about twice the time, looked at from short inputs on.

    Only growth is judged, in processor time of this process; what takes less than a few milliseconds is not.
    """

    def text(length: int) -> str:
        return (unit * (length // len(unit) + 1))[:length] + end

    last = None
    length = SHORTEST
    while length <= LONGEST:
        took = _timed(work, text(length))
        if last is not None and last > 0.004 and took > 3.2 * last:
            # Both anew, and the best of several: one slow or lucky run says nothing.
            last, took = (min(_timed(work, text(size)) for _ in range(5)) for size in (length // 2, length))
            if took > 3.2 * last:
                return False
        if last is not None and took > ENOUGH_SECONDS:
            return True
        last, length = took, 2 * length
    return True


def _timed(work: Callable[[str], object], text: str) -> float:
    start = time.process_time()
    work(text)
    return time.process_time() - start


def test_every_pattern_is_a_literal_that_is_looked_at_here():
    built = {where for where, call in CALLS if _literal(call.args[0]) is None}
    assert built == set(BUILT)
    assert len(PATTERNS) > 15


@pytest.mark.parametrize(("where", "pattern", "flags"), PATTERNS, ids=lambda value: str(value)[:60])
def test_a_pattern_costs_time_in_proportion_to_its_input(where, pattern, flags):
    compiled = re.compile(pattern, flags)
    slow = [
        (unit, end)
        for unit in HOSTILE
        for end in ENDS
        if not grows_like_its_input(lambda text: compiled.sub("", text), unit, end)
    ]
    assert slow == [], where


@pytest.mark.parametrize(
    "work",
    [dead_letters.cause_of, calls.stated_code],
    ids=lambda w: w.__module__,
)
def test_what_groups_foreign_texts_reads_their_beginning_only(work):
    slow = [(unit, end) for unit in HOSTILE for end in ENDS if not grows_like_its_input(work, unit, end)]
    assert slow == []


def test_the_measure_itself_finds_a_quadratic_pattern():
    quadratic = re.compile(r"\"[^\"]*\"|\S*\d\S*")
    assert not grows_like_its_input(lambda text: quadratic.sub("", text), "a", "")
