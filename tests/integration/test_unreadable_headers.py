"""A message whose headers the client library cannot read ends no connection."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import urlsplit

import pytest

from services.messaging.jetstream import STATUS, UNREADABLE


@pytest.mark.parametrize(
    "header", [b"NATS/1.0 \xff\xfe\xfd\r\n\r\n", b"NATS/1.0 404 \xff\xfe\r\n\r\n", b"NATS/1.0 \xc3\xa4\xff x\r\n\r\n"]
)
async def test_a_header_that_the_client_library_cannot_read_ends_no_connection(connection, nats_server, header):
    client = connection.client
    subscription = await client.subscribe("plain")
    await client.flush()
    await send_raw(nats_server.url, "plain", header, b"raw")
    assert (await subscription.next_msg(5)).headers == {STATUS: UNREADABLE}
    await client.publish("plain", b"honest")
    assert (await subscription.next_msg(5)).data == b"honest"
    assert connection.client is client


async def send_raw(url, subject, header, payload):
    """Publish with the bytes given as the header, which no client library would write."""
    parts = urlsplit(url)
    options = {"verbose": False, "headers": True, "pedantic": False}
    if parts.username:
        options |= (
            {"user": parts.username, "pass": parts.password} if parts.password else {"auth_token": parts.username}
        )
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    await reader.readline()
    writer.write(b"CONNECT " + json.dumps(options).encode() + b"\r\n")
    sizes = b" %d %d\r\n" % (len(header), len(header) + len(payload))
    writer.write(b"HPUB " + subject.encode() + sizes + header + payload + b"\r\nPING\r\n")
    async with asyncio.timeout(5):
        assert (await reader.readline()).startswith(b"PONG")
    writer.close()
