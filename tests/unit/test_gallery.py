"""The pictures that README and gallery show exist, and every page has its own."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "docs" / "pictures"
IMAGE = re.compile(r"!\[[^\]]+\]\(([^)]+\.png)\)")


def shown(document: Path) -> set[Path]:
    return {(document.parent / name).resolve() for name in IMAGE.findall(document.read_text(encoding="utf-8"))}


def test_what_is_shown_exists_and_what_exists_is_shown() -> None:
    gallery = shown(ROOT / "docs" / "gallery.md")
    assert gallery == set(PICTURES.glob("*.png"))
    readme = shown(ROOT / "README.md")
    assert readme
    assert readme <= gallery


def test_every_page_is_shown_in_light_and_dark() -> None:
    pages = {file.stem for file in (ROOT / "pages").glob("*.py")} - {"main", "__init__"}
    names = {file.stem for file in PICTURES.glob("*.png")}
    assert {f"{page}-{theme}" for page in pages for theme in ("light", "dark")} <= names
