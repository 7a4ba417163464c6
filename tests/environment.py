"""The environment that tests run in: without the developer's settings, whatever the shell has exported."""

from __future__ import annotations

import os

from services.settings import Settings

PREFIXES = ("HOLDFAST_", "OTEL_", "SANDBOX_", "STREAMLIT_")


def forget_settings() -> None:
    """Take everything from the environment, and so from that of every child, that Holdfast would be set up by."""
    ours = {name.upper() for name in Settings.model_fields}
    for name in list(os.environ):
        if name.upper() in ours or name.upper().startswith(PREFIXES):
            del os.environ[name]
