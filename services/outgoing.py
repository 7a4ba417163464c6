"""One rule for every connection that this installation opens over HTTP.

Proxies of the environment (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY) and ``.netrc`` are ignored: the addresses
in the settings are asked directly, loopback included. Certificates are checked against the system's store, or
against SSL_CERT_FILE and SSL_CERT_DIR where they are set.

aiohttp (the Inventory Service, the payment gateway, the webhook) and httpx (switches and traffic of the sandbox) are
made so where they are opened; what is based on requests (Prometheus, OTLP) uses the session made here.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from requests import Session


def requests_session() -> Session:
    """A session of requests that follows the rule."""
    # Slow to import, and only installations that use Prometheus or OTLP need it.
    from requests import Session

    session = Session()
    session.trust_env = False
    session.verify = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR") or True
    return session
