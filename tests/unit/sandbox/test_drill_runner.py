"""Drills over a real database and a switch that can go away: a crash at any step leaves nothing on."""

from __future__ import annotations

import pytest

from services.domain.errors import InvalidState
from services.sandbox.drills.inventory import Shelves
from state import breakers, commands, replicas
from state import sandbox as drills
from state.breakers import BreakerTransition
from tests.support.drills import CALM, Switches, runner_of, start
from tests.support.fakes import Fault


@pytest.fixture
def switches() -> Switches:
    return Switches()


async def beat(shop, state="closed"):
    breaker = {"name": "inventoryServiceReserver", "state": state, "retryInMs": None, "buckets": []}
    fields = {"calls": 0, "failures": 0, "thresholdPercentage": 50, "volumeThreshold": 5, "denied": 0, "since": None}
    at = shop.clock()
    await shop.real_database.write(
        lambda c: replicas.beat(
            c, replicas.Replica("w", started_at=at, heartbeat_at=at, breakers=[breaker | fields], facts={})
        )
    )


async def until(shop, runner, phase, *, seconds=1.0, rounds=400):
    for _ in range(rounds):
        drill = await shop.real_database.read(lambda c: drills.get(c, "d-1"))
        if drill.phase == phase:
            return drill
        shop.clock.advance(seconds)
        await beat(shop)
        await runner.run_next()
    raise AssertionError(f"never {phase}: {drill}")


async def test_a_drill_from_its_start_to_its_report(shop, switches):
    runner = runner_of(shop, switches)
    await start(runner)
    running = await until(shop, runner, "RUNNING")
    assert switches.faults_now["outage"] is True
    shop.clock.advance(2)
    opened = BreakerTransition("w", "inventoryServiceReserver", "closed", "open", shop.clock())
    await shop.real_database.write(lambda c: breakers.add_transitions(c, [opened]))
    await beat(shop, "open")
    await runner.run_next()
    shop.inventory.fail("check_availability", Fault.UNAVAILABLE)
    assert (await shop.place()).status == "REJECTED"
    drill = await until(shop, runner, "DONE")
    assert switches.faults_now == CALM
    report = drill.report
    assert report["completed"] is True
    assert report["detection"][0] == {"by": "breaker", "seconds": 2.0}
    assert {one["by"] for one in report["detection"]} == {"breaker", "health"}
    assert (report["orders"]["placed"], report["orders"]["refused"], report["orders"]["hurt"]) == (1, 1, 1)
    assert report["recovery"]["seconds"] is not None
    assert report["lost"]["count"] == 0
    assert report["lost"]["compared"] == 1
    assert running.began_at < drill.ended_at <= drill.recovered_at <= drill.finished_at
    assert [entry.action for entry in await shop.audit()] == ["START_DRILL", "FINISH_DRILL"]
    assert {entry.correlation_id for entry in await shop.audit()} == {"d-1"}
    assert await runner.run_next() is False


async def test_a_difference_among_its_orders_is_reported_as_lost(shop, switches):
    runner = runner_of(shop, switches)
    await start(runner)
    await until(shop, runner, "RUNNING")
    order = await shop.place_confirmed()
    await until(shop, runner, "RECOVERING")
    shop.payments.states[order.order_id] = "FAILED"
    report = (await until(shop, runner, "DONE")).report
    assert report["lost"]["differences"] == [f"NOT_PAID {order.order_id}"]


@pytest.mark.parametrize("phase", ["APPLYING", "RUNNING", "RESTORING", "RECOVERING", "CHECKING"])
async def test_the_next_process_resumes_a_drill_and_restores_the_faults(shop, switches, phase):
    await start(runner_of(shop, switches))
    await until(shop, runner_of(shop, switches), phase)
    shop.start()
    shop.clock.advance(3600)
    await until(shop, runner_of(shop, switches), "DONE")
    assert switches.faults_now == CALM


async def test_faults_from_before_the_drill_are_restored(shop, switches):
    switches.faults_now = CALM | {"latencyMs": 40}
    runner = runner_of(shop, switches)
    await start(runner)
    await until(shop, runner, "RUNNING")
    await until(shop, runner, "DONE")
    assert switches.faults_now == CALM | {"latencyMs": 40}


async def test_restoring_is_retried_while_the_service_is_down(shop, switches):
    runner = runner_of(shop, switches)
    await start(runner)
    await until(shop, runner, "RUNNING")
    switches.is_away = True
    await until(shop, runner, "RESTORING")
    for _ in range(5):
        shop.clock.advance(30)
        await runner.run_next()
    assert (await shop.real_database.read(drills.active)).phase == "RESTORING"
    switches.is_away = False
    await until(shop, runner, "DONE")
    assert switches.faults_now == CALM


async def test_there_is_one_drill_at_a_time_and_the_same_command_is_one_drill(shop, switches):
    runner = runner_of(shop, switches)
    first = await start(runner)
    assert await start(runner) == first
    with pytest.raises(InvalidState, match="Another drill is under way"):
        await start(runner, drill_id="d-2")
    assert len(await shop.audit()) == 1


async def test_a_drill_that_is_stopped_ends_its_faults_at_once_and_is_reported(shop, switches):
    runner = runner_of(shop, switches)
    await start(runner, seconds=600)
    await until(shop, runner, "RUNNING")
    await runner.stop("d-1", actor="bob")
    drill = await until(shop, runner, "DONE")
    assert (drill.stopped_by, switches.faults_now) == ("bob", CALM)
    assert drill.report["faultSeconds"] < 60
    with pytest.raises(InvalidState, match="are over"):
        await runner.stop("d-1", actor="bob")


async def test_commands_start_drills_and_set_the_traffic_in_the_sandbox_only(shop, switches):
    async def ask(drills):
        executor = shop.executor(drills=drills)
        drill = await shop.command("start_drill", "outage", seconds=10, level=None, reason="sale")
        rate = await shop.command("set_traffic", "traffic", ordersPerSecond=2.5)
        await executor.run_waiting()
        read = shop.real_database.read
        return [(await read(lambda c, i=i: commands.get(c, i))).state for i in (drill, rate)], drill

    assert (await ask(None))[0] == ["REFUSED", "REFUSED"]
    states, drill_id = await ask(runner_of(shop, switches))
    assert states == ["DONE", "DONE"]
    assert (await shop.real_database.read(drills.active)).drill_id == drill_id
    assert switches.rate == 2.5


async def test_the_stock_is_stored_and_the_traffic_rate_is_restored_after_a_restart(shop, switches):
    shelves = Shelves(shop.database, shop.clock, switches)
    await shelves.look()
    shown, at = await shop.real_database.read(lambda c: drills.get_value(c, drills.SHELVES))
    assert (shown["items"], shown["faults"], at) == ([{"productId": "p"}], CALM, shop.clock())
    await runner_of(shop, switches).set_traffic(3.0, actor="ada")
    switches.rate = None
    await shelves.look()
    assert switches.rate == 3.0
    switches.is_away = True
    await shelves.look()
    assert (await shop.real_database.read(lambda c: drills.get_value(c, drills.SHELVES)))[0]["items"]
