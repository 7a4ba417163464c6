"""Retry, requeue, put-back and grouping follow failure classes: other words in every message change none of them."""

from __future__ import annotations

import pytest

from services.domain.calls import FailureClass
from services.domain.errors import ApiError
from state import bulk_jobs, commands, releases, review_queue
from state.review_queue import CaseFilter
from tests.support.bulk_jobs import begin, failed_release, run
from tests.support.fakes import CAPTURE, Fault, PaymentFault
from tests.support.orders_harness import OrdersHarness

RESERVE, RELEASE = "reserve", "release"
FAULTS = [
    Fault.TIMEOUT_BEFORE,
    Fault.TIMEOUT_AFTER,
    Fault.UNAVAILABLE,
    Fault.UNAVAILABLE_AFTER,
    Fault.BUSY,
    Fault.THROTTLED,
    Fault.REFUSED,
    Fault.CIRCUIT_OPEN,
]


@pytest.fixture
def fresh(sqlite_template, tmp_path):
    """Makes the address of a fresh, migrated database of that number."""
    return lambda number: sqlite_template.copy_to(tmp_path / f"{number}.db")


class Reworded:
    """A gateway whose errors keep type, code and details, and carry the message of another failure."""

    def __init__(self, gateway):
        self._gateway = gateway

    def __getattr__(self, name):
        async def call(*given):
            try:
                return await getattr(self._gateway, name)(*given)
            except ApiError as error:
                error.message = (
                    "INVENTORY_REWORDED: Circuit breaker other is open; nothing was sent. Everything is fine."
                )
                error.args = (error.message,)
                raise

        return call


class RewordedHarness(OrdersHarness):
    def _gateway(self):
        return Reworded(super()._gateway())


async def with_both(fresh, scenario):
    """What a scenario leaves behind with the product's messages and with other ones."""
    found = []
    for number, made in enumerate((OrdersHarness, RewordedHarness)):
        shop = made(fresh(number))
        try:
            await scenario(shop)
            found.append(await facts(shop))
        finally:
            shop.close()
    return found


async def facts(shop):
    """Everything that a decision of the service left behind, without the texts."""

    def read(connection):
        jobs = [
            (job.order_id, job.state, job.attempts, job.next_attempt_at, job.cause, job.failure_class, job.version)
            for job in releases.page(connection)
        ]
        done = [
            (one.action, one.cause, one.outcome) for job in jobs for one in releases.last_actions(connection, job[4])
        ]
        cases = [
            (case.order_id, case.reason, case.state, case.version, case.cause, case.failure_class)
            for state in ("OPEN", "RESOLVED")
            for case in review_queue.page(connection, CaseFilter(state=state), shop.clock(), limit=50)
        ]
        groups = [(group.cause, group.failed, group.pending) for group in releases.groups(connection)]
        stored = commands.get(connection, "command-1")
        asked = stored and (stored.state, stored.outcome and stored.outcome.code)
        items = [(item.item_id, item.state, item.version) for item in bulk_jobs.item_page(connection, "op-1", limit=50)]
        return {"jobs": jobs, "done": done, "cases": cases, "groups": groups, "command": asked, "items": items}

    return await shop.real_database.read(read)


async def released(shop, *faults):
    shop.payments.fail(CAPTURE, PaymentFault.DECLINE)
    await shop.place(order_id="mine")
    shop.inventory.fail(RELEASE, *faults)
    await shop.releases.run_due()


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_release_job_is_retried_and_grouped_alike(fresh, fault):
    before, after = await with_both(fresh, lambda shop: released(shop, fault))
    assert after == before
    assert before["groups"][0][0] != FailureClass.NOT_TRIED


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_retry_by_a_person_is_queued_or_refused_alike(fresh, fault):
    async def scenario(shop):
        await failed_release(shop, "mine")
        shop.inventory.fail(RELEASE, fault)
        await shop.command("retry_release", "mine", "command-1")
        await shop.commands.run_waiting()

    before, after = await with_both(fresh, scenario)
    assert after == before
    is_queued = fault == Fault.CIRCUIT_OPEN
    assert before["command"][0] == ("DONE" if is_queued else "REFUSED")


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_bulk_item_is_put_back_or_failed_alike(fresh, fault):
    async def scenario(shop):
        await failed_release(shop, "mine")
        await begin(shop, ["mine"])
        shop.inventory.fail(RELEASE, fault)
        await run(shop, rounds=1)

    before, after = await with_both(fresh, scenario)
    assert after == before


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_case_whose_action_failed_is_requeued_alike(fresh, fault):
    async def scenario(shop):
        shop.inventory.fail(RESERVE, Fault.UNAVAILABLE)
        await shop.place(order_id="mine")
        case = await shop.open_case("mine")
        shop.inventory.fail(RESERVE, fault)
        await shop.command(
            "resolve_review", case.review_id, "command-1", action="RETRY_RESERVATION", version=case.version
        )
        await shop.commands.run_waiting()

    before, after = await with_both(fresh, scenario)
    assert after == before
    assert ("mine", "PENDING_INVENTORY") in {case[:2] for case in before["cases"]}


async def test_different_failures_are_different_groups(fresh):
    causes = set()
    for number, fault in enumerate(FAULTS):
        shop = OrdersHarness(fresh(number))
        try:
            await released(shop, fault)
            causes.add((await shop.release("mine")).cause)
        finally:
            shop.close()
    assert causes == {
        "INVENTORY_TIMEOUT",
        "INVENTORY_UNAVAILABLE:503",
        "INVENTORY_UNAVAILABLE",
        "INVENTORY_UNAVAILABLE:429",
        "INVENTORY_THROTTLED:429",
        "RELEASE_REFUSED:422",
        "BREAKER_OPEN",
    }
