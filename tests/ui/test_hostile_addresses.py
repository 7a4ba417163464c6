"""Whatever stands in the address of a page, the page opens."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from state.engine.database import Database
from tests.support.pages import PAGES

Show = Callable[..., AppTest]

FOLDER = Path(__file__).resolve().parents[2] / "pages"
NAME = re.compile(r"[a-z][a-z_]{0,30}")
HOSTILE = (
    "9999-12-31T23:59:59-05:00~0001-01-01T00:00:00+01:00",
    "-1", "0", "1e400", "9" * 400, "NaN", "null",
    "\x00", "\u202e\u200b", "x" * 10_000, "..", "%2F%00", "'; DROP TABLE orders; --", "[](javascript:alert(1))",
    "1~2~3~4", "~", "{}", "[" * 500, "ORD-1002",
)  # fmt: skip


def _words() -> Iterator[str]:
    """Every short text in the code of the pages that may be the name of a parameter."""
    for path in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and NAME.fullmatch(node.value):
                yield node.value


KNOWN = {"order": "ORD-1002", "case": "REV-3", "job": "ORD-3000"}
"""With these a page shows details as well."""

NAMES = frozenset({*_words(), *(f"{list_}_{side}" for list_ in ("orders", "events", "audit", "stock") for side in
                             ("before", "after", "held"))})  # fmt: skip


def test_the_names_are_those_of_the_pages() -> None:
    assert {"order", "case", "release", "job", "q", "view", "section", "incident", "operation", "drill"} <= NAMES


def addresses(known: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Addresses in which every name stands; taken together, every name has had every value."""
    names = sorted(NAMES - {"page"} - set(known))
    for shift in range(len(HOSTILE)):
        yield {name: HOSTILE[(place + shift) % len(HOSTILE)] for place, name in enumerate(names)} | known


def smallest(address: dict[str, str], breaks: Callable[[dict[str, str]], bool]) -> dict[str, str]:
    """The part of a failing address that fails by itself, halved as long as a half does."""
    pairs = list(address.items())
    halves = [dict(pairs[: len(pairs) // 2]), dict(pairs[len(pairs) // 2 :])]
    failing = next((half for half in halves if half and breaks(half)), None)
    return address if failing is None or len(pairs) == 1 else smallest(failing, breaks)


@pytest.mark.parametrize("known", [{}, KNOWN], ids=["all", "details"])
@pytest.mark.parametrize("page", PAGES)
def test_a_page_opens_with_any_address(
    busy: Database, show: Show, caplog: pytest.LogCaptureFixture, page: str, known: dict[str, str]
) -> None:
    def breaks(address: dict[str, str]) -> bool:
        try:
            # checked() of the fixture fails for a page with an exception.
            return not show(page, **address | known).title
        except AssertionError:
            return True

    for address in addresses(known):
        assert not breaks(address), smallest(address, breaks)
    assert "Ignoring query string" not in caplog.text


def test_what_fails_in_a_long_address_is_found() -> None:
    address = next(addresses({}))
    assert smallest(address, lambda part: "case" in part) == {"case": address["case"]}
    pair = smallest(address, lambda part: {"case", "view"} <= set(part))
    assert {"case", "view"} <= set(pair)
