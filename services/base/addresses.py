"""Builds URLs of services and database files, hides credentials in texts, and finds free ports."""

from __future__ import annotations

import os
import random
import re
import socket
from pathlib import Path

EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
"""Wildcard hosts, and for each the loopback address that reaches a server bound to it."""

PORTS = range(20_000, 30_000)
"""Candidate ports. They are below the kernel's ports for outgoing connections, which could take a kept port."""

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
    """Replace user names and passwords of the URLs in a text by ``***``, also unescaped ones that contain ``@``.

    Runs in time linear in the length of the text.
    """
    return _WORD.sub(_hidden, text) if "://" in text else text


def _hidden(word: re.Match[str]) -> str:
    url = word[0]
    begin, end = url.find("://") + 3, url.rfind("@")
    return f"{url[:begin]}***{url[end:]}" if 3 <= begin <= end else url


def free_port(kept_file: Path) -> int:
    """Return the port stored in the file if it is free; otherwise choose a free loopback port and store it."""
    kept = kept_file.read_text("utf-8", "replace").strip() if kept_file.exists() else ""
    if kept.isdecimal() and int(kept) in PORTS and _is_free(int(kept)):
        return int(kept)
    port = next(port for port in random.sample(PORTS, len(PORTS)) if _is_free(port))
    write_whole(kept_file, str(port))
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # Servers set this option too, so lingering connections of an earlier server do not block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except OSError:
            return False
    return True


def write_whole(path: Path, text: str) -> None:
    """Replace a file atomically; only its owner may read it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        # The text may contain paths that are not valid in this locale; surrogateescape writes their original bytes.
        file.write(text.encode("utf-8", "surrogateescape"))
    temporary.replace(path)
