"""A durable that somebody changes or made under its name, and the take-over of the durable of an earlier name."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import nats.errors
import pytest
from nats.js.api import AckPolicy, ConsumerConfig

from services.domain.orders.events import CONFIRMATION_FAILED, CONFIRMED, LOW_STOCK
from services.messaging.durable_consumer import REPORTED_SECONDS, ConsumerSettings, Durable
from services.messaging.jetstream import INVENTORY_EVENTS, Connection, ensure_streams

STREAM = INVENTORY_EVENTS.name
NAME, EARLIER = "order-service-default", "order-service"
SUBJECTS = [CONFIRMED, CONFIRMATION_FAILED]

pytestmark = pytest.mark.usefixtures("_streams")


@pytest.fixture
async def _streams(connection: Connection) -> None:
    await ensure_streams(connection.js)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def durable(connection: Any, clock: Clock | None = None) -> Durable:
    settings = ConsumerSettings(stream=STREAM, durable=NAME, subjects=SUBJECTS, owner="us", succeeds=EARLIER)
    return Durable(connection, settings, clock or Clock())


def config(name: str, **values: Any) -> ConsumerConfig:
    usual = {"ack_policy": AckPolicy.EXPLICIT, "max_deliver": -1, "filter_subjects": SUBJECTS}
    return ConsumerConfig(name=name, durable_name=name, **usual | values)


async def names(connection: Connection) -> list[str]:
    return sorted(known.name for known in await connection.js.consumers_info(STREAM))


async def change(connection: Connection, **values: Any) -> None:
    """As a person does with the broker's own command line, which keeps everything else."""
    known = (await connection.js.consumer_info(STREAM, NAME)).config
    await connection.js.add_consumer(STREAM, known.evolve(**values))


async def read(connection: Connection, name: str, limit: int = 10, *, acknowledges: bool = True) -> list[bytes]:
    """What the durable has to give now."""
    subscription = await connection.js.pull_subscribe_bind(name, STREAM)
    payloads = []
    while len(payloads) < limit:
        try:
            (message,) = await subscription.fetch(1, timeout=0.15)
        except TimeoutError:
            break
        payloads.append(message.data)
        if acknowledges:
            await message.ack_sync()
    await subscription.unsubscribe()
    return payloads


async def publish(connection: Connection, *payloads: bytes, subject: str = CONFIRMED) -> None:
    for payload in payloads:
        await connection.js.publish(subject, payload)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"filter_subjects": [LOW_STOCK]}, "given other filter subjects (inventory.low_stock)"),
        ({"filter_subjects": None, "filter_subject": CONFIRMED}, f"given other filter subjects ({CONFIRMED})"),
        ({"filter_subjects": [*SUBJECTS, LOW_STOCK]}, "given other filter subjects"),
        ({"filter_subjects": None}, "given other filter subjects (none)"),
        ({"max_deliver": 3}, "given other settings"),
        ({"max_ack_pending": 1}, "given other settings"),
        ({"metadata": {}}, "made by another program"),
    ],
    ids=["other subject", "one of ours", "one more", "no filter", "gives up", "one at a time", "no metadata"],
)
@pytest.mark.parametrize("is_running", [True, False], ids=["while it runs", "at the next start"])
async def test_a_durable_that_a_person_changed_is_corrected_and_reported(
    connection: Connection, caplog: pytest.LogCaptureFixture, values: dict[str, Any], said: str, is_running: bool
) -> None:
    clock = Clock()
    ours = durable(connection, clock)
    await ours.ensure()
    assert ours.problem is None
    before = (await connection.js.consumer_info(STREAM, NAME)).config
    await change(connection, **values)
    if is_running:
        assert await ours.look()
    else:
        ours = durable(connection, clock)
        await ours.ensure()
    assert ours.problem
    assert said in ours.problem
    assert [record.message for record in caplog.records].count("consumer_changed_by_others") == 1
    after = (await connection.js.consumer_info(STREAM, NAME)).config
    assert (after.filter_subjects, after.max_deliver, after.max_ack_pending, after.metadata) == (
        before.filter_subjects,
        before.max_deliver,
        before.max_ack_pending,
        before.metadata,
    )
    # It is told long enough to be seen, and not for ever.
    assert await ours.look()
    assert ours.problem
    clock.now += REPORTED_SECONDS
    assert await ours.look()
    assert ours.problem is None


@pytest.mark.parametrize("is_running", [True, False], ids=["while it runs", "at the next start"])
@pytest.mark.parametrize("values", [{"filter_subjects": [LOW_STOCK]}, {"metadata": {}}], ids=["filter", "another's"])
async def test_what_a_changed_filter_hid_is_read_after_the_correction(
    connection: Connection, is_running: bool, values: dict[str, Any]
) -> None:
    ours = durable(connection)
    await ours.ensure()
    await publish(connection, b"before")
    assert await read(connection, NAME) == [b"before"]
    await ours.look()
    await change(connection, **values)
    await publish(connection, b"hidden")
    await publish(connection, b"low", subject=LOW_STOCK)
    await read(connection, NAME)
    if is_running:
        await ours.look()
    else:
        await durable(connection).ensure()
    found = await read(connection, NAME)
    # After a start what was handled comes again, too, and is recognised.
    assert found == ([b"hidden"] if is_running else [b"before", b"hidden"])


