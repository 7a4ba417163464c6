"""The documents name files and functions that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")
HOP = re.compile(r"^\| `([\w.<>]+)` \| \[([\w/.]+)\]", re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file(document: Path) -> None:
    links = LINK.findall(document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_every_hop_of_a_journey_is_a_function_of_its_file() -> None:
    hops = HOP.findall((ROOT / "docs" / "architecture.md").read_text())
    assert len(hops) > 80
    missing = [
        (name, file)
        for name, file in hops
        if not re.search(rf"def {re.escape(name.rpartition('.')[2])}\(", (ROOT / file).read_text())
    ]
    assert missing == []


def test_the_glossary_explains_each_term_once() -> None:
    terms = re.findall(r"^\| ([^|]+) \|", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)[2:]
    assert len(terms) > 40
    assert len(terms) == len(set(terms))
