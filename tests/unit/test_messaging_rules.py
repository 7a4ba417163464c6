"""The pure parts of messaging: delays, grouping, credentials."""

from __future__ import annotations

import pytest

from services.messaging.durable_consumer import redelivery_delay_seconds
from services.messaging.jetstream import Connection, by_stream


@pytest.mark.parametrize(("delivery", "seconds"), [(1, 1), (2, 2), (3, 5), (4, 15), (5, 30), (6, 30), (400, 30)])
def test_redeliveries_wait_longer_and_longer(delivery: int, seconds: float) -> None:
    assert redelivery_delay_seconds(delivery, lambda: 0.5) == pytest.approx(seconds)


def test_redeliveries_are_spread_by_a_fifth_to_both_sides() -> None:
    assert redelivery_delay_seconds(3, lambda: 0.0) == pytest.approx(4.0)
    assert redelivery_delay_seconds(3, lambda: 0.999999) == pytest.approx(6.0, rel=1e-5)


def test_subjects_are_grouped_by_the_stream_that_stores_them() -> None:
    placement = {"a": "ONE", "b": "TWO", "c": "ONE", "d": "ONE"}
    assert by_stream(placement, ["a", "b", "c"]) == {"ONE": ["a", "c"], "TWO": ["b"]}


async def test_an_unopened_connection_is_connecting_and_closes_without_a_server() -> None:
    connection = Connection(["nats://127.0.0.1:4222"], name="test")
    assert (connection.state, connection.is_connected) == ("connecting", False)
    await connection.close()
    assert connection.is_closed
