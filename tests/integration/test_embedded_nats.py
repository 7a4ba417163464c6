"""The embedded NATS server as a supervised child."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import sys
from pathlib import Path

import pytest

from services.base.supervisor import ChildFailed, ChildState, Supervisor
from services.messaging.embedded import DataDirectoryInUse, EmbeddedNats
from services.messaging.jetstream import ensure_streams
from tests.support.nats_connection import connect
from tests.support.nats_server import eventually, is_running


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_it_starts_with_jetstream_and_a_token_that_only_the_owner_can_read(tmp_path: Path) -> None:
    with EmbeddedNats(tmp_path) as embedded:
        async with Supervisor([embedded.child()], tmp_path):
            connection = await connect([embedded.url], name="test")
            assert await ensure_streams(connection.js)
            await connection.close()
    assert mode(tmp_path / "nats") == 0o700
    assert {mode(tmp_path / "nats" / name) for name in ("token", "port", "server.conf", "lock")} == {0o600}


async def test_address_token_and_messages_outlive_a_restart(tmp_path: Path) -> None:
    urls = []
    for _ in range(2):
        with EmbeddedNats(tmp_path) as embedded:
            async with Supervisor([embedded.child()], tmp_path):
                connection = await connect([embedded.url], name="test")
                await ensure_streams(connection.js)
                await connection.js.publish("order.created", b"{}")
                messages = (await connection.js.stream_info("ORDER_EVENTS")).state.messages
                await connection.close()
        urls.append(embedded.url)
    assert urls[0] == urls[1]
    assert messages == 2


async def test_a_killed_server_comes_back_under_its_address_with_its_messages(tmp_path: Path) -> None:
    with EmbeddedNats(tmp_path) as embedded:
        async with Supervisor([embedded.child()], tmp_path) as supervisor:
            connection = await connect([embedded.url], name="test")
            await ensure_streams(connection.js)
            await connection.js.publish("order.created", b"{}")
            os.kill(supervisor.status()[0].pid or 0, signal.SIGKILL)
            await eventually(lambda: supervisor.status()[0].restarts == 1)
            await eventually(lambda: connection.is_connected)
            assert (await connection.js.stream_info("ORDER_EVENTS")).state.messages == 1
            await connection.close()
        assert supervisor.status()[0].state is ChildState.STOPPED


async def test_a_taken_port_is_given_up_for_another(tmp_path: Path) -> None:
    with EmbeddedNats(tmp_path) as embedded:
        first = embedded.url
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", int(first.rpartition(":")[2])))
        stranger.listen()
        with EmbeddedNats(tmp_path) as embedded:
            assert embedded.url != first
            async with Supervisor([embedded.child()], tmp_path):
                await (await connect([embedded.url], name="test")).close()


def test_a_data_directory_in_use_is_refused_with_its_name(tmp_path: Path) -> None:
    with EmbeddedNats(tmp_path), pytest.raises(DataDirectoryInUse) as caught:
        EmbeddedNats(tmp_path, lock_patience_seconds=0.05).open()
    assert str(caught.value).startswith(f"DATA_DIR: '{tmp_path}' is in use by another Holdfast (process {os.getpid()})")
    EmbeddedNats(tmp_path).open()


async def test_the_server_itself_keeps_the_directory_taken(tmp_path: Path) -> None:
    embedded = EmbeddedNats(tmp_path)
    embedded.open()
    async with Supervisor([embedded.child()], tmp_path):
        embedded.close()
        with pytest.raises(DataDirectoryInUse):
            EmbeddedNats(tmp_path, lock_patience_seconds=0.05).open()
    EmbeddedNats(tmp_path).open()


async def test_a_server_that_cannot_start_states_the_reason(tmp_path: Path) -> None:
    with EmbeddedNats(tmp_path) as embedded:
        child = embedded.child()
        (tmp_path / "nats" / "server.conf").write_text("jetstream { store_dir: }")
        with pytest.raises(ChildFailed, match=r"nats-server ended with code 1 .*\n.*server\.conf"):
            await Supervisor([child], tmp_path).start()


def test_its_child_needs_an_open_directory(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"open\(\) comes first"):
        EmbeddedNats(tmp_path).child()


PARENT = """
import asyncio, sys
from pathlib import Path
from services.messaging.embedded import EmbeddedNats
from services.base.supervisor import Child, Supervisor
CHILD = '''
import threading
from services.base.child_process import die_with_parent
gone = threading.Event()
die_with_parent(gone.set)
gone.wait()
'''
async def main():
    data_dir = Path(sys.argv[1])
    embedded = EmbeddedNats(data_dir)
    embedded.open()
    python = Child(name="python", argv=(sys.executable, "-c", CHILD))
    async with Supervisor([embedded.child(), python], data_dir) as supervisor:
        print(*(status.pid for status in supervisor.status()), flush=True)
        await asyncio.Event().wait()
LOOP
"""
LOOPS = {
    "asyncio": "asyncio.run(main())",
    "uvloop": "import uvloop; uvloop.run(main())",
}


@pytest.mark.parametrize("loop", LOOPS)
async def test_everything_ends_when_the_parent_is_killed(tmp_path: Path, loop: str) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT.replace("LOOP", LOOPS[loop]), tmp_path, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pids = [int(pid) for pid in (await parent.stdout.readline()).split()]
    assert len(pids) == 2
    assert all(map(is_running, pids))
    parent.kill()
    await parent.wait()
    await eventually(lambda: not any(map(is_running, pids)))
    EmbeddedNats(tmp_path).open()
