"""A webhook receiver as a pager has one: remembers what it was sent, and can be made to fail."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Pager:
    """What arrived, and what is answered to it."""

    def __init__(self, port: int = 0) -> None:
        self.messages: list[dict[str, Any]] = []
        self.status = 200
        self.location: str | None = None
        self.asked = 0
        pager = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                pager.asked += 1
                if pager.status < 300:
                    pager.messages.append(json.loads(body))
                self.send_response(pager.status)
                if pager.location:
                    self.send_header("Location", pager.location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def names(self, status: str) -> set[str]:
        """Names of the alerts that were said to be in this status."""
        return {
            alert["labels"]["alertname"]
            for message in list(self.messages)
            for alert in message["alerts"]
            if alert["status"] == status
        }

    def of(self, name: str) -> list[dict[str, Any]]:
        """The messages about one alert, in the order of their arrival."""
        return [m for m in list(self.messages) if m["alerts"][0]["labels"]["alertname"] == name]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def pager(port: int = 0) -> Iterator[Pager]:
    running = Pager(port)
    try:
        yield running
    finally:
        running.close()
