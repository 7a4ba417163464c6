"""The version of this build."""

from __future__ import annotations

VERSION = "0.2.0"
