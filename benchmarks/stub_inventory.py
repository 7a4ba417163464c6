"""An Inventory Service that costs next to nothing: it says yes to everything and confirms every request.

It stands in for a fast service, so that the benchmark measures the worker and not its counterpart. It ends with its
standard input, which is a pipe of the benchmark's.
Usage: python -m benchmarks.stub_inventory PORT NATS_URL
"""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from datetime import UTC, datetime, timedelta

import orjson
import uvloop

from services.base.child_process import die_with_parent
from services.messaging.jetstream import Connection, ensure_streams

CONFIRM_REQUESTED = "inventory.confirm_requested"


class StubProtocol(asyncio.Protocol):
    """Just enough HTTP/1.1 for the client under test: whole requests with a Content-Length."""

    def __init__(self) -> None:
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, chunk: bytes) -> None:
        self._received += chunk
        while (head_end := self._received.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._received[:head_end]).lower()
            length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0]) if b"content-length:" in head else 0
            end = head_end + 4 + length
            if len(self._received) < end:
                return
            body = bytes(self._received[head_end + 4 : end])
            del self._received[:end]
            self._answer(head.split(b" ", 2)[1], orjson.loads(body or b"{}"))

    def _answer(self, path: bytes, request: dict) -> None:
        data = _reply(path, request)
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        body = orjson.dumps({"success": True, "data": data, "meta": {"timestamp": now}})
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)


def _reply(path: bytes, request: dict) -> dict:
    if path.endswith(b"/check-availability"):
        lines = [
            {**item, "available": True, "requestedQuantity": item["quantity"], "availableQuantity": 1_000_000}
            for item in request["items"]
        ]
        return {"available": True, "items": lines}
    if path.endswith(b"/reserve"):
        expires = datetime.now(UTC) + timedelta(seconds=request["expiresIn"])
        return {
            "reservationId": str(uuid.uuid4()),
            "orderId": request["orderId"],
            "items": [{**item, "reserved": True} for item in request["items"]],
            "expiresAt": expires.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }
    return {"orderId": request.get("orderId"), "released": True}


async def main(port: int, nats_url: str) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_server(StubProtocol, "127.0.0.1", port)
    connection = Connection([nats_url], name="stub-inventory")
    await connection.open(patience_seconds=5)
    await ensure_streams(connection.js)

    async def confirm(message) -> None:
        data = orjson.loads(message.data)["data"]
        event_id = str(uuid.uuid4())
        envelope = {"id": event_id, "type": "inventory.confirmed", "source": "stub", "data": data}
        await connection.client.publish(
            "inventory.confirmed", orjson.dumps(envelope), headers={"Nats-Msg-Id": event_id}
        )

    # A plain subscription hears of the event without the cost of a consumer.
    await connection.client.subscribe(CONFIRM_REQUESTED, cb=confirm)
    await asyncio.Event().wait()


if __name__ == "__main__":
    die_with_parent(lambda: os._exit(0))
    uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
