"""The outbox relay over an outbox and a publisher in memory."""

from __future__ import annotations

import asyncio

import pytest

from services.messaging.outbox_relay import BACKOFF
from tests.support.outbox_relay import InMemoryOutbox, InMemoryPublisher, relaying, row, until


@pytest.fixture
def publisher() -> InMemoryPublisher:
    return InMemoryPublisher()


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
