"""What each failure of aiohttp means to a caller who must know whether the request was sent."""

from __future__ import annotations

import aiohttp
import httpx
import pytest
from aiohttp import client_exceptions, http_exceptions

from services.clients.http.transport import meaning_of

MEANINGS: dict[str, type[httpx.TransportError]] = {
    "ClientConnectionError": httpx.RemoteProtocolError,
    "ClientConnectionResetError": httpx.WriteError,
    "ClientConnectorCertificateError": httpx.ConnectError,
    "ClientConnectorDNSError": httpx.ConnectError,
    "ClientConnectorError": httpx.ConnectError,
    "ClientConnectorSSLError": httpx.ConnectError,
    "ClientError": httpx.RemoteProtocolError,
    "ClientHttpProxyError": httpx.ConnectError,
    "ClientOSError": httpx.ReadError,
    "ClientPayloadError": httpx.RemoteProtocolError,
    "ClientProxyConnectionError": httpx.ConnectError,
    "ClientResponseError": httpx.RemoteProtocolError,
    "ClientSSLError": httpx.ConnectError,
    "ConnectionTimeoutError": httpx.ConnectTimeout,
    "ContentTypeError": httpx.RemoteProtocolError,
    "InvalidURL": httpx.UnsupportedProtocol,
    "InvalidUrlClientError": httpx.UnsupportedProtocol,
    "InvalidUrlRedirectClientError": httpx.RemoteProtocolError,
    "NonHttpUrlClientError": httpx.UnsupportedProtocol,
    "NonHttpUrlRedirectClientError": httpx.RemoteProtocolError,
    "RedirectClientError": httpx.RemoteProtocolError,
    "ServerConnectionError": httpx.RemoteProtocolError,
    "ServerDisconnectedError": httpx.RemoteProtocolError,
    "ServerFingerprintMismatch": httpx.ConnectError,
    "ServerTimeoutError": httpx.ReadTimeout,
    "SocketTimeoutError": httpx.ReadTimeout,
    "TooManyRedirects": httpx.RemoteProtocolError,
    "UnixClientConnectorError": httpx.ConnectError,
    "UploadAbortedError": httpx.WriteError,
    "WSServerHandshakeError": httpx.RemoteProtocolError,
}


def descendants(kind: type[Exception]) -> set[type[Exception]]:
    return {kind}.union(*(descendants(child) for child in kind.__subclasses__()))


def classes_of(module: object, root: type[Exception]) -> set[type[Exception]]:
    return {value for value in vars(module).values() if isinstance(value, type) and issubclass(value, root)}


def test_every_exception_of_the_aiohttp_client_has_the_meaning_written_down_here():
    found = descendants(aiohttp.ClientError) | classes_of(client_exceptions, aiohttp.ClientError)
    ours = {kind for kind in found if kind.__module__.startswith("aiohttp.")}
    assert {kind.__name__: meaning_of(kind) for kind in ours} == MEANINGS


def test_the_only_other_client_exception_belongs_to_websockets():
    others = classes_of(client_exceptions, Exception) - descendants(aiohttp.ClientError)
    assert {kind.__name__ for kind in others if kind.__module__.startswith("aiohttp.")} == {"WSMessageTypeError"}


@pytest.mark.parametrize("kind", sorted(descendants(http_exceptions.HttpProcessingError), key=lambda k: k.__name__))
def test_every_parser_error_means_that_the_request_may_have_run(kind):
    assert meaning_of(kind) is httpx.RemoteProtocolError


@pytest.mark.parametrize(
    ("kind", "meaning"),
    [(TimeoutError, httpx.ReadTimeout), (ConnectionResetError, httpx.ReadError), (OSError, httpx.ReadError)],
)
def test_errors_of_the_socket_itself_mean_that_the_request_may_have_run(kind, meaning):
    assert meaning_of(kind) is meaning
