"""Bulk jobs over HTTP: the list, and each job with its items."""

from __future__ import annotations

import pytest

from tests.support.api import error_of
from tests.support.bulk_jobs import begin, failed_release, run

NOON = "2026-03-01T12:00:00.000Z"


async def test_bulk_jobs_are_listed_with_their_sums_and_read_with_their_items(api):
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
    assert (await api.data("/api/v1/bulk-jobs"))["items"] == [summary]
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
    assert await api.data("/api/v1/bulk-jobs/op-1") == summary | {"items": [item]}


async def test_a_bulk_job_that_does_not_exist_is_not_found(api):
    error_of(await api.get("/api/v1/bulk-jobs/nothing"), 404, "OPERATION_NOT_FOUND")


@pytest.mark.parametrize(
    ("former", "now"),
    [
        ("/api/v1/operations", "/api/v1/bulk-jobs"),
        ("/api/v1/operations?limit=5", "/api/v1/bulk-jobs?limit=5"),
        ("/api/v1/operations/op-1", "/api/v1/bulk-jobs/op-1"),
        ("/api/v1/operations/op%2F1?a=%26&b=", "/api/v1/bulk-jobs/op%2F1?a=%26&b="),
    ],
)
async def test_the_former_path_redirects_for_good_and_keeps_id_and_query(api, former, now):
    answer = await api.get(former)
    assert (answer.status_code, answer.headers["Location"]) == (308, now)
