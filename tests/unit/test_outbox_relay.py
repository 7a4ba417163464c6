"""The outbox relay over an outbox and a publisher in memory."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from services.messaging.outbox_relay import BACKOFF, OutboxRelay, OutboxRow

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


@pytest.fixture
def publisher() -> InMemoryPublisher:
    return InMemoryPublisher()


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


async def test_rows_that_wait_are_published_and_marked_in_their_order(publisher: InMemoryPublisher) -> None:
    outbox = InMemoryOutbox(row(1), row(2), row(3, "order.cancelled"))
    async with relaying(outbox, publisher, batch_size=2) as (_, outcomes):
        await until(lambda: outbox.published == [1, 2, 3])
    assert publisher.sent == ["event-1", "event-2", "event-3"]
    assert outcomes == {("order.created", "published"): 2, ("order.cancelled", "published"): 1}


async def test_marking_and_claiming_share_one_transaction(publisher: InMemoryPublisher) -> None:
    outbox = InMemoryOutbox(row(1), row(2))
    async with relaying(outbox, publisher, batch_size=1):
        await until(lambda: outbox.published == [1, 2])
    assert outbox.calls == [([], [], 1), ([1], [], 1), ([2], [], 1)]


async def test_a_wake_is_enough_to_publish_a_new_row(publisher: InMemoryPublisher) -> None:
    outbox = InMemoryOutbox()
    async with relaying(outbox, publisher) as (relay, _):
        await until(lambda: len(outbox.calls) == 1)
        outbox.due.append(row(1))
        relay.wake()
        await until(lambda: outbox.published == [1])


async def test_a_wake_during_a_claim_that_finds_nothing_is_not_lost(publisher: InMemoryPublisher) -> None:
    outbox = InMemoryOutbox()
    async with relaying(outbox, publisher) as (relay, _):

        def commit_just_too_late() -> None:
            outbox.after_claim = lambda: None
            outbox.due.append(row(1))
            relay.wake()

        outbox.after_claim = commit_just_too_late
        await until(lambda: outbox.published == [1])


async def test_rows_that_nobody_announced_are_found_by_the_poll(publisher: InMemoryPublisher) -> None:
    outbox = InMemoryOutbox()
    async with relaying(outbox, publisher, poll_seconds=0.01):
        await until(lambda: len(outbox.calls) == 1)
        outbox.due.append(row(1))
        await until(lambda: outbox.published == [1])


async def test_one_refused_row_delays_no_other(publisher: InMemoryPublisher) -> None:
    outbox = InMemoryOutbox(row(1), row(2))
    attempts: list[int] = []
    publisher.refuse = lambda row: row.id == 1 and (attempts.append(row.id), len(attempts) < 3)[1]
    async with relaying(outbox, publisher) as (_, outcomes):
        await until(lambda: outbox.published == [2, 1])
    assert outbox.failures == [(1, "refused"), (1, "refused")]
    assert outcomes["order.created", "failed"] == 2


async def test_nothing_is_claimed_while_the_broker_is_away(publisher: InMemoryPublisher) -> None:
    publisher.is_available = False
    outbox = InMemoryOutbox(row(1))
    async with relaying(outbox, publisher) as (relay, outcomes):
        relay.wake()
        await asyncio.sleep(0.01)
        assert outbox.calls == []
        publisher.is_available = True
        relay.wake()
        await until(lambda: outbox.published == [1])
    assert outcomes == {("order.created", "published"): 1}


async def test_what_was_published_is_marked_even_after_the_broker_went_away(publisher: InMemoryPublisher) -> None:
    outbox = InMemoryOutbox(row(1), row(2))
    publisher.on_publish = lambda: setattr(publisher, "is_available", False)
    async with relaying(outbox, publisher, batch_size=1):
        await until(lambda: outbox.published == [1])
    assert [queued.id for queued in outbox.due] == [2]


async def test_a_database_that_is_away_for_a_while_loses_no_mark(publisher: InMemoryPublisher) -> None:
    outbox = InMemoryOutbox(row(1))
    publisher.on_publish = lambda: setattr(outbox, "broken", 2)
    async with relaying(outbox, publisher):
        await until(lambda: outbox.published == [1])
    assert publisher.sent == ["event-1"]


async def test_stopping_marks_what_was_published_and_claims_nothing_more(publisher: InMemoryPublisher) -> None:
    outbox = InMemoryOutbox(row(1), row(2))
    async with relaying(outbox, publisher, batch_size=1) as (relay, _):
        publisher.on_publish = relay.stop
        await until(lambda: bool(publisher.sent))
    assert outbox.published == [1]
    assert outbox.calls[-1] == ([1], [], 0)
    assert outbox.claimed == {}


def test_the_pauses_grow_up_to_five_seconds() -> None:
    pauses = [BACKOFF.delay_seconds(number, lambda: 0.999999) for number in (1, 2, 3, 7, 1000)]
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 5.0, 5.0], rel=1e-4)
