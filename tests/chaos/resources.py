"""Faults in what the stack stands on: the broker's store, the database, open files, credentials."""

from __future__ import annotations

import asyncio
import random
import resource
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import nats
import nats.errors
import psycopg
from nats.js.errors import NotFoundError
from psycopg import sql

from services.base.identity import utc_now
from services.messaging.jetstream import STREAMS
from tests.chaos.stack import HOLDFAST, REACTION_SECONDS, LiveStack, until
from tests.support.postgres_server import conninfo_of

SPARE_FILES = 2
"""Files that a worker under the limit may still open: too few for one request and its inventory call."""


async def delete_streams(stack: LiveStack, _: random.Random, __: float) -> None:
    """Delete every stream of Holdfast; returns when they exist again."""
    async with await nats.connect(_nats_url(stack)) as client:
        js = client.jetstream(timeout=2.0)
        for plan in STREAMS:
            with suppress(NotFoundError):
                await js.delete_stream(plan.name)
    await _streams_exist(stack)


async def wipe_broker(stack: LiveStack, _: random.Random, __: float) -> None:
    """Kill the broker and delete its whole store; returns when it is back with all streams."""
    pid = await stack.running("nats-server")
    await stack.signal("nats-server", signal.SIGKILL)
    shutil.rmtree(stack.folder / "var" / "nats" / "js", ignore_errors=True)
    await stack.running("nats-server", instead_of=pid)
    await _streams_exist(stack)


async def _streams_exist(stack: LiveStack) -> None:
    async def exist() -> bool:
        try:
            async with await nats.connect(_nats_url(stack), connect_timeout=1, allow_reconnect=False) as client:
                for plan in STREAMS:
                    await client.jetstream(timeout=1.0).stream_info(plan.name)
        except (nats.errors.Error, OSError):
            return False
        return True

    await until(exist, 2 * REACTION_SECONDS, stack.logs)
    stack.streams_made_at = utc_now()


def _nats_url(stack: LiveStack) -> str:
    home = stack.folder / "var" / "nats"
    return f"nats://{(home / 'token').read_text().strip()}@127.0.0.1:{(home / 'port').read_text().strip()}"


async def lock_database(stack: LiveStack, _: random.Random, seconds: float) -> None:
    """Another program holds SQLite's write lock for so long; on a server, the database is read-only meanwhile."""
    if stack.database_url is None:
        await asyncio.to_thread(_hold_write_lock, stack.folder / "var" / HOLDFAST, seconds)
    else:
        with _read_only(stack.database_url):
            await asyncio.sleep(seconds)


def _hold_write_lock(path: Path, seconds: float) -> None:
    with closing(sqlite3.connect(path, isolation_level=None, timeout=REACTION_SECONDS)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        time.sleep(seconds)
        connection.execute("ROLLBACK")


@contextmanager
def _read_only(url: str) -> Iterator[None]:
    """What clients meet after a fail-over to a server that takes no writes: present and new sessions alike."""
    _make_default(url, "on")
    try:
        yield
    finally:
        _make_default(url, "off")


def _make_default(url: str, value: str) -> None:
    with psycopg.connect(conninfo_of(url), autocommit=True) as connection:
        # This session has to be able to undo it.
        connection.execute("SET default_transaction_read_only = off")
        name = connection.info.dbname
        setting = sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = {}")
        connection.execute(setting.format(sql.Identifier(name), sql.Literal(value)))
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
            [name],
        )


async def limit_files(stack: LiveStack, _: random.Random, seconds: float) -> None:
    """The worker may open next to no further file for so long."""
    pid = await stack.running("worker")
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (_highest_file(pid) + 1 + SPARE_FILES, before[1]))
    try:
        await asyncio.sleep(seconds)
    finally:
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def _highest_file(pid: int) -> int:
    return max(int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir())
