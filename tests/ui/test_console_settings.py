"""The console's settings are ones that the installed Streamlit knows."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
