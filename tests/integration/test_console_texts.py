"""What people type on the console is stored and carried out, whatever characters are in it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from services.base.settings import Settings
from services.console.access import storable
from services.console.bulk import BulkRequest, BulkTarget
from services.console.facade import Console
from services.domain.bulk import BulkAction
from state import bulk_jobs
from tests.support.fakes import CAPTURE, PaymentFault
from tests.support.orders_harness import OrdersHarness

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
TYPED = "pasted\x00 from \ud83d a pager"
KEPT = "pasted\ufffd from \ufffd a pager"


@pytest.fixture
def shop(database_url: str) -> Iterator[OrdersHarness]:
    harness = OrdersHarness(database_url)
    yield harness
    harness.close()


@pytest.fixture
def console(database_url: str) -> Iterator[Console]:
    made = Console(Settings.load(database_url=database_url), lambda: NOON)
    yield made
    made.close()


async def test_a_reason_is_stored_executed_and_audited_with_what_cannot_be_stored_marked(shop, console):
    order = await shop.place()
    console.access.store_command("cancel_order", order.order_id, {"reason": TYPED}, actor="ada", command_id="c-1")
    shop.clock.now = NOON
    await shop.commands.run_waiting()
    assert (await shop.stored_command("c-1")).state == "DONE"
    (entry,) = await shop.audit()
    assert entry.reason == KEPT


async def test_a_target_from_an_address_is_refused_as_unknown_and_not_as_a_broken_database(shop, console):
    console.access.store_command("retry_release", "o\x00-1", {}, actor="ada", command_id="c-1")
    shop.clock.now = NOON
    await shop.commands.run_waiting()
    ended = await shop.stored_command("c-1")
    assert (ended.state, ended.target_id, ended.outcome.code) == ("REFUSED", "o\ufffd-1", "RELEASE_NOT_FOUND")


async def test_a_bulk_job_keeps_its_reason_and_its_filter(shop, console):
    shop.payments.fail(CAPTURE, PaymentFault.DECLINE)
    order = await shop.place()
    job = await shop.release(order.order_id)
    target = BulkTarget(order.order_id, order.order_id, job.version, job.state, "cause\x00")
    bulk = BulkRequest(BulkAction.RETRY_RELEASE, None, (target,), NOON, f"Filter: {TYPED}")
    console.bulk.start(bulk, TYPED, actor="ada", job_id="op-1")
    kept = await shop.real_database.read(lambda c: bulk_jobs.get(c, "op-1"))
    assert (kept.reason, kept.filter, kept.causes) == (KEPT, f"Filter: {KEPT}", ["cause\ufffd"])


def test_texts_are_found_wherever_they_are_and_the_rest_stays_as_it_is():
    given = {"a\x00": ["\udc00", 1, None, True, 1.5, ("x", {"y": "\x00"})]}
    assert storable(given) == {"a\ufffd": ["\ufffd", 1, None, True, 1.5, ["x", {"y": "\ufffd"}]]}
    assert storable("\u2603 \U0001f600\n\t") == "\u2603 \U0001f600\n\t"
