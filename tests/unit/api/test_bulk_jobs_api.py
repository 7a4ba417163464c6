"""Bulk operations over HTTP: what runs and ran, and each ledger."""

from __future__ import annotations

from tests.support.api import error_of
from tests.support.bulk_jobs import begin, failed_release, run

NOON = "2026-03-01T12:00:00.000Z"


async def test_operations_are_listed_with_their_sums_and_read_with_their_items(api):
    order = await failed_release(api.shop, "mine")
    await begin(api.shop, [order.order_id])
    await run(api.shop)
    summary = {
        "operationId": "op-1",
        "verb": "retry_release",
        "action": None,
        "actor": "ada",
        "reason": "tidying up",
        "filter": "Failed",
        "state": "DONE",
        "note": None,
        "total": 1,
        "ledger": {"CONFIRMED": 1},
        "notIncluded": 0,
        "newFailures": 0,
        "seenAt": NOON,
        "createdAt": NOON,
        "waitsUntil": None,
        "endedAt": NOON,
    }
    assert (await api.data("/api/v1/operations"))["items"] == [summary]
    item = {
        "itemId": "mine",
        "orderId": "mine",
        "seenVersion": 4,
        "state": "CONFIRMED",
        "sentAt": NOON,
        "acceptedAt": NOON,
        "settledAt": NOON,
        "detail": None,
    }
    assert await api.data("/api/v1/operations/op-1") == summary | {"items": [item]}


async def test_an_operation_that_does_not_exist_is_not_found(api):
    error_of(await api.get("/api/v1/operations/nothing"), 404, "OPERATION_NOT_FOUND")
