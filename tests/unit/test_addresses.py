"""Where a service is asked that listens on any address."""

from __future__ import annotations

import pytest

from services.base.addresses import http_url
from services.base.settings import Settings
from services.http_server.process import listen

URLS = {
    "127.0.0.1": "http://127.0.0.1:8600",
    "127.0.0.2": "http://127.0.0.2:8600",
    "192.0.2.7": "http://192.0.2.7:8600",
    "localhost": "http://localhost:8600",
    "0.0.0.0": "http://127.0.0.1:8600",
    "": "http://127.0.0.1:8600",
    "::": "http://[::1]:8600",
    "[::]": "http://[::1]:8600",
    "::1": "http://[::1]:8600",
    "2001:db8::1": "http://[2001:db8::1]:8600",
}


@pytest.mark.parametrize(("host", "url"), URLS.items())
def test_a_service_is_asked_where_it_listens(host: str, url: str) -> None:
    assert http_url(host, 8600) == url
    assert Settings(api_host=host).api_url == url


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "0.0.0.0", "", "localhost", "::1", "[::1]", "::"])
def test_any_address_of_this_machine_can_be_listened_on(host: str) -> None:
    with listen(host, 0) as listener:
        assert listener.getsockname()[1] > 0
