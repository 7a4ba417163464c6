"""Which streams store the events, against a real server."""

from __future__ import annotations

import asyncio

import pytest
from nats.js.api import StreamConfig

from services.domain.orders import events
from services.messaging.jetstream import (
    INVENTORY_EVENTS,
    ORDER_EVENTS,
    Connection,
    StreamPlan,
    ensure_streams,
)

OURS = dict.fromkeys(events.OUTGOING, "ORDER_EVENTS") | dict.fromkeys(events.INCOMING, "INVENTORY_EVENTS")


async def subjects(connection: Connection, stream: str) -> set[str]:
    return set((await connection.js.stream_info(stream)).config.subjects or [])


async def test_both_streams_are_made_with_their_limits(connection: Connection) -> None:
    assert await ensure_streams(connection.js) == OURS
    assert await subjects(connection, "ORDER_EVENTS") == {"order.>", "inventory.confirm_requested"}
    assert await subjects(connection, "INVENTORY_EVENTS") == set(events.INCOMING)
    config = (await connection.js.stream_info("ORDER_EVENTS")).config
    assert (config.storage, config.discard, config.retention) == ("file", "new", "limits")
    assert (config.max_age, config.duplicate_window) == (7 * 86_400, 600)
    assert config.allow_direct
    assert config.allow_atomic


async def test_doing_it_again_or_at_the_same_time_changes_nothing(connection: Connection) -> None:
    assert await asyncio.gather(*(ensure_streams(connection.js) for _ in range(8))) == [OURS] * 8
    assert await ensure_streams(connection.js) == OURS
    assert await subjects(connection, "ORDER_EVENTS") == {"order.>", "inventory.confirm_requested"}


async def test_a_stream_of_the_operator_is_used_as_it_is(connection: Connection) -> None:
    theirs = StreamConfig(name="SHOP", subjects=["order.*", "inventory.>"], max_bytes=1_000_000, duplicate_window=5)
    before = (await connection.js.add_stream(theirs)).config
    assert await ensure_streams(connection.js) == dict.fromkeys(OURS, "SHOP")
    assert (await connection.js.stream_info("SHOP")).config == before
    assert [info.config.name for info in await connection.js.streams_info()] == ["SHOP"]


async def test_only_the_subjects_that_nobody_stores_get_a_stream_of_ours(connection: Connection) -> None:
    await connection.js.add_stream(StreamConfig(name="SHOP", subjects=["order.created", "inventory.low_stock"]))
    placement = await ensure_streams(connection.js)
    assert placement == OURS | {"order.created": "SHOP", "inventory.low_stock": "SHOP"}
    assert await subjects(connection, "ORDER_EVENTS") == set(events.OUTGOING) - {"order.created"}
    assert await subjects(connection, "INVENTORY_EVENTS") == set(events.INCOMING) - {"inventory.low_stock"}


async def test_a_stream_that_overlaps_only_the_wildcard_narrows_ours(connection: Connection) -> None:
    await connection.js.add_stream(StreamConfig(name="SHOP", subjects=["order.shipped"]))
    assert await ensure_streams(connection.js) == OURS
    assert await subjects(connection, "ORDER_EVENTS") == set(events.OUTGOING)


async def test_a_stream_of_the_operator_with_our_name_is_left_alone(connection: Connection) -> None:
    await connection.js.add_stream(StreamConfig(name="ORDER_EVENTS", subjects=["order.created"]))
    placement = await ensure_streams(connection.js, [ORDER_EVENTS])
    rest = dict.fromkeys(events.OUTGOING[1:], "HOLDFAST_ORDER_EVENTS")
    assert placement == {"order.created": "ORDER_EVENTS"} | rest
    assert await subjects(connection, "ORDER_EVENTS") == {"order.created"}
    assert await ensure_streams(connection.js, [ORDER_EVENTS]) == placement


async def test_a_stream_of_ours_is_extended_by_a_new_event(connection: Connection) -> None:
    older = StreamPlan("INVENTORY_EVENTS", events.INCOMING[:2], events.INCOMING[:2])
    await ensure_streams(connection.js, [older])
    await connection.js.publish(events.CONFIRMED, b"kept")
    placement = await ensure_streams(connection.js, [INVENTORY_EVENTS])
    assert set(placement.values()) == {"INVENTORY_EVENTS"}
    assert await subjects(connection, "INVENTORY_EVENTS") == set(events.INCOMING)
    assert (await connection.js.stream_info("INVENTORY_EVENTS")).state.messages == 1


@pytest.mark.parametrize("count", [2])
async def test_the_streams_fit_the_embedded_server(connection: Connection, count: int) -> None:
    await ensure_streams(connection.js)
    account = await connection.js.account_info()
    assert account.streams == count
