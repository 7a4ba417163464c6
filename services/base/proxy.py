"""The proxy and the certificates of every outgoing HTTP connection.

HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY and ``.netrc`` are ignored. Connections are direct, or pass OUTGOING_PROXY
unless the host is on this machine or matches OUTGOING_NO_PROXY. Certificates are checked against the system's store, or
against SSL_CERT_FILE and SSL_CERT_DIR.

Clients based on aiohttp (Inventory Service, payment gateway, webhook) and httpx (sandbox) apply the proxy where they
open connections. Clients based on requests (Prometheus, OTLP) use ``requests_session``.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

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
