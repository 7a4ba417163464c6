"""Addresses: where a service that listens is asked, how a file is one, and how one is shown. Pure."""

from __future__ import annotations

import re
from pathlib import Path

EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
"""Hosts that mean every address of this machine, and the one that this machine asks then."""

_WORD = re.compile(r"[^\s\"'<>]+")


def reachable_host(host: str) -> str:
    """The host by which this machine reaches what listens on ``host``, without brackets."""
    bare = host.strip().removeprefix("[").removesuffix("]")
    return EVERYWHERE.get(bare, bare)


def http_url(host: str, port: int) -> str:
    """The base URL of what listens on ``host`` and ``port``, as this machine reaches it."""
    reachable = reachable_host(host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def sqlite_url(path: Path) -> str:
    """The URL of a database file under any path; state.engine.database.sqlite_file() reads it."""
    return "sqlite:///" + str(path).replace("%", "%25").replace("?", "%3F")


def without_credentials(text: str) -> str:
    """The text, whose addresses show neither user names nor passwords, also where these were not quoted as they should.

    Takes time in proportion to its length.
    """
    return _WORD.sub(_hidden, text) if "://" in text else text


def _hidden(word: re.Match[str]) -> str:
    said = word[0]
    begin, end = said.find("://") + 3, said.rfind("@")
    return f"{said[:begin]}***{said[end:]}" if 3 <= begin <= end else said
