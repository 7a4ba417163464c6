"""One rule for every connection that this installation opens over HTTP.

Proxies of the environment (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY) and ``.netrc`` are ignored: the addresses
in the settings are asked directly, loopback included. Certificates are checked against the system's store, or
against SSL_CERT_FILE and SSL_CERT_DIR where they are set.

aiohttp (the Inventory Service, the payment gateway, the webhook) and httpx (switches and traffic of the sandbox) are
made so where they are opened; what is based on requests (Prometheus, OTLP) uses the session made here.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from requests import Session


def requests_session() -> Session:
    """A session of requests that follows the rule."""
    # Slow to import, and only installations that use Prometheus or OTLP need it.
    from requests import Session

    session = Session()
    session.trust_env = False
    # The system's store, or what SSL_CERT_FILE and SSL_CERT_DIR say; requests has a store of its own otherwise.
    store = ssl.get_default_verify_paths()
    session.verify = store.cafile or store.capath or True
    return session
