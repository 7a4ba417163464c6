"""docs/console.md names what shows each of its rows: the tests are there, and so are the files."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "console.md").read_text()


def test_every_test_named_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", TEXT))
    written = {
        name for file in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", file.read_text())
    }
    assert len(named) > 50
    assert named - written == set()


def test_every_file_named_exists() -> None:
    named = set(re.findall(r"`((?:pages|services|state|docs|tests)/[\w/.-]+)`", TEXT))
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_no_page_injects_styles_or_markup() -> None:
    injecting = [
        file.name
        for file in (ROOT / "pages").rglob("*.py")
        if re.search(r"unsafe_allow_html|st\.html\(|components\.v1|<style", file.read_text())
    ]
    assert injecting == []
