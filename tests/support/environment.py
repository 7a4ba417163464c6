"""The environment that tests run in: files in memory, and no settings of the developer, whatever the shell exports."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from services.base.settings import Settings

PREFIXES = ("HOLDFAST_", "OTEL_", "SANDBOX_", "STREAMLIT_")


MEMORY = Path("/dev/shm")
ROOM = 2 * 1024**3
"""Bytes that have to be free there; containers often have 64 MiB."""


def write_into_memory() -> None:
    """Put what tests write where a commit waits for no disk, unless TMPDIR says where it belongs."""
    if "TMPDIR" not in os.environ and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= ROOM:
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)


def forget_settings() -> None:
    """Take everything from the environment, and so from that of every child, that Holdfast would be set up by."""
    ours = {name.upper() for name in Settings.model_fields}
    for name in list(os.environ):
        if name.upper() in ours or name.upper().startswith(PREFIXES):
            del os.environ[name]
