"""Bulk jobs for tests: failed release jobs, stored bulk jobs and their items."""

from __future__ import annotations

from collections import Counter

from state import bulk_jobs, releases
from state.bulk_jobs import BulkItem, BulkJob
from tests.support.fakes import CAPTURE, Fault, PaymentFault

RELEASE = "release"


async def failed_release(shop, order_id):
    """An order whose hold could not be released in all its attempts."""
    shop.payments.fail(CAPTURE, PaymentFault.DECLINE)
    order = await shop.place(order_id=order_id)

    def last_attempt(connection):
        job = releases.get(connection, order_id)
        releases.settle(connection, job, shop.clock(), attempts=7)

    await shop.real_database.write(last_attempt)
    shop.inventory.fail(RELEASE, Fault.UNAVAILABLE)
    await shop.releases.run_due()
    assert (await shop.release(order_id)).state == "FAILED"
    return order


async def begin(
    shop, ids, *, bulk_action="retry_release", action=None, job_id="op-1", versions=None, owner=str, **more
):
    """Store a bulk job as the console does, with the versions that were seen."""
    seen = versions or await shop.real_database.read(lambda c: releases.versions(c, ids))
    causes = sorted({(await shop.release(one)).cause for one in ids}) if bulk_action != "resolve_review" else []
    causes = more.pop("causes", causes)
    bulk_job = BulkJob(
        job_id, bulk_action, action, "ada", "tidying up", "Failed", causes, len(ids), 0, shop.clock(), shop.clock(),
        **more,
    )  # fmt: skip
    rows = [BulkItem(job_id, one, owner(one), place, *seen[one]) for place, one in enumerate(ids)]
    await shop.real_database.write(lambda c: bulk_jobs.add(c, bulk_job, rows))
    return job_id


async def look(shop, job_id="op-1"):
    return await shop.real_database.read(lambda c: bulk_jobs.get(c, job_id))


async def job_items(shop, job_id="op-1"):
    items = await shop.real_database.read(lambda c: bulk_jobs.item_page(c, job_id, limit=1000))
    return {item.item_id: item for item in items}


async def states(shop, job_id="op-1"):
    return Counter(item.state for item in (await job_items(shop, job_id)).values())


async def run(shop, runner=None, *, rounds=60):
    """Run rounds until nothing changes."""
    for _ in range(rounds):
        before = await shop.everything()
        await (runner or shop.bulk_jobs).run_due()
        if await shop.everything() == before:
            return
