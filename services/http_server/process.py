"""Parts that every process uses: the event loop, the orderly stop, and the HTTP server."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
import uvloop
from starlette.applications import Starlette

from services.base.addresses import http_url
from services.base.child_process import die_with_parent
from services.base.file_descriptors import Budget, raise_limit
from services.domain.errors import ConfigurationError
from services.http_server.connection import BoundedConnection
from services.http_server.server import Answering, BoundedServer, Patience

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

ORPHAN_SECONDS = 2.0
"""Time that a process has to stop after the end of its parent; then the process is killed."""

HTTP_GRACE_SECONDS = 1
"""Time that running requests have to end once the process stops."""


USUAL_PATIENCE = Patience()

THREADS_SECONDS = 0.25
"""Time that idle threads have to end."""

logger = logging.getLogger("holdfast.process")

Main = Callable[[asyncio.Event], Awaitable[None]]


def run(main: Main, *, is_supervised: bool) -> None:
    """Run ``main(stop)`` until it returns.

    SIGTERM and SIGINT set ``stop``, and so does the end of the parent of a supervised process.
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    raise_limit()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_until_stopped(main, is_supervised))
    _leave_threads_that_hang()


def _leave_threads_that_hang() -> None:
    """Exit at once if a thread hangs, for example on a silent peer, because the interpreter would wait for it."""
    deadline = time.monotonic() + THREADS_SECONDS
    others = [thread for thread in threading.enumerate() if thread is not threading.current_thread()]
    for thread in others:
        if not thread.daemon:
            thread.join(max(deadline - time.monotonic(), 0.0))
    hanging = [thread.name for thread in others if thread.is_alive() and not thread.daemon]
    if hanging:
        logger.warning("threads_left_hanging", extra={"threads": hanging})
        logging.shutdown()
        os._exit(0)


async def _until_stopped(main: Main, is_supervised: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)

    def orphaned() -> None:
        loop.call_soon_threadsafe(stop.set)

    if is_supervised:
        die_with_parent(orphaned, within_seconds=ORPHAN_SECONDS)
    await main(stop)


@asynccontextmanager
async def serving(
    application: Starlette,
    listener: socket.socket,
    budget: Budget | None = None,
    patience: Patience = USUAL_PATIENCE,
) -> AsyncIterator[str]:
    """Serve HTTP while the block runs; yields the base URL.

    With ``budget`` None, the budget is computed from the process's limit of open files.
    """
    config = uvicorn.Config(
        Answering(application),
        http=BoundedConnection,
        ws="none",
        lifespan="off",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        log_config=None,
        log_level=logging.WARNING,
        timeout_graceful_shutdown=HTTP_GRACE_SECONDS,
    )
    server = BoundedServer(config, budget or Budget.of_process(), patience)
    running = asyncio.create_task(server.serve([listener]))
    try:
        await server.listening.wait()
        yield http_url(*listener.getsockname()[:2])
    finally:
        server.should_exit = True
        await running


def listen(host: str, port: int) -> socket.socket:
    """Bind an IPv4 or IPv6 address; raises OSError when it is in use. Port 0 binds a free port."""
    bare = host.strip().removeprefix("[").removesuffix("]")
    family, kind, _, _, address = socket.getaddrinfo(
        bare or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        if family == socket.AF_INET6:
            # "::" must accept IPv4 too, independent of the kernel's default.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def ensure_free(host: str, port: int) -> None:
    """Raise ConfigurationError when the address of the API is in use or cannot be bound."""
    try:
        listen(host, port).close()
    except OSError as error:
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
        raise ConfigurationError(
            f"API_HOST, API_PORT: {host}:{port} {reason}; allowed: an address of this machine nobody listens on"
        ) from None


def ensure_writable(data_dir: Path) -> None:
    """Create a missing DATA_DIR. Raises ConfigurationError when it is not writable."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=data_dir):
            return
    except OSError as error:
        raise ConfigurationError(
            f"DATA_DIR: {str(data_dir)!r} cannot be used ({error.strerror}); allowed: a directory to write to"
        ) from None
