"""People who look at the console, without their browsers: real sessions over the console's own websocket.

``python -m benchmarks.viewers PORT COUNT`` opens so many Overview pages, prints ``ready``, refreshes each as its
browser's timer would until its standard input ends, and prints the latencies of the refreshes in milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable

import aiohttp
import uvloop

SPREAD_SECONDS = 2.0
"""Viewers come one after another within this time, so that their timers do not strike together."""


class Viewer:
    """One open page."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._page = ""
        self._fragment = ""
        self._kept: set[str] = set()
        self.interval = 0.0

    async def open(self) -> None:
        """The first run of the page, until it has said which part of it is to be refreshed how often."""
        await self._ask()
        while not self._fragment:
            await self._run()

    async def refresh(self) -> float:
        """Ask for the live part again; the seconds until it was there."""
        started = time.perf_counter()
        await self._ask(fragment_id=self._fragment, is_auto_rerun=True)
        await self._run()
        return time.perf_counter() - started

    async def _ask(self, **state) -> None:
        from streamlit.proto.BackMsg_pb2 import BackMsg
        from streamlit.proto.ClientState_pb2 import ClientState

        state = ClientState(page_script_hash=self._page, cached_message_hashes=self._kept, **state)
        state.context_info.timezone = "Europe/Berlin"
        state.context_info.color_scheme = "light"
        await self._socket.send_bytes(BackMsg(rerun_script=state).SerializeToString())

    async def _run(self) -> None:
        """Take in messages until a run has ended."""
        from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

        while True:
            message = ForwardMsg.FromString(await self._socket.receive_bytes(timeout=60))
            kind = message.WhichOneof("type")
            if message.metadata.cacheable:
                self._kept = {*list(self._kept)[-50:], message.hash}
            if kind == "new_session":
                self._page = message.new_session.page_script_hash
            elif kind == "auto_rerun":
                self._fragment, self.interval = message.auto_rerun.fragment_id, message.auto_rerun.interval
            elif kind == "delta" and message.delta.new_element.HasField("exception"):
                raise RuntimeError(message.delta.new_element.exception.message)
            elif kind == "script_finished":
                return


async def _look(session: aiohttp.ClientSession, url: str, on_open: Callable[[], None], took: list[float]) -> None:
    async with session.ws_connect(url, protocols=["streamlit"], max_msg_size=0) as socket:
        viewer = Viewer(socket)
        await viewer.open()
        on_open()
        due = time.monotonic()
        while True:
            due = max(due + viewer.interval, time.monotonic())
            await asyncio.sleep(due - time.monotonic())
            took.append(await viewer.refresh())


async def main(port: int, count: int) -> None:
    took: list[float] = []
    opened = asyncio.Semaphore(0)
    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        url = f"ws://127.0.0.1:{port}/_stcore/stream"
        viewers = []
        for _ in range(count):
            viewers.append(group.create_task(_look(session, url, opened.release, took)))
            await asyncio.sleep(SPREAD_SECONDS / count)
        for _ in range(count):
            await opened.acquire()
        took.clear()
        print("ready", flush=True)
        await loop.run_in_executor(None, os.read, 0, 1)
        print(json.dumps([round(seconds * 1000, 2) for seconds in took]), flush=True)
        for viewer in viewers:
            viewer.cancel()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
