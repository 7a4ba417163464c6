"""An outbox relay over an outbox and a publisher in memory."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from services.messaging.outbox_relay import OutboxRelay, OutboxRow

AT = datetime(2026, 11, 1, tzinfo=UTC)


def row(number: int, subject: str = "order.created") -> OutboxRow:
    return OutboxRow(number, f"event-{number}", subject, b"{}", f"order-{number}", AT)


class InMemoryOutbox:
    """Rows that are due until claimed, and due again as soon as they failed."""

    def __init__(self, *rows: OutboxRow) -> None:
        self.due = list(rows)
        self.claimed: dict[int, OutboxRow] = {}
        self.published: list[int] = []
        self.failures: list[tuple[int, str]] = []
        self.calls: list[tuple[list[int], list[tuple[int, str]], int]] = []
        self.broken = 0
        self.after_claim: Callable[[], None] = lambda: None

    async def settle_and_claim(
        self, settled: Sequence[int], failed: Sequence[tuple[int, str]], limit: int
    ) -> list[OutboxRow]:
        if self.broken:
            self.broken -= 1
            raise ConnectionError("the database is away")
        self.calls.append((list(settled), list(failed), limit))
        for row_id in settled:
            del self.claimed[row_id]
            self.published.append(row_id)
        for row_id, reason in failed:
            self.failures.append((row_id, reason))
            self.due.append(self.claimed.pop(row_id))
        rows, self.due = self.due[:limit], self.due[limit:]
        self.claimed |= {row.id: row for row in rows}
        self.after_claim()
        return rows


class InMemoryPublisher:
    def __init__(self) -> None:
        self.is_available = True
        self.sent: list[str] = []
        self.refuse: Callable[[OutboxRow], bool] = lambda _: False
        self.on_publish: Callable[[], None] = lambda: None

    async def publish(self, rows: Sequence[OutboxRow]) -> dict[int, str]:
        self.on_publish()
        await asyncio.sleep(0)
        refused = {row.id: "refused" for row in rows if self.refuse(row)}
        self.sent += [row.event_id for row in rows if row.id not in refused]
        return refused


@asynccontextmanager
async def relaying(
    outbox: InMemoryOutbox,
    publisher: InMemoryPublisher,
    *,
    poll_seconds: float = 60,
    batch_size: int = 256,
    on_failure: Callable[[], None] = lambda: None,
) -> AsyncIterator[tuple[OutboxRelay, Counter[tuple[str, str]]]]:
    outcomes: Counter[tuple[str, str]] = Counter()
    relay = OutboxRelay(
        outbox,
        publisher,
        on_published=lambda event_type, outcome: outcomes.update([(event_type, outcome)]),
        on_failure=on_failure,
        poll_seconds=poll_seconds,
        batch_size=batch_size,
        randomness=lambda: 0.0,
    )
    running = asyncio.create_task(relay.run())
    yield relay, outcomes
    relay.stop()
    async with asyncio.timeout(5):
        await running


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while True:
            if condition():
                return
            await asyncio.sleep(0)
