"""Whose fault it is that events are not published, and one event that raises among others that do not."""

from __future__ import annotations

import sqlite3

import pytest
from sqlalchemy.exc import OperationalError

from services.messaging.embedded import Publishing, worker_publishing
from services.messaging.outbox_relay import TRIES, ProblemKind, PublishProblem, Undeliverable, worst_kind
from services.messaging.topology import Topology
from tests.support.outbox_relay import InMemoryOutbox, InMemoryPublisher, relaying, row, until


class RaisingPublisher(InMemoryPublisher):
    """Raises for every batch that holds one of some rows."""

    def __init__(self, *bad):
        super().__init__()
        self.bad = set(bad)
        self.batches = []

    async def publish(self, rows):
        self.batches.append([one.id for one in rows])
        if self.bad & {one.id for one in rows}:
            raise ValueError("nobody thought of this")
        return await super().publish(rows)


class Outbox(InMemoryOutbox):
    """Keeps what is undeliverable apart, as the table does."""

    async def settle_and_claim(self, settled, failed, limit):
        ended = [(row_id, reason) for row_id, reason in failed if isinstance(reason, Undeliverable)]
        for row_id, reason in ended:
            self.failures.append((row_id, reason))
            del self.claimed[row_id]
        again = [one for one in failed if one not in ended]
        return await super().settle_and_claim(settled, again, limit)


async def test_one_row_that_raises_keeps_no_other_from_being_published_at_once():
    publisher, outbox = RaisingPublisher(2), Outbox(row(1), row(2), row(3))
    async with relaying(outbox, publisher) as (_, outcomes):
        await until(lambda: sorted(outbox.published) == [1, 3])
    assert outcomes["order.created", "published"] == 2
    assert publisher.batches[:4] == [[1, 2, 3], [1], [2], [3]]


async def test_a_row_that_raises_while_others_go_through_comes_to_a_person():
    publisher, outbox = RaisingPublisher(1), Outbox(row(1), row(2))
    outbox.after_claim = lambda: None
    async with relaying(outbox, publisher, poll_seconds=0.01) as (relay, _):
        for number in range(3, 3 + TRIES):
            await until(lambda number=number: len(outbox.published) == number - 2)
            outbox.due.append(row(number))
            relay.wake()
        await until(lambda: any(isinstance(reason, Undeliverable) for _, reason in outbox.failures))
    (reason,) = [reason for _, reason in outbox.failures if isinstance(reason, Undeliverable)]
    assert reason == f"It failed unexpectedly {TRIES} times. ValueError('nobody thought of this')"
    assert [row_id for row_id, _ in outbox.failures] == [1] * len(outbox.failures)


async def test_while_nothing_goes_through_no_row_is_given_up():
    publisher, outbox = RaisingPublisher(1, 2), Outbox(row(1), row(2))
    async with relaying(outbox, publisher) as (relay, _):
        await until(lambda: len(publisher.batches) > 3 * (TRIES + 2))
        assert relay.problem == PublishProblem(ProblemKind.OURS, "ValueError('nobody thought of this')")
        publisher.bad.clear()
        await until(lambda: sorted(outbox.published) == [1, 2])
    assert not any(isinstance(reason, Undeliverable) for _, reason in outbox.failures)


async def test_what_cannot_be_read_and_what_raises_is_counted():
    failed = []
    publisher, outbox = RaisingPublisher(1), Outbox(row(1))
    outbox.broken = 1
    async with relaying(outbox, publisher, on_failure=lambda: failed.append(True)):
        await until(lambda: len(failed) >= 3)


async def test_a_broker_that_refuses_and_an_outbox_that_cannot_be_read_are_two_troubles():
    publisher, outbox = InMemoryPublisher(), Outbox(row(1))
    publisher.refuse = lambda _: True
    async with relaying(outbox, publisher) as (relay, _):
        await until(lambda: relay.problem is not None)
        assert relay.problem == PublishProblem(ProblemKind.BROKER, "refused")
        outbox.broken = 1000
        await until(lambda: relay.problem.kind is ProblemKind.DATABASE)
        outbox.broken = 0
        publisher.refuse = lambda _: False
        await until(lambda: relay.problem is None)


async def test_an_outbox_that_can_be_read_again_is_no_trouble_though_nothing_is_to_be_published():
    outbox = Outbox()
    outbox.broken = 1000
    async with relaying(outbox, InMemoryPublisher()) as (relay, _):
        await until(lambda: relay.problem is not None)
        outbox.broken = 0
        await until(lambda: relay.problem is None)


def answer(*problems):
    trouble = worst_kind(list(problems))
    well = {"database": True, "nats": True, "streams": True, "publishing": not problems}
    return well | ({"trouble": trouble} if trouble else {})


def test_only_the_brokers_own_trouble_speaks_against_the_broker():
    broker, database, ours = (PublishProblem(trouble, "") for trouble in ProblemKind)
    assert worker_publishing(answer()) is Publishing.TAKEN
    assert worker_publishing(answer(database)) is Publishing.UNKNOWN
    assert worker_publishing(answer(ours)) is Publishing.UNKNOWN
    assert worker_publishing(answer(ours, database)) is Publishing.UNKNOWN
    assert worker_publishing(answer(database, broker)) is Publishing.REFUSED


def locked():
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return OperationalError("UPDATE", {}, error)


@pytest.mark.parametrize(("error", "trouble"), [(locked(), ProblemKind.DATABASE), (ValueError("x"), ProblemKind.OURS)])
async def test_streams_that_are_there_are_not_the_trouble_when_what_they_lost_cannot_be_sent_again(
    connection, error, trouble
):
    errors = [error]

    async def send_again(_):
        if errors:
            raise errors.pop()

    topology = Topology(connection, send_again)
    assert topology.problem.kind is ProblemKind.BROKER
    await topology.watch()
    assert topology.problem.kind is trouble
    await topology.watch()
    assert topology.problem is None
