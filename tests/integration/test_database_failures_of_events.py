"""An event that only the database failed has used up none of its attempts. Against a real NATS server."""

from __future__ import annotations

import sqlite3
from datetime import timedelta

import pytest
from sqlalchemy.exc import OperationalError

from services.domain.orders.events import CONFIRMED
from services.messaging.parked_events import ATTEMPTS
from state.engine.transactions import DatabaseClosed, DatabaseOverloaded, DatabaseReplaced, is_of_database
from tests.support.consumers import Desk, ParkingWorld, consuming, delivery, fail
from tests.support.nats_server import eventually


def of_database() -> OperationalError:
    locked = sqlite3.OperationalError("database is locked")
    locked.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return OperationalError("SELECT 1", {}, locked)


AWAY = [of_database(), DatabaseOverloaded("full"), DatabaseClosed("closed"), DatabaseReplaced("replaced")]


@pytest.mark.parametrize("error", AWAY, ids=lambda error: type(error).__name__)
def test_failures_of_the_database_are_recognised_by_type_and_code(error):
    assert is_of_database(error)


def test_what_the_work_raised_is_not_the_databases():
    wrong = sqlite3.OperationalError("no such column: x")
    wrong.sqlite_errorcode = sqlite3.SQLITE_ERROR
    assert not is_of_database(OperationalError("SELECT x", {}, wrong))
    assert not is_of_database(RuntimeError("database is locked"))
    assert not is_of_database(TimeoutError())


@pytest.mark.usefixtures("streams")
@pytest.mark.parametrize("error", AWAY, ids=lambda error: type(error).__name__)
async def test_the_database_that_comes_back_during_the_last_attempt_costs_no_event(connection, error):
    """The handler fails on it to the last, and the dead letters can be written again."""
    desk = Desk()

    def away(seen):
        if seen.num_delivered <= 6:
            raise error

    desk.answer = away
    await connection.js.publish(CONFIRMED, b"one")
    async with consuming(connection, desk, attempts=2):
        await eventually(lambda: desk.outcomes[CONFIRMED, "handled"] == 1)
    assert desk.dead == []
    assert desk.outcomes[CONFIRMED, "retried"] == 6


@pytest.mark.usefixtures("streams")
async def test_after_an_outage_an_event_has_every_attempt_before_it(connection):
    desk = Desk()

    def away_then_broken(seen):
        if seen.num_delivered <= 4:
            raise of_database()
        fail()

    desk.answer = away_then_broken
    await connection.js.publish(CONFIRMED, b"one")
    async with consuming(connection, desk, attempts=3):
        await eventually(lambda: len(desk.dead) == 1)
    assert [seen.num_delivered for seen in desk.deliveries] == list(range(1, 8))
    assert [seen.is_last_attempt for seen in desk.deliveries] == [False] * 6 + [True]


@pytest.mark.usefixtures("streams")
async def test_an_event_is_set_aside_and_not_buried_by_a_process_that_does_not_know_of_the_outage(connection):
    """The server has counted deliveries to an earlier process: where it is set aside its attempts are counted anew."""
    earlier, later, aside = Desk(), Desk(), []
    earlier.answer = lambda _: (_ for _ in ()).throw(of_database())
    later.answer = fail

    async def set_aside(seen, reason):
        aside.append((seen.num_delivered, reason))
        return True

    await connection.js.publish(CONFIRMED, b"one")
    async with consuming(connection, earlier, attempts=2):
        await eventually(lambda: len(earlier.deliveries) >= 4)
    async with consuming(connection, later, attempts=2, set_aside=set_aside):
        await eventually(lambda: later.outcomes[CONFIRMED, "parked"] == 1)
    assert [reason for _, reason in aside] == ["RuntimeError: no luck"]
    assert aside[0][0] > 4
    assert (earlier.dead, later.dead) == ([], [])


async def test_a_parked_event_that_only_the_database_fails_is_put_off_and_never_given_up(shop):
    world = ParkingWorld(shop)
    order = await shop.place()
    assert await world.parking.set_aside(delivery(order.order_id), "RuntimeError: no luck")
    world.fails = lambda _: (_ for _ in ()).throw(of_database())
    for _ in range(3 * ATTEMPTS):
        shop.clock.now += timedelta(seconds=60)
        await world.parking.run_round()
    assert await world.dead_letters() == []
    world.fails = lambda _: False
    shop.clock.now += timedelta(seconds=60)
    await world.parking.run_round()
    assert (await shop.order(order.order_id)).status == "CONFIRMED"
