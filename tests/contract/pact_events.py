"""Events on their way: what a consumer expects to hear, and what really leaves for the broker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from pact import Pact
from pact.types import Message

from services.messaging.jetstream import Connection
from services.messaging.outbox_relay import OutboxRow
from services.messaging.publisher import JetStreamPublisher
from tests.contract.pact_examples import JSON

T = TypeVar("T")


class AgreedEvents:
    """Events that one service expects of another; each is read by its real handlers, then written down."""

    def __init__(self, directory: Path, consumer: str, provider: str) -> None:
        self._directory = directory
        self._parties = (consumer, provider)

    def hear(self, event_type: str, body: Any, read: Callable[[bytes, str], T], **headers: Any) -> T:
        """What ``read(payload, subject)`` makes of the event; raises, and writes nothing, when it fails."""
        pact = Pact(*self._parties).with_specification("V4")
        message = pact.upon_receiving(event_type, "Async").with_body(body, JSON)
        message.with_metadata({"subject": event_type, **headers})
        results: list[T] = []

        def receive(payload: str | bytes | None, metadata: dict[str, Any]) -> None:
            results.append(read(str(payload).encode(), metadata["subject"]))

        pact.verify(receive, "Async")
        pact.write_file(self._directory)
        (result,) = results
        return result


class Wire:
    """A broker connection that keeps what the publisher sends over it, by subject."""

    is_connected = True
    max_payload = 1 << 20

    def __init__(self) -> None:
        self.sent: dict[str, Message] = {}

    @property
    def js(self) -> Wire:
        return self

    @property
    def client(self) -> Wire:
        return self

    async def publish(self, subject: str, payload: bytes, *, timeout: float, headers: dict[str, str]) -> Any:  # noqa: ASYNC109
        metadata = {"subject": subject, **headers}
        self.sent[subject] = Message(contents=payload, metadata=metadata, content_type=JSON)
        return SimpleNamespace(stream="ANY")


async def on_the_wire(rows: Sequence[Any]) -> dict[str, Message]:
    """What the real publisher sends for these outbox rows."""
    wire = Wire()
    refused = await JetStreamPublisher(cast("Connection", wire)).publish([OutboxRow(*row) for row in rows])
    assert refused == {}
    return wire.sent
