"""Pull requests to a durable consumer, answered on an inbox of this process.

The client library distinguishes server answers from events by a header that every sender can set. This module uses the
reply subject, which only JetStream sets.
"""

from __future__ import annotations

import time

import nats.errors
import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from services.messaging.jetstream import STATUS

FETCH_SECONDS = 1.0
"""Duration of a request. It is short, because a request is lost with the connection, and stopping waits for it."""

GRACE_SECONDS = 0.2
"""Time to wait for the server's answer that a request has ended."""

ACKNOWLEDGEMENT = "$JS.ACK."
"""Prefix of the subject that settles a delivery; every event has such a reply subject, and no other message has."""

IDLE_HEARTBEAT, NO_MESSAGES, REQUEST_EXPIRED = "100", "404", "408"


class PullRefused(nats.errors.Error):
    """The server ended a request: the consumer is deleted, has moved, or has reached its delivery limit."""

    def __init__(self, stream: str, durable: str, status: str) -> None:
        super().__init__(f"consumer {durable} of stream {stream} ended a request with status {status}")
        self.status = status


class PullInbox:
    """Sends one request at a time; fetch() also returns late events of an earlier request."""

    def __init__(self, client: Client, stream: str, durable: str) -> None:
        self._client = client
        self._stream = stream
        self._durable = durable
        self._inbox = client.new_inbox()
        self._subscription: Subscription | None = None
        self._requests = 0
        self._places = 0
        self._ends_at = 0.0

    async def open(self) -> None:
        """Subscribe to answers."""
        self._subscription = await self._client.subscribe(f"{self._inbox}.*")

    async def close(self) -> None:
        """Unsubscribe; the server then drops an open request."""
        if self._subscription is not None:
            await self._subscription.unsubscribe()

    @property
    def is_open(self) -> bool:
        """Whether the server may still answer a request with events."""
        return self._places > 0 and time.monotonic() < self._ends_at

    async def fetch(self, limit: int) -> list[Msg]:
        """Available events, up to the limit of the request; empty after FETCH_SECONDS. Raises PullRefused.

        An open request continues, with its own limit.
        """
        if not self.is_open:
            await self._request(limit)
        events: list[Msg] = []
        while (message := await self._next(can_wait=not events)) is not None:
            if message.reply.startswith(ACKNOWLEDGEMENT):
                self._places -= 1
                events.append(message)
            else:
                self._note_status(message)
            if self._places <= 0:
                break
        return events

    async def _request(self, limit: int) -> None:
        self._requests += 1
        self._places = limit
        self._ends_at = time.monotonic() + FETCH_SECONDS + GRACE_SECONDS
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._durable}"
        body = orjson.dumps({"batch": limit, "expires": int(FETCH_SECONDS * 1e9)})
        await self._client.publish(subject, body, reply=f"{self._inbox}.{self._requests}")

    async def _next(self, *, can_wait: bool) -> Msg | None:
        if self._subscription is None:
            raise RuntimeError("open() comes first")
        if not can_wait and self._subscription.pending_msgs == 0:
            return None
        try:
            return await self._subscription.next_msg(max(self._ends_at - time.monotonic(), 0.001))
        except TimeoutError:
            return None

    def _note_status(self, message: Msg) -> None:
        if message.subject != f"{self._inbox}.{self._requests}":
            return
        status = (message.headers or {}).get(STATUS, "")
        if status == IDLE_HEARTBEAT:
            return
        self._places = 0
        if status not in (NO_MESSAGES, REQUEST_EXPIRED):
            raise PullRefused(self._stream, self._durable, status)
