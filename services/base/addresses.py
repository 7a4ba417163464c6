"""Build URLs of listening services and database files, and hide credentials in texts. Pure."""

from __future__ import annotations

import re
from pathlib import Path

EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
"""Wildcard hosts, each with the loopback address that reaches it."""

_WORD = re.compile(r"[^\s\"'<>]+")


def reachable_host(host: str) -> str:
    """Return the host that reaches a server bound to ``host`` from this machine, without brackets."""
    bare = host.strip().removeprefix("[").removesuffix("]")
    return EVERYWHERE.get(bare, bare)


def http_url(host: str, port: int) -> str:
    """Return the base URL that reaches a server bound to ``host`` and ``port`` from this machine."""
    reachable = reachable_host(host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def sqlite_url(path: Path) -> str:
    """Return the SQLAlchemy URL of a database file; state.engine.database.sqlite_file() is its inverse."""
    return "sqlite:///" + str(path).replace("%", "%25").replace("?", "%3F")


def without_credentials(text: str) -> str:
    """Replace user names and passwords of the URLs in a text by ``***``, also where they are badly quoted.

    Time is linear in the length of the text.
    """
    return _WORD.sub(_hidden, text) if "://" in text else text


def _hidden(word: re.Match[str]) -> str:
    url = word[0]
    begin, end = url.find("://") + 3, url.rfind("@")
    return f"{url[:begin]}***{url[end:]}" if 3 <= begin <= end else url