async def test_a_durable_that_another_version_of_ours_made_is_changed_without_a_log_entry(
    connection: Connection,
) -> None:
    earlier = ConsumerSettings(stream=STREAM, durable=NAME, subjects=[CONFIRMED], ack_wait_seconds=5, owner="us")
    await Durable(connection, earlier).ensure()
    ours = durable(connection)
    await ours.ensure()
    assert ours.problem is None
    assert (await connection.js.consumer_info(STREAM, NAME)).config.filter_subjects == sorted(SUBJECTS)


async def test_a_durable_that_the_broker_refuses_to_change_is_reported(connection: Connection) -> None:
    await connection.js.add_consumer(STREAM, config(NAME, ack_policy=AckPolicy.NONE, max_deliver=None))
    ours = durable(connection)
    with pytest.raises(nats.errors.Error):
        await ours.ensure()
    assert "delete it" in (ours.problem or "")
    assert (await connection.js.consumer_info(STREAM, NAME)).config.ack_policy == AckPolicy.NONE


@pytest.mark.parametrize(
    "values",
    [
        {"filter_subjects": [CONFIRMED]},
        {"filter_subjects": [*SUBJECTS, LOW_STOCK]},
        {"filter_subjects": None},
        {"ack_policy": AckPolicy.ALL},
        {"ack_policy": AckPolicy.NONE, "max_deliver": None},
        {"deliver_subject": "theirs"},
        {"metadata": {"holdfast-owner": "them"}},
    ],
    ids=["fewer subjects", "more subjects", "no filter", "acks all", "acks none", "push", "another installation"],
)
async def test_a_consumer_that_only_has_the_earlier_name_is_left_and_said(
    connection: Connection, caplog: pytest.LogCaptureFixture, values: dict[str, Any]
) -> None:
    await connection.js.add_consumer(STREAM, config(EARLIER, **values))
    await publish(connection, b"1")
    ours = durable(connection)
    await ours.ensure()
    await ours.ensure()
    assert await names(connection) == [EARLIER, NAME]
    assert "was left" in (ours.problem or "")
    assert [record.message for record in caplog.records].count("consumer_left_alone") == 1
    assert await read(connection, NAME) == [b"1"]


class Ended(BaseException):
    """The process is killed here."""


class EndsAtStep:
    """JetStream that ends its caller at a request, before or after the broker has carried it out."""

    def __init__(self, js: Any, step: int, *, is_carried_out: bool) -> None:
        self._js, self._left, self._is_carried_out = js, step, is_carried_out

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any) -> Any:
            if self._left == 0:
                if self._is_carried_out:
                    await getattr(self._js, name)(*arguments)
                raise Ended
            self._left -= 1
            return await getattr(self._js, name)(*arguments)

        return call


class Ending:
    """A connection whose JetStream ends its caller."""

    is_connected = True

    def __init__(self, js: EndsAtStep) -> None:
        self.js = js


@asynccontextmanager
async def earlier_position(connection: Connection) -> AsyncIterator[None]:
    """The durable of the earlier name with one event settled, one delivered and one to come; empty again afterwards."""
    await connection.js.purge_stream(STREAM)
    await connection.js.add_consumer(STREAM, config(EARLIER))
    await publish(connection, b"settled")
    assert await read(connection, EARLIER) == [b"settled"]
    await publish(connection, b"under way", b"to come")
    assert await read(connection, EARLIER, 1, acknowledges=False) == [b"under way"]
    yield
    for name in await names(connection):
        await connection.js.delete_consumer(STREAM, name)


async def test_a_take_over_that_ends_at_any_step_is_completed_by_the_next_start(connection: Connection) -> None:
    ended = 0
    for step, is_carried_out in itertools.product(range(8), [False, True]):
        async with earlier_position(connection):
            try:
                js = EndsAtStep(connection.js, step, is_carried_out=is_carried_out)
                await durable(Ending(js)).ensure()
            except Ended:
                ended += 1
            await durable(connection).ensure()
            assert await names(connection) == [NAME], (step, is_carried_out)
            assert await read(connection, NAME) == [b"under way", b"to come"], (step, is_carried_out)
    # Two looks, the new durable, and the end of the old one; each before and after.
    assert ended == 8


async def test_replicas_that_take_over_at_once_do_it_once(connection: Connection) -> None:
    async with earlier_position(connection):
        outcomes = await asyncio.gather(*(durable(connection).ensure() for _ in range(4)), return_exceptions=True)
        assert any(outcome is None for outcome in outcomes)
        # What was refused because another one was faster is tried again by the consumer.
        await durable(connection).ensure()
        assert await names(connection) == [NAME]
        assert await read(connection, NAME) == [b"under way", b"to come"]
