"""Whatever stands in the address of a page, the page opens."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote_plus

import pytest
from streamlit.testing.v1 import AppTest

from state.database import Database
from tests.ui.conftest import PAGES

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

MOST_CHARACTERS = 400_000
"""Of an address here: Streamlit passes over longer ones, and those of more than 1 000 parameters, with a warning."""

NAMES = frozenset({*_words(), *(f"{list_}_{side}" for list_ in ("orders", "events", "audit", "stock") for side in
                             ("before", "after", "held"))})  # fmt: skip


def test_the_names_are_those_of_the_pages() -> None:
    assert {"order", "case", "release", "job", "q", "view", "section", "incident", "operation", "drill"} <= NAMES


def addresses(value: str, known: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Addresses in which every name has the value; several where one would be longer than Streamlit reads."""
    names = sorted(NAMES - {"page"} - set(known))
    room = max(MOST_CHARACTERS // (len(quote_plus(value)) + 40), 1)
    for start in range(0, len(names), room):
        yield dict.fromkeys(names[start : start + room], value) | known


@pytest.mark.parametrize("known", [{}, KNOWN], ids=["all", "details"])
@pytest.mark.parametrize("page", PAGES)
def test_a_page_opens_whatever_its_address_says(
    busy: Database, show: Callable[..., AppTest], caplog: pytest.LogCaptureFixture, page: str, known: dict[str, str]
) -> None:
    # checked() of the fixture fails for a page with an exception.
    for value in HOSTILE:
        for address in addresses(value, known):
            assert show(page, **address).title
    assert "Ignoring query string" not in caplog.text
