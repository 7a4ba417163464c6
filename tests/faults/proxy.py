"""A TCP proxy on loopback that does to connections what networks do, from a thread of its own.

Every fault but cut() lasts as long as its ``with`` block. Bytes are never taken out of the middle of
a connection that lives on: one that lost some is reset when the fault ends.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Literal, Self

HOST = "127.0.0.1"
CHUNK_BYTES = 1 << 16
MAX_LINKS = 256
START_SECONDS = 5.0

Direction = Literal["requests", "answers"]
Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


class TcpProxy:
    """Passes bytes on to a port of this machine, or to the Unix socket at a path."""

    def __init__(self, target: int | str) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self.port = 0
        self.lost_bytes = 0
        """Of all connections, in losing()."""
        # What the links obey; written by tests, read by the proxy's thread.
        self.flowing = asyncio.Event()
        self.lost: Direction | None = None
        self.delay_seconds = 0.0
        self.drip: tuple[int, float] | None = None
        self.cut_after_bytes: int | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._listen())
        self._loop.call_soon_threadsafe(self.flowing.set)
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._go_down())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_SECONDS)
        self._loop.close()

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def links(self) -> int:
        """Connections that are open now."""
        return len(self._links)

    def cut(self) -> None:
        """Reset every open connection; new ones are taken as before."""
        self._run(self._cut_all())

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Nobody listens, and what was open is reset."""
        self._run(self._go_down())
        try:
            yield
        finally:
            self._run(self._listen())

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """A black hole: connections are taken and no byte passes; afterwards all of them do."""
        self._loop.call_soon_threadsafe(self.flowing.clear)
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(self.flowing.set)

    @contextmanager
    def losing(self, direction: Direction) -> Iterator[None]:
        """One direction gets lost: of ``answers``, everything was executed and nobody hears of it."""
        with self._obeying("lost", direction):
            yield
        self._run(self._cut_damaged())

    def slow(self, seconds: float) -> AbstractContextManager[None]:
        """Every answer comes so much later."""
        return self._obeying("delay_seconds", seconds)

    def dripping(self, count: int, seconds: float) -> AbstractContextManager[None]:
        """Answers come ``count`` bytes at a time, with a pause after each."""
        return self._obeying("drip", (count, seconds))

    def cutting_answers(self, after_bytes: int) -> AbstractContextManager[None]:
        """A connection is reset once so many bytes of an answer have passed."""
        return self._obeying("cut_after_bytes", after_bytes)

    @contextmanager
    def _obeying(self, name: str, value: object) -> Iterator[None]:
        before = getattr(self, name)
        setattr(self, name, value)
        try:
            yield
        finally:
            setattr(self, name, before)

    def _run(self, work: Awaitable[None]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(START_SECONDS):
                await work

        asyncio.run_coroutine_threadsafe(bounded(), self._loop).result()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _go_down(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._cut_all()

    async def _cut_all(self) -> None:
        if tasks := [link.reset() for link in self._links]:
            await asyncio.wait(tasks)

    async def _cut_damaged(self) -> None:
        for link in self._links:
            if link.is_damaged:
                link.reset()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if len(self._links) >= MAX_LINKS or task is None:
            writer.close()
            return
        link = _Link(self, task, writer)
        self._links.add(link)
        # Cancelled by a cut: the connection is gone, and that is all.
        with suppress(OSError, asyncio.CancelledError):
            await link.run(reader, self._connect)
        link.abort()
        self._links.discard(link)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, str):
            return await asyncio.open_unix_connection(self._target)
        return await asyncio.open_connection(HOST, self._target)


class _Link:
    """One connection through the proxy."""

    def __init__(self, proxy: TcpProxy, task: asyncio.Task[None], client: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._task = task
        self._writers = [client]
        self.is_damaged = False

    async def run(self, reader: asyncio.StreamReader, connect: Connect) -> None:
        await self._proxy.flowing.wait()
        connecting = asyncio.ensure_future(connect())
        try:
            server_reader, server = await asyncio.shield(connecting)
        except asyncio.CancelledError:
            # Cut while it was being made: it comes to be all the same, and nobody would close it.
            connecting.add_done_callback(_hang_up)
            raise
        self._writers.append(server)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pass_on("requests", reader, server))
            group.create_task(self._pass_on("answers", server_reader, self._writers[0]))

    def reset(self) -> asyncio.Task[None]:
        """Close both ends with RST: the task that ends with them."""
        for writer in self._writers:
            with suppress(OSError):
                linger_zero = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_zero)
        self.abort()
        self._task.cancel()
        return self._task

    def abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _pass_on(self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await self._read(reader):
            if self._proxy.lost == direction:
                self.is_damaged = True
                self._proxy.lost_bytes += len(chunk)
            elif direction == "requests":
                await self._write(writer, chunk)
            else:
                await self._answer(writer, chunk)
        with suppress(OSError):
            writer.write_eof()

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        try:
            chunk = await reader.read(CHUNK_BYTES)
        except OSError:
            self.reset()
            return b""
        # The end of a connection is as invisible as its bytes.
        await self._proxy.flowing.wait()
        return chunk

    async def _answer(self, writer: asyncio.StreamWriter, chunk: bytes) -> None:
        proxy = self._proxy
        await asyncio.sleep(proxy.delay_seconds)
        if proxy.cut_after_bytes is not None:
            await self._write(writer, chunk[: proxy.cut_after_bytes])
            self.reset()
            return
        while proxy.drip is not None and chunk:
            count, seconds = proxy.drip
            await self._write(writer, chunk[:count])
            chunk = chunk[count:]
            await asyncio.sleep(seconds)
        await self._write(writer, chunk)

    async def _write(self, writer: asyncio.StreamWriter, chunk: bytes) -> None:
        with suppress(OSError):
            writer.write(chunk)
            await writer.drain()


def _hang_up(connecting: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> None:
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result()[1].transport.abort()
