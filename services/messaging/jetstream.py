"""The connection to NATS and the JetStream streams that carry the events.

Source: contract 5; docs/adr/0004.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import unquote, urlsplit

from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, BadRequestError, NotFoundError

from services.domain.orders import events

log = logging.getLogger(__name__)

API_TIMEOUT_SECONDS = 2.0
"""How long JetStream may take to answer a request about streams and consumers."""

SUBJECTS_OVERLAP = 10065
"""Error code of the JetStream API."""

PLACING_ATTEMPTS = 6
"""Attempts to create the streams. Replicas that start together create them at the same time and may conflict."""

STATUS = "Status"
UNREADABLE = "unreadable"
"""Status that replaces headers which the client library cannot read."""

INSTALLATION = "Holdfast-Installation"
"""Header of our events: the installation that published it, on a broker that several installations share."""

OURS = {"managed-by": "holdfast"}
"""Metadata of the streams that Holdfast created and may therefore change."""


class NatsUnavailable(Exception):
    """No server was reached within the time allowed; the message names servers and reason, no secrets."""


class ConnectionState(StrEnum):
    CONNECTING = "connecting"
    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    CLOSED = "closed"


class ReadingOnClient(Client):
    """A client that continues after headers that the library cannot parse, such as bytes that are not text."""

    async def _process_headers(self, headers: bytes) -> dict[str, str] | None:
        try:
            return await super()._process_headers(headers)
        except (UnicodeDecodeError, IndexError):
            # Without this, the library's reading task would end, and with it every delivery of the connection.
            return {STATUS: UNREADABLE}


OnConnectionChange = Callable[[ConnectionState], None]


class Connection:
    """One permanent connection: it reconnects, and replaces a client that a server closed for good.

    Both ``client`` and ``js`` are replaced with it: read them for each use, do not store them. The URLs contain
    the credentials (``nats://token@host``, ``nats://user:password@host``), percent-encoded where needed. The
    first credentials found serve all servers, also servers that the cluster announces.
    """

    def __init__(
        self,
        servers: Sequence[str],
        *,
        name: str,
        on_change: OnConnectionChange = lambda _: None,
        ping_interval_seconds: int = 10,
        reconnect_wait_seconds: float = 0.25,
    ) -> None:
        self.state = ConnectionState.CONNECTING
        self._client: Client | None = None
        self._servers = [_without_credentials(server) for server in servers]
        self._on_change = on_change
        # The last distinct errors since the last successful connection.
        self._reasons: deque[str] = deque(maxlen=5)
        self._redialing: asyncio.Task[None] | None = None
        self._options: dict[str, Any] = {
            **_credentials(servers),
            "servers": self._servers,
            "name": name,
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": reconnect_wait_seconds,
            # The client closes a link that loses bytes after two unanswered pings.
            "ping_interval": ping_interval_seconds,
            "max_outstanding_pings": 2,
            "connect_timeout": 2,
        }

    @property
    def client(self) -> Client:
        """The client in use."""
        if self._client is None:
            raise RuntimeError("open() comes first")
        return self._client

    @property
    def js(self) -> JetStreamContext:
        """JetStream over the client in use."""
        return self.client.jetstream(timeout=API_TIMEOUT_SECONDS)

    @property
    def is_connected(self) -> bool:
        return self.state is ConnectionState.CONNECTED

    @property
    def is_closed(self) -> bool:
        """Whether close() was called; the connection then stays closed."""
        return self.state is ConnectionState.CLOSED

    async def open(self, *, patience_seconds: float | None = None) -> None:
        """Connect; without ``patience_seconds`` retry without limit, else raise NatsUnavailable after that time.

        A connection that was established once is kept, also while it reconnects.
        """
        if self.state is not ConnectionState.CONNECTING:
            return
        try:
            async with asyncio.timeout(patience_seconds):
                await self._dial()
        except TimeoutError:
            await self.close()
            reasons = "; ".join(self._reasons) or "no server answered"
            raise NatsUnavailable(f"NATS at {', '.join(self._servers)} cannot be used: {reasons}") from None

    async def close(self) -> None:
        """End the connection; stop consumers and relays first."""
        self._become(ConnectionState.CLOSED)
        if self._redialing is not None:
            self._redialing.cancel()
            await asyncio.wait({self._redialing})
        if self._client is not None:
            await self._client.close()

    async def _dial(self) -> None:
        self._client = ReadingOnClient()
        await self._client.connect(
            **self._options,
            error_cb=self._note_error,
            disconnected_cb=self._note_disconnected,
            reconnected_cb=self._note_connected,
            closed_cb=self._note_closed,
        )
        await self._note_connected()

    async def _note_error(self, error: Exception) -> None:
        reason = str(error) or type(error).__name__
        if reason not in self._reasons:
            # The client repeats the error at every attempt; one log line for each distinct error is enough.
            log.warning("nats_error", extra={"reason": reason})
            self._reasons.append(reason)

    async def _note_connected(self) -> None:
        self._reasons.clear()
        self._become(ConnectionState.CONNECTED)

    async def _note_disconnected(self) -> None:
        self._become(ConnectionState.DISCONNECTED)

    async def _note_closed(self) -> None:
        if not self.is_closed:
            # Some server errors, such as revoked credentials, end the client for good.
            log.error("nats_connection_ended_by_server", extra={"reason": str(self.client.last_error)})
            self._redialing = asyncio.create_task(self._dial())

    def _become(self, state: ConnectionState) -> None:
        if state is self.state or self.is_closed:
            return
        self.state = state
        log.info("nats_connection_changed", extra={"state": state.value})
        self._on_change(state)


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """A stream that Holdfast creates when no stream stores its events yet."""

    name: str
    events: tuple[str, ...]
    """The subjects that must be stored, in this stream or in a stream of the operator."""
    subjects: tuple[str, ...]
    """Subjects of the stream when no other stream has them; may contain wildcards."""


ORDER_EVENTS = StreamPlan("ORDER_EVENTS", events.OUTGOING, ("order.>", events.CONFIRM_REQUESTED))
INVENTORY_EVENTS = StreamPlan("INVENTORY_EVENTS", events.INCOMING, events.INCOMING)
STREAMS = (ORDER_EVENTS, INVENTORY_EVENTS)


async def ensure_streams(
    js: JetStreamContext, plans: Iterable[StreamPlan] = STREAMS, *, replicas: int = 1
) -> dict[str, str]:
    """Ensure that a stream stores each subject; returns the name of the stream by subject.

    A stream that already stores a subject is used and never changed. Only for subjects that no stream stores,
    Holdfast creates a stream or extends one of its own. Safe to run in several replicas at once.
    """
    placement: dict[str, str] = {}
    for plan in plans:
        placement |= await _place(js, plan, replicas)
    return placement


async def stream_incarnation(js: JetStreamContext, name: str) -> str:
    """Creation time of the stream, which differs for a recreated stream of the same name; raises NotFoundError."""
    created = (await js.stream_info(name)).created
    return created.isoformat() if created is not None else ""


def by_stream(placement: Mapping[str, str], subjects: Iterable[str]) -> dict[str, list[str]]:
    """The subjects by the stream that stores them; each stream needs one consumer."""
    grouped: dict[str, list[str]] = {}
    for subject in subjects:
        grouped.setdefault(placement[subject], []).append(subject)
    return grouped


async def _place(js: JetStreamContext, plan: StreamPlan, replicas: int) -> dict[str, str]:
    refusal: APIError | None = None
    for _ in range(PLACING_ATTEMPTS):
        found = await _find_streams(js, plan.events)
        missing = [subject for subject in plan.events if subject not in found]
        if not missing:
            return found
        try:
            await _store(js, plan, missing, replicas)
        except APIError as error:
            # Another replica may be creating the same stream now.
            refusal = error
            await asyncio.sleep(0.1)
    raise refusal or NotFoundError(description=f"no stream stores {', '.join(missing)}")


async def _find_streams(js: JetStreamContext, subjects: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for subject in subjects:
        try:
            found[subject] = await js.find_stream_name_by_subject(subject)
        except NotFoundError:
            continue
    return found


async def _store(js: JetStreamContext, plan: StreamPlan, missing: list[str], replicas: int) -> None:
    """Create or extend a stream for the missing subjects.

    The stream gets another name when an operator's stream has the planned one.
    """
    for name in (plan.name, f"HOLDFAST_{plan.name}"):
        existing = await _existing(js, name)
        if existing is None:
            unclaimed = len(missing) == len(plan.events)
            await _create(js, name, list(plan.subjects) if unclaimed else missing, missing, replicas)
            return
        if OURS.items() <= (existing.metadata or {}).items():
            await js.update_stream(existing.evolve(subjects=[*(existing.subjects or []), *missing]))
            return


async def _existing(js: JetStreamContext, name: str) -> StreamConfig | None:
    try:
        return (await js.stream_info(name)).config
    except NotFoundError:
        return None


async def _create(js: JetStreamContext, name: str, subjects: list[str], fallback: list[str], replicas: int) -> None:
    try:
        await js.add_stream(_config(name, subjects, replicas))
    except BadRequestError as error:
        if error.err_code != SUBJECTS_OVERLAP or subjects == fallback:
            raise
        # Another stream stores a part of a wildcard, so only the plain subjects are claimed.
        await _create(js, name, fallback, fallback, replicas)


def _config(name: str, subjects: list[str], replicas: int) -> StreamConfig:
    return StreamConfig(
        name=name,
        subjects=subjects,
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        # A full stream refuses events, and the outbox keeps them. Discarding old events would lose unread ones.
        discard=DiscardPolicy.NEW,
        max_age=7 * 86_400,
        max_bytes=512 * 2**20,
        max_msg_size=256 * 2**10,
        duplicate_window=600,
        allow_direct=True,
        allow_atomic=True,
        num_replicas=replicas,
        metadata=dict(OURS),
    )


def _credentials(servers: Iterable[str]) -> dict[str, str]:
    for server in servers:
        parts = urlsplit(server)
        if parts.username and parts.password:
            return {"user": unquote(parts.username), "password": unquote(parts.password)}
        if parts.username:
            return {"token": unquote(parts.username)}
    return {}


def _without_credentials(server: str) -> str:
    parts = urlsplit(server)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
