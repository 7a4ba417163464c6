"""One rule for every connection that this installation opens over HTTP.

Proxies of the environment (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY) and ``.netrc`` are ignored. The addresses in
the settings are asked directly, or through OUTGOING_PROXY where that is set: all but those of this machine and those
under OUTGOING_NO_PROXY. Certificates are checked against the system's store, or against SSL_CERT_FILE and SSL_CERT_DIR
where they are set.

aiohttp (the Inventory Service, the payment gateway, the webhook) and httpx (switches and traffic of the sandbox, which
are on this machine) are made so where they are opened; what is based on requests (Prometheus, OTLP) uses the session
made here.
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
    """Which addresses are asked through which proxy."""

    def __init__(self, url: str | None = None, direct: Iterable[str] = ()) -> None:
        """``url``: of the proxy, its user name and password included. Raises ValueError for an entry that is none.

        ``direct``: what is asked directly. A name stands for itself and what is below it, ``10.0.0.0/8`` for a network.
        """
        self._url = url
        entries = [entry.strip().lower().removeprefix(".") for entry in (*OF_THIS_MACHINE, *direct)]
        self._networks = [ip_network(entry, strict=False) for entry in entries if _is_network(entry)]
        self._names = [entry for entry in entries if not _is_network(entry)]
        if wrong := next((name for name in self._names if not _is_name(name)), None):
            raise ValueError(f"{wrong!r} is no host name, address or network")

    def of(self, host: str | None) -> str | None:
        """The proxy through which a host is asked, given without brackets; None for directly."""
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
"""No proxy for anybody."""


def requests_session(url: str | None = None, proxy: Proxy = DIRECT) -> Session:
    """A session of requests that follows the rule, for what is asked under the address."""
    # Slow to import, and only installations that use Prometheus or OTLP need it.
    from requests import Session

    session = Session()
    session.trust_env = False
    if through := proxy.of(urlsplit(url or "").hostname):
        session.proxies = {"http": through, "https": through}
    # The system's store, or what SSL_CERT_FILE and SSL_CERT_DIR say; requests has a store of its own otherwise.
    store = ssl.get_default_verify_paths()
    session.verify = store.cafile or store.capath or True
    return session
