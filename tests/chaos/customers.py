"""Customers who insist: each repeats a request under the same key until it is answered, and remembers the answers."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Self

import httpx
from sqlalchemy import select

from services.base.identity import utc_now
from services.domain.orders.model import OrderStatus
from services.sandbox.books import UNDER_WAY, Books
from services.sandbox.traffic import Visit, plan_visit
from state.orders import with_open_review
from state.tables import orders

HIGH_PRIORITY = 0.2
DECLINED = 0.08
UNANSWERED = 0.03
"""Payments that are captured, and answered too late."""
CANCELLED = 0.15
RETURNED = 0.1
ASKED_TWICE = 0.1
COMES_BACK = 0.5
"""Of those who were refused for the moment."""
"""Shares of all orders; far more than real customers do, since these are the ways that cross each other."""

MAX_UNDER_WAY = 64
PATIENCE_SECONDS = 45.0
RETRY_AFTER_SECONDS = 0.2
"""Between a request without an answer and its repetition."""

EXPECTED = frozenset({200, 201, 202, 402, 408, 409, 503})
REFUSALS = frozenset({402, 408, 409, 503})
PASSING = frozenset({408, 503})
"""The same request later is a new try of the same order."""


@dataclass(slots=True)
class Promises:
    """What the service told its customers, and has to keep."""

    acknowledged: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Idempotency key to the order ids that were acknowledged for it."""
    acknowledged_at: dict[str, datetime] = field(default_factory=dict)
    """Order id to the first acknowledgement."""
    refused: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    returned: set[str] = field(default_factory=set)
    answers: Counter[int] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)

    @property
    def orders(self) -> set[str]:
        return {order_id for ids in self.acknowledged.values() for order_id in ids}


