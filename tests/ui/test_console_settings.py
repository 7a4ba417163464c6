"""The console's settings are ones that the installed Streamlit knows."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit import config

FILE = Path(__file__).resolve().parents[2] / ".streamlit" / "config.toml"


def options(table: dict[str, Any], section: str) -> Iterator[str]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from options(value, f"{section}.{name}")
        else:
            yield f"{section}.{name}"


def test_every_setting_is_known_to_streamlit() -> None:
    # One of them is hidden, so that an upgrade may drop it without a word.
    known = config.get_config_options()
    settings = tomllib.loads(FILE.read_text())
    assert [name for section, table in settings.items() for name in options(table, section) if name not in known] == []


def test_no_garbage_is_collected_after_every_refresh() -> None:
    assert tomllib.loads(FILE.read_text())["runner"]["postScriptGC"] is False


@pytest.mark.parametrize("name", ["light", "dark"])
def test_what_charts_draw_and_write_can_be_seen_on_its_page(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FILE.parents[1] / "pages")
    import pages.parts.charts  # type: ignore[import-not-found]

    theme = tomllib.loads(FILE.read_text())["theme"][name]
    colors = {"light": pages.parts.charts.LIGHT, "dark": pages.parts.charts.DARK}[name]
    assert colors["page"] == theme["backgroundColor"]
    assert colors["ink"] == theme["textColor"]
    assert colors["quiet"] == theme["grayTextColor"]
    assert all(colors[tone] == theme[f"{tone}Color"] for tone in ("blue", "orange", "red", "green", "violet", "gray"))
    drawn = {tone: contrast(color, colors["page"]) for tone, color in colors.items() if tone not in ("page", "faded")}
    assert {tone: ratio for tone, ratio in drawn.items() if ratio < 3} == {}
    written = {tone: drawn[tone] for tone in ("ink", "quiet", "red", "orange")}
    assert {tone: ratio for tone, ratio in written.items() if ratio < 4.5} == {}


def contrast(one: str, other: str) -> float:
    """That of WCAG 2.2, 1.4.3, of two colours written as #RRGGBB."""
    faint, strong = sorted((_luminance(one), _luminance(other)))
    return (strong + 0.05) / (faint + 0.05)


def _luminance(color: str) -> float:
    parts = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
