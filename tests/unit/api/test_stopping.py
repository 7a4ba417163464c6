"""A request that the end of the process cuts short is answered in the API's own form, and its order goes on."""

from __future__ import annotations

import asyncio

from services.domain.calls import InventoryCall

ORDERS = "/api/v1/orders"


async def test_a_request_that_is_cut_short_is_refused_with_a_retry_time_and_gets_its_order_then(api, order_body):
    reserving, may_go_on = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        reserving.set()
        await may_go_on.wait()

    api.shop.inventory.hooks.before(InventoryCall.RESERVE, hang)
    request = asyncio.create_task(api.post(ORDERS, order_body(orderId="mine"), idempotency_key="k"))
    await reserving.wait()
    # What the HTTP server does to requests that outlast its grace.
    request.cancel("timeout graceful shutdown exceeded")
    answer = await request

    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) >= 1
    error = answer.json()["error"]
    assert (error["code"], error["retryable"]) == ("SERVICE_UNAVAILABLE", True)

    may_go_on.set()
    await api.shop.placement.drain(5.0)
    again = await api.post(ORDERS, order_body(orderId="mine"), idempotency_key="k")
    assert (again.status_code, again.json()["data"]["orderId"]) == (201, "mine")