class Customers:
    """Mixed orders at a mean rate, with cancels, declined payments and returns."""

    def __init__(self, *api_urls: str, per_second: float, seed: int) -> None:
        """Of several replicas each request goes to any, and its repetition perhaps to another one."""
        self.promises = Promises()
        self._clients = [httpx.AsyncClient(base_url=url, timeout=15.0, trust_env=False) for url in api_urls]
        self._routing = random.Random(seed)
        self._rate = per_second
        self._random = random.Random(seed)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients:
            await client.aclose()

    async def shop_until(self, closing: asyncio.Event) -> None:
        """Come in until ``closing`` is set; returns when everybody who came has been served."""
        places = asyncio.Semaphore(MAX_UNDER_WAY)
        async with asyncio.TaskGroup() as customers:
            while not closing.is_set():
                await asyncio.sleep(self._random.expovariate(self._rate))
                await places.acquire()
                customer = customers.create_task(self._visit(self._plan()))
                customer.add_done_callback(lambda _: places.release())

    def _plan(self) -> Visit:
        visit = plan_visit(self._random)
        body = visit.body | {"customerPriority": "high" if self._random.random() < HIGH_PRIORITY else "standard"}
        fate = self._random.random()
        if fate < DECLINED + UNANSWERED:
            body["metadata"] = body["metadata"] | {"sandboxPayment": "decline" if fate < DECLINED else "timeout"}
        mood = self._random.random()
        return replace(
            visit,
            body=body,
            cancels_after_seconds=self._random.uniform(0, 3) if mood < CANCELLED else None,
            returns_after_seconds=self._random.uniform(1, 4) if CANCELLED <= mood < CANCELLED + RETURNED else None,
        )

    async def _visit(self, visit: Visit) -> None:
        try:
            await self._serve(visit)
        except TimeoutError:
            self.promises.unexpected.append(f"none within {PATIENCE_SECONDS:g} s for key {visit.key}")

    async def _serve(self, visit: Visit) -> None:
        reply = await self._ask("/api/v1/orders", visit.body, {"Idempotency-Key": visit.key})
        while reply.status_code in PASSING and self._random.random() < COMES_BACK:
            await asyncio.sleep(self._random.uniform(0, 2))
            reply = await self._ask("/api/v1/orders", visit.body, {"Idempotency-Key": visit.key})
        if not reply.is_success:
            self._note_refusal(reply)
            return
        order_id = self._acknowledge(visit.key, reply)
        if self._random.random() < ASKED_TWICE:
            again = await self._ask("/api/v1/orders", visit.body, {"Idempotency-Key": visit.key})
            if again.is_success:
                self._acknowledge(visit.key, again)
        if visit.cancels_after_seconds is not None:
            await asyncio.sleep(visit.cancels_after_seconds)
            await self._cancel(order_id)
        if visit.returns_after_seconds is not None:
            await asyncio.sleep(visit.returns_after_seconds)
            await self._return(order_id, visit)

    def _acknowledge(self, key: str, reply: httpx.Response) -> str:
        order_id = str(reply.json()["data"]["orderId"])
        self.promises.acknowledged[key].add(order_id)
        self.promises.acknowledged_at.setdefault(order_id, utc_now())
        return order_id

    def _note_refusal(self, reply: httpx.Response) -> None:
        if reply.status_code in REFUSALS:
            self.promises.refused.add(reply.json()["error"]["details"]["orderId"])

    async def _cancel(self, order_id: str) -> None:
        reply = await self._ask(f"/api/v1/orders/{order_id}/cancel", {"reason": "CUSTOMER_CANCELLED"})
        if reply.is_success:
            self.promises.cancelled.add(order_id)

    async def _return(self, order_id: str, visit: Visit) -> None:
        one = visit.body["items"][0] | {"quantity": 1}
        body = {"returnId": f"r-{visit.key}", "items": [one], "reason": "CHANGED_MIND"}
        reply = await self._ask(f"/api/v1/orders/{order_id}/return", body)
        if reply.is_success:
            self.promises.returned.add(order_id)

    async def _ask(self, path: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> httpx.Response:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                try:
                    reply = await self._routing.choice(self._clients).post(path, json=body, headers=headers)
                except httpx.TransportError:
                    await asyncio.sleep(RETRY_AFTER_SECONDS)
                    continue
                self.promises.answers[reply.status_code] += 1
                if _is_asked_to_come_back(reply):
                    await asyncio.sleep(RETRY_AFTER_SECONDS)
                    continue
                if reply.status_code not in EXPECTED:
                    self.promises.unexpected.append(f"{path}: {reply.status_code} {reply.text}")
                return reply


def _is_asked_to_come_back(reply: httpx.Response) -> bool:
    """Whether the service itself could not answer, which says nothing about the order."""
    return reply.status_code == 503 and reply.json()["error"]["code"].startswith("SERVICE_")


def broken_promises(promises: Promises, books: Books) -> list[str]:
    """What customers were told and is not so, with everything at rest; [] when all was kept."""
    rows = {row.order_id: row.status for row in books.orders.execute(select(orders.c.order_id, orders.c.status))}
    flagged = set(books.orders.scalars(select(orders.c.order_id).where(with_open_review())))
    broken = [f"unexpected answer: {answer}" for answer in promises.unexpected]
    broken += [f"key {key} acknowledged as {ids}" for key, ids in promises.acknowledged.items() if len(ids) != 1]
    keys_of = Counter(order_id for ids in promises.acknowledged.values() for order_id in ids)
    broken += [f"order {order_id} acknowledged for {keys} keys" for order_id, keys in keys_of.items() if keys > 1]
    for order_id in promises.orders:
        status = rows.get(order_id, "lost")
        if status == "lost" or (status in UNDER_WAY and order_id not in flagged):
            broken.append(f"acknowledged order {order_id} is {status}")
    for said, kept in (
        (promises.refused, {OrderStatus.REJECTED}),
        (promises.cancelled, {OrderStatus.CANCELLED}),
        (promises.returned, {OrderStatus.PARTIALLY_RETURNED, OrderStatus.RETURNED}),
    ):
        broken += [f"order {order_id} is {rows.get(order_id)}, not {kept}" for order_id in said - _in(rows, kept)]
    return broken


def _in(rows: dict[str, str], statuses: set[OrderStatus]) -> set[str]:
    return {order_id for order_id, status in rows.items() if status in statuses}
