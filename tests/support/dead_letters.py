"""Dead letters for tests: events that were not handled, and bulk jobs on them as the console stores them."""

from __future__ import annotations

import orjson

from services.messaging.consumer import Delivery
from state import bulk_jobs, dead_letters
from state.bulk_jobs import BulkItem, BulkJob


async def keep_dead_letter(shop, order, number=1, *, payload=None, reason=None):
    """A confirmation of the order that was not handled; returns its id."""
    body = {"orderId": order.order_id, "reservationId": order.reservation_id}
    await shop.dead_letters.keep(
        Delivery(
            stream="S",
            stream_seq=number,
            subject="inventory.confirmed",
            payload=payload or orjson.dumps(body),
            headers={"Nats-Msg-Id": f"m-{number}"},
        ),
        reason or f"TimeoutError: order {number}",
        attempts=8,
    )
    return next(dead_letter.id for dead_letter in await stored_dead_letters(shop) if dead_letter.stream_seq == number)


async def stored_dead_letters(shop, state=None):
    return await shop.real_database.read(lambda c: dead_letters.page(c, state=state))


async def begin(shop, ids, *, bulk_action="replay_event", reason="tidying up", job_id="op-1"):
    """Store a bulk job on dead letters as they are now."""
    seen = await shop.real_database.read(lambda c: dead_letters.versions(c, ids))
    names = [dead_letters.group_name("inventory.confirmed", "TimeoutError: order \u2026")]
    bulk_job = BulkJob(
        job_id, bulk_action, None, "ada", reason, names[0], names, len(ids), 0, shop.clock(), shop.clock()
    )
    rows = [BulkItem(job_id, one, "", place, *seen[one]) for place, one in enumerate(ids)]
    await shop.real_database.write(lambda c: bulk_jobs.add(c, bulk_job, rows))
