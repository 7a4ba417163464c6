"""Publishes outbox rows to JetStream; the stream stores each event once, however often it is sent.

Source: docs/adr/0004.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from uuid import uuid4

import nats.errors
from nats.js import JetStreamContext
from nats.js.errors import APIError, NoStreamResponseError

from services.base.context import HEADER
from services.messaging.jetstream import INSTALLATION, Connection
from services.messaging.outbox_relay import OutboxRow, Publisher, Undeliverable
from services.tracing.port import Tracer

ATOMIC_FROM = 32
"""Minimum of rows for an atomic batch. A batch costs some milliseconds; fewer rows are faster as singles."""

ATOMIC_LIMIT = 1000
"""Rows of a batch at most; the server refuses larger ones."""

BATCH_HEADER_BYTES = 128
"""Bytes reserved in a message for the headers of a batch."""

TOO_LARGE_FOR_STREAM = 10054
"""Error code of the JetStream API."""


class JetStreamPublisher:
    """Publishes with ``Nats-Msg-Id`` = event id, so that the stream deduplicates repeated publishing.

    Many rows of one stream are sent as one atomic batch (one fsync), the others as concurrent singles.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        timeout_seconds: float = 2.0,
        recover: Callable[[], Awaitable[None]] | None = None,
        installation: str | None = None,
    ) -> None:
        """``recover`` recreates the streams; it is called when no stream answers, and never raises.

        ``installation``: named in the header of every event.
        """
        self._connection = connection
        self._timeout_seconds = timeout_seconds
        self._recover = recover
        self._own_headers = {} if installation is None else {INSTALLATION: installation}
        self._is_stream_missing = False
        self._without_batches: set[str] = set()
        self._with_batches: set[str] = set()
        """Streams that accept atomic batches; ``_without_batches`` has those that refuse them."""
        self._streams: dict[str, str] = {}
        """Subject to stream, from the acknowledgements of single messages."""

    @property
    def is_available(self) -> bool:
        # While disconnected, the client would buffer the bytes and send them after the rows are counted as failed.
        return self._connection.is_connected

    async def publish(self, rows: Sequence[OutboxRow]) -> dict[int, str]:
        """Publish all rows; returns the reasons of those that were not acknowledged, by row id."""
        js, most = self._connection.js, self._connection.client.max_payload
        # A server closes the connection after a message above its limit, and with it every event on it.
        sizes = {row.id: self._size(row) for row in rows}
        too_large: dict[int, str] = {row_id: _too_large(size, most) for row_id, size in sizes.items() if size > most}
        fitting = [row for row in rows if row.id not in too_large]
        outcomes = await asyncio.gather(*(self._publish_together(js, group) for group in self._groups(fitting)))
        if self._is_stream_missing and self._recover is not None:
            self._is_stream_missing = False
            self._streams.clear()
            self._without_batches.clear()
            self._with_batches.clear()
            await self._recover()
        every = [too_large, *outcomes]
        return {row_id: reason for failures in every for row_id, reason in failures.items()}

    def _groups(self, rows: Sequence[OutboxRow]) -> list[list[OutboxRow]]:
        """Group rows by stream, since a batch has one stream; rows of unknown streams form one group."""
        groups: dict[str | None, list[OutboxRow]] = {}
        for row in rows:
            groups.setdefault(self._streams.get(row.subject), []).append(row)
        return [group[at : at + ATOMIC_LIMIT] for group in groups.values() for at in range(0, len(group), ATOMIC_LIMIT)]

    async def _publish_together(self, js: JetStreamContext, rows: list[OutboxRow]) -> dict[int, str]:
        stream = self._streams.get(rows[0].subject)
        if stream is not None and self._may_be_batch(rows) and await self._takes_batches(stream):
            try:
                await self._publish_batch(rows)
            except APIError:
                # The whole batch is refused: it contains a known or too large event, or the subject has another stream.
                for row in rows:
                    self._streams.pop(row.subject, None)
            except (nats.errors.Error, OSError) as error:
                return dict.fromkeys((row.id for row in rows), self._failure(error))
            else:
                return {}
        reasons = await asyncio.gather(*(self._publish_single(js, row) for row in rows))
        return {row.id: reason for row, reason in zip(rows, reasons, strict=True) if reason is not None}

    def _may_be_batch(self, rows: list[OutboxRow]) -> bool:
        most = self._connection.client.max_payload - BATCH_HEADER_BYTES
        return len(rows) >= ATOMIC_FROM and all(self._size(row) <= most for row in rows)

    async def _publish_single(self, js: JetStreamContext, row: OutboxRow) -> str | None:
        headers = self._headers(row)
        try:
            ack = await js.publish(row.subject, row.payload, timeout=self._timeout_seconds, headers=headers)
        except (nats.errors.Error, OSError) as error:
            return self._failure(error)
        self._streams[row.subject] = ack.stream
        return None

    def _failure(self, error: Exception) -> str:
        if isinstance(error, NoStreamResponseError | nats.errors.NoRespondersError):
            self._is_stream_missing = True
        reason = str(error) or type(error).__name__
        is_too_large = isinstance(error, nats.errors.MaxPayloadError) or (
            isinstance(error, APIError) and error.err_code == TOO_LARGE_FOR_STREAM
        )
        return Undeliverable(reason) if is_too_large else reason

    async def _takes_batches(self, stream: str) -> bool:
        """Whether the stream accepts atomic batches, read once per stream.

        A refused batch would send its first message to plain subscribers twice.
        """
        if stream in self._without_batches:
            return False
        if stream not in self._with_batches:
            try:
                config = (await self._connection.js.stream_info(stream)).config
            except (nats.errors.Error, OSError):
                return False
            (self._with_batches if config.allow_atomic else self._without_batches).add(stream)
        return stream in self._with_batches

    async def _publish_batch(self, rows: list[OutboxRow]) -> None:
        """Store all rows of one stream or none; raises APIError when the server refuses them."""
        client, batch = self._connection.client, uuid4().hex
        for number, row in enumerate(rows, start=1):
            headers = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number), **self._headers(row)}
            if number == len(rows):
                headers["Nats-Batch-Commit"] = "1"
            elif number > 1:
                await client.publish(row.subject, row.payload, headers=headers)
                continue
            # The server answers the first message when it refuses batches, and the last when all rows are stored.
            answer = await client.request(row.subject, row.payload, timeout=self._timeout_seconds, headers=headers)
            if answer.data and (refusal := json.loads(answer.data).get("error")):
                raise APIError.from_error(refusal)

    def _headers(self, row: OutboxRow) -> dict[str, str]:
        headers = {"Nats-Msg-Id": row.event_id, **self._own_headers}
        if row.traceparent is not None:
            headers[HEADER] = row.traceparent
        return headers

    def _size(self, row: OutboxRow) -> int:
        """Bytes of the message as the server counts them: headers and payload."""
        lines = [f"{name}: {value}" for name, value in self._headers(row).items()]
        head = "".join(f"{line}\r\n" for line in ("NATS/1.0", *lines, ""))
        return len(head.encode()) + len(row.payload)


class TracedPublisher:
    """A Publisher that gives every row a span; the row is sent with the span's traceparent."""

    def __init__(self, publisher: Publisher, tracer: Tracer) -> None:
        self._publisher = publisher
        self._tracer = tracer

    @property
    def is_available(self) -> bool:
        return self._publisher.is_available

    async def publish(self, rows: Sequence[OutboxRow]) -> Mapping[int, str]:
        """Publish the rows like the wrapped publisher, each in its span."""
        spans = [
            self._tracer.publishing(row.subject, row.event_id, row.order_id, parent=row.traceparent) for row in rows
        ]
        sent = [replace(row, traceparent=span.traceparent) for row, span in zip(rows, spans, strict=True)]
        failures: Mapping[int, str] = dict.fromkeys((row.id for row in rows), "not published")
        try:
            failures = await self._publisher.publish(sent)
        finally:
            for row, span in zip(rows, spans, strict=True):
                reason = failures.get(row.id)
                span.end("published" if reason is None else "failed", error=reason)
        return failures


def _too_large(size: int, most: int) -> Undeliverable:
    return Undeliverable(f"The message has {size} bytes; the server's maximum payload is {most} bytes.")
