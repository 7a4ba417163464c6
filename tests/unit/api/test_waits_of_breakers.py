"""How long a breaker of another replica still waits: counted from that replica's heartbeat to now, never below zero."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.api.routes.breakers import breakers_over
from state import replicas
from state.replicas import Replica
from tests.support.fakes import START


def replica(name: str, retry_in_ms: object, beat_at=START) -> Replica:
    breaker = {"name": "b", "state": "open", "since": None, "retryInMs": retry_in_ms, "calls": 0, "failures": 0}
    return Replica(name, START, beat_at, [breaker], {})


@pytest.mark.parametrize(
    ("said", "age_ms", "left"),
    [
        (9000, 0, 9000),
        (9000, 1500, 7500),
        (1000, 1000, 0),
        (1000, 4999, 0),
        (0, 3000, 0),
        # The clock of the other replica is ahead of ours.
        (9000, -800, 9000),
        (None, 1000, None),
        ("soon", 1000, None),
        (float("inf"), 1000, None),
        (9000.4, 1000, 8000),
    ],
)
def test_the_age_of_a_heartbeat_is_taken_off_the_wait(said: object, age_ms: int, left: int | None) -> None:
    (breaker,) = breakers_over([replica("a", said)], {}, START + timedelta(milliseconds=age_ms))
    assert (breaker.retry_in_ms, breaker.replicas[0].retry_in_ms) == (left, left)


async def test_the_api_takes_the_age_off_for_others_and_answers_for_itself_from_memory(api) -> None:
    other = {"name": "inventoryServiceReserver", "state": "open", "retryInMs": 9000}
    await api.shop.real_database.write(
        lambda c: replicas.beat(
            c, replicas.Replica("other", started_at=START, heartbeat_at=START, breakers=[other], facts={})
        )
    )
    await api.recorder.beat()
    api.shop.clock.advance(2)
    items = (await api.data("/api/v1/breakers"))["items"]
    (reserver,) = (breaker for breaker in items if breaker["name"] == other["name"])
    assert reserver["retryInMs"] == 7000
    assert {one["replica"]: one["retryInMs"] for one in reserver["replicas"]} == {"other": 7000, "replica-1": 0}
