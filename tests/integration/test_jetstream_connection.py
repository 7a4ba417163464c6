"""The connection to NATS, against a real server."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.base.addresses import free_port
from services.messaging.embedded import find_binary
from services.messaging.jetstream import Connection, ConnectionState, NatsUnavailable
from tests.support.nats_connection import connect
from tests.support.nats_server import NatsServer, eventually


@contextlib.contextmanager
def plain_server(tmp_path: Path, authorization: str) -> Iterator[tuple[subprocess.Popen[bytes], int, Path]]:
    """A nats-server of an operator, with an authorization block of their own."""
    port, config = free_port(tmp_path / "port"), tmp_path / "plain.conf"
    config.write_text(
        f'listen: "127.0.0.1:{port}"\nauthorization {{ {authorization} }}\njetstream {{ store_dir: {tmp_path}/js }}'
    )
    process = subprocess.Popen([find_binary(), "-c", config], stderr=subprocess.DEVNULL)
    try:
        yield process, port, config
    finally:
        process.kill()
        process.wait(10)


async def answers(connection: Connection) -> bool:
    with contextlib.suppress(Exception):
        await connection.client.flush(timeout=1)
        return True
    return False


async def test_a_token_in_the_url_opens_the_connection(nats_url: str) -> None:
    connection = await connect([nats_url], name="test")
    assert await answers(connection)
    await connection.close()
    assert connection.is_closed


async def test_opened_again_it_is_the_same_connection(nats_url: str) -> None:
    connection = await connect([nats_url], name="test")
    client = connection.client
    await connection.open()
    assert connection.client is client
    await connection.close()


async def test_user_and_password_in_the_url_may_be_percent_encoded(tmp_path: Path) -> None:
    with plain_server(tmp_path, 'user: olga, password: "p@ss/word"') as (_, port, _config):
        connection = await connect([f"nats://olga:p%40ss%2Fword@127.0.0.1:{port}"], name="test")
        assert await answers(connection)
        await connection.close()


async def test_a_wrong_token_is_reported_without_showing_any_token(nats_url: str) -> None:
    address = nats_url.rpartition("@")[2]
    with pytest.raises(NatsUnavailable) as caught:
        await connect([f"nats://wrong-token@{address}"], name="test", patience_seconds=2)
    assert "Authorization Violation" in str(caught.value)
    assert address in str(caught.value)
    assert "wrong-token" not in str(caught.value)


async def test_an_absent_server_is_told_with_the_reason(tmp_path: Path) -> None:
    port = free_port(tmp_path / "port")
    with pytest.raises(NatsUnavailable, match=f"127.0.0.1:{port}.*(refused|Connect call failed)"):
        await connect([f"nats://127.0.0.1:{port}"], name="test", patience_seconds=0.5)


async def test_opening_goes_on_in_the_background_until_a_server_comes_up(tmp_path: Path) -> None:
    server = NatsServer(tmp_path)
    changes: list[ConnectionState] = []
    connection = Connection([server.url], name="test", on_change=changes.append)
    opening = asyncio.create_task(connection.open())
    await eventually(lambda: bool(connection._reasons))
    assert not connection.is_connected
    await server.start()
    await opening
    assert await answers(connection)
    await connection.close()
    server.close()
    assert changes == [ConnectionState.CONNECTED, ConnectionState.CLOSED]


async def test_closing_while_still_opening_ends_cleanly(tmp_path: Path) -> None:
    connection = Connection([f"nats://127.0.0.1:{free_port(tmp_path / 'port')}"], name="test")
    opening = asyncio.create_task(connection.open())
    await eventually(lambda: bool(connection._reasons))
    opening.cancel()
    await asyncio.wait({opening})
    await connection.close()
    assert connection.is_closed


async def test_the_connection_outlives_a_killed_server(nats_server: NatsServer) -> None:
    changes: list[ConnectionState] = []
    connection = await connect([nats_server.url], name="test", on_connection_change=changes.append)
    nats_server.kill()
    await eventually(lambda: not connection.is_connected)
    await nats_server.start()
    await eventually(lambda: connection.is_connected)
    assert await answers(connection)
    await connection.close()
    assert changes == ["connected", "disconnected", "connected", "closed"]


async def test_a_client_that_the_server_threw_out_is_replaced(tmp_path: Path) -> None:
    with plain_server(tmp_path, "token: first") as (process, port, config):
        connection = await connect([f"nats://first@127.0.0.1:{port}"], name="test")
        original = config.read_text()
        config.write_text(original.replace("first", "second"))
        process.send_signal(signal.SIGHUP)
        await eventually(lambda: not connection.is_connected)
        config.write_text(original)
        process.send_signal(signal.SIGHUP)
        await eventually(lambda: connection.is_connected)
        assert await answers(connection)
        await connection.close()
