"""Addresses: URLs of services and database files, hidden credentials, free ports, and the proxy to other hosts.

HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY and ``.netrc`` are ignored. Connections are direct, or pass OUTGOING_PROXY
unless the host is on this machine or matches OUTGOING_NO_PROXY. Certificates are checked against the system's store, or
against SSL_CERT_FILE and SSL_CERT_DIR.

Clients based on aiohttp (Inventory Service, payment gateway, webhook) and httpx (sandbox) apply the proxy where they
open connections. Clients based on requests (Prometheus, OTLP) use ``requests_session``.
"""

from __future__ import annotations

import os
import random
import re
import socket
import ssl
from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

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


if TYPE_CHECKING:
    from requests import Session

OF_THIS_MACHINE = ("localhost", "127.0.0.0/8", "::1")


def _is_network(entry: str) -> bool:
    try:
        ip_network(entry, strict=False)
    except ValueError:
        return False
    return True


def _is_name(entry: str) -> bool:
    return bool(entry) and all(part.replace("-", "").replace("_", "").isalnum() for part in entry.split("."))


class Proxy:
    """Chooses between a proxy and a direct connection, by host."""

    def __init__(self, url: str | None = None, direct: Iterable[str] = ()) -> None:
        """``url`` may contain credentials; ``direct`` lists the hosts that are reached without the proxy.

        An entry of ``direct`` is a host name, which also matches its subdomains, or a network such as ``10.0.0.0/8``.
        Raises ValueError for any other entry.
        """
        self._url = url
        entries = [entry.strip().lower().removeprefix(".") for entry in (*OF_THIS_MACHINE, *direct)]
        self._networks = [ip_network(entry, strict=False) for entry in entries if _is_network(entry)]
        self._names = [entry for entry in entries if not _is_network(entry)]
        if wrong := next((name for name in self._names if not _is_name(name)), None):
            raise ValueError(f"{wrong!r} is no host name, address or network")

    def of(self, host: str | None) -> str | None:
        """Return the URL of the proxy for a host given without brackets; None for a direct connection."""
        if self._url is None or not host:
            return None
        return None if self._is_direct(host.lower().rstrip(".")) else self._url

    def _is_direct(self, host: str) -> bool:
        try:
            address = ip_address(host)
        except ValueError:
            return any(host == name or host.endswith(f".{name}") for name in self._names)
        return any(address in network for network in self._networks)


DIRECT = Proxy()
"""Connects to every host directly."""


def requests_session(url: str | None = None, proxy: Proxy = DIRECT) -> Session:
    """Return a session of requests with the proxy and the certificate store for ``url``."""
    # The import is slow, and only installations with Prometheus or OTLP need it.
    from requests import Session

    session = Session()
    session.trust_env = False
    if through := proxy.of(urlsplit(url or "").hostname):
        session.proxies = {"http": through, "https": through}
    # Use the certificates of the system, or of SSL_CERT_FILE and SSL_CERT_DIR, not those of requests.
    store = ssl.get_default_verify_paths()
    session.verify = store.cafile or store.capath or True
    return session
