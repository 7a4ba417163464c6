"""Connections to NATS that are open, for tests."""

from __future__ import annotations

from collections.abc import Sequence

from services.messaging.jetstream import Connection, OnConnectionChange


async def connect(
    servers: Sequence[str],
    *,
    name: str,
    on_connection_change: OnConnectionChange = lambda _: None,
    patience_seconds: float | None = 5.0,
) -> Connection:
    """A Connection that is open; raises NatsUnavailable after patience_seconds, None meaning never."""
    connection = Connection(servers, name=name, on_change=on_connection_change)
    await connection.open(patience_seconds=patience_seconds)
    return connection
