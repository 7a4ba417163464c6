"""The handlers of the API: read the call, run the use case, answer. Source: contract section 3."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection
from starlette.responses import Response

from services.api import order_list, views
from services.api.alerts import AlertHandlers
from services.api.endpoints import Call
from services.api.http import STATUS_OF, success, utf8_header, wrong_value
from services.api.operations import OperationHandlers
from services.api.service import OrderService
from services.domain.errors import ApiError, InvalidState, NotFound, ReservationFailed
from services.domain.external import NotAllowed, canonical_id
from services.domain.orders.lifecycle import AFTER_PAYMENT
from services.domain.orders.model import Line, Order, OrderStatus
from services.orders.cancellation import ReturnItems
from services.orders.placement import PlaceOrder
from state import audit, conservation, dead_letters, history, orders, overrides, products, releases, replicas, reviews

PLACED_AT_ONCE = 3
"""Version of an order that was received, reserved and placed, and nothing else."""


class RecordedFailure(ApiError):
    """The error that ended an order, as it was answered the first time."""

    def __init__(self, failure: dict[str, Any]) -> None:
        super().__init__(str(failure.get("message", "")), failure.get("details") or {})
        code = str(failure.get("code"))
        self.code = code if code in STATUS_OF else ReservationFailed.code  # type: ignore[misc]
        self.retryable = bool(failure.get("retryable"))  # type: ignore[misc]


class Handlers:
    """One method per endpoint."""

    def __init__(self, service: OrderService) -> None:
        self._service = service
        self.operations = OperationHandlers(service)
        self._read = service.database.read
        self.alerts = AlertHandlers(service)

    @property
    def service(self) -> OrderService:
        """For the handlers of topics that have a module of their own."""
        return self._service

    # ----------------------------------------------------------------- orders

    async def place_order(self, call: Call) -> Response:
        body = call.body
        key = _idempotency_key(utf8_header(call.request, "idempotency-key"))
        order = await self._service.placement.place(
            PlaceOrder(
                user_id=body.userId,
                lines=_lines(body.items),
                customer_priority=body.customerPriority,
                order_id=body.orderId,
                metadata=body.metadata,
                idempotency_key=key,
                caller=call.caller.name,
            )
        )
        return await self._placed(order)

    async def _placed(self, order: Order) -> Response:
        if order.status == OrderStatus.REJECTED and order.failure is not None:
            details = order.failure.get("details")
            known = details if isinstance(details, dict) else {}
            raise RecordedFailure({**order.failure, "details": {**known, "orderId": order.order_id}})
        if order.status == OrderStatus.CANCELLED:
            raise InvalidState("The order was cancelled.", {"orderId": order.order_id, "status": order.status})
        settled = order.status in AFTER_PAYMENT or order.status in (
            OrderStatus.PARTIALLY_RETURNED,
            OrderStatus.RETURNED,
        )
        # A standard order that was placed just now and without detours has no cases: one query less for almost all.
        is_plain = order.version == PLACED_AT_ONCE and order.status == OrderStatus.PLACED and not order.is_high_priority
        cases = [] if is_plain else await self._cases(order.order_id)
        return success(views.order_view(order, cases), 201 if settled else 202)

    async def get_order(self, call: Call) -> Response:
        return await self._order(call.path("orderId"))

    async def get_timeline(self, call: Call) -> Response:
        order_id = call.path("orderId")

        def read(connection: Connection) -> list[Any]:
            if orders.get(connection, order_id) is None:
                raise NotFound("order", order_id)
            return history.of_order(connection, order_id)

        entries = await self._read(read)
        is_cut = len(entries) >= history.MAX_ENTRIES
        return success({"items": [views.timeline_view(entry) for entry in entries], "isCut": is_cut})

    async def list_orders(self, call: Call) -> Response:
        return success(await self._read(order_list.reader(call.query)))

    async def cancel_order(self, call: Call) -> Response:
        order_id = call.path("orderId")
        caller = call.caller
        await self._service.cancellation.cancel(
            order_id, call.body.reason, actor=caller.name, by_person=caller.is_person
        )
        return await self._order(order_id)

    async def return_items(self, call: Call) -> Response:
        body = call.body
        command = ReturnItems(
            order_id=call.path("orderId"),
            lines=_lines(body.items),
            reason=body.reason,
            restockable=body.restockable,
            return_id=body.returnId,
        )
        caller = call.caller
        order, return_id = await self._service.returns.take_back(command, actor=caller.name, by_person=caller.is_person)
        return success({"returnId": return_id, "order": views.order_view(order, await self._cases(order.order_id))})

    # --------------------------------------------------------------- releases

    async def list_releases(self, call: Call) -> Response:
        states = (call.query.state,) if call.query.state else releases.STATES
        found = await self._read(lambda c: releases.page(c, states=states, limit=call.query.limit))
        return success({"items": [views.release_view(release) for release in found]})

    async def retry_release(self, call: Call) -> Response:
        order_id = call.path("orderId")
        if call.query.wait:
            release = await self._service.releases.retry_now(order_id, actor=call.caller.name)
        else:
            release = (await self._service.releases.retry([order_id], actor=call.caller.name))[0]
            self._service.wake_releases()
        return success(views.release_view(release), 202)

    async def retry_releases(self, call: Call) -> Response:
        order_ids = list(dict.fromkeys(call.body.orderIds))
        found = await self._service.releases.retry(order_ids, actor=call.caller.name)
        self._service.wake_releases()
        return success({"items": [views.release_view(release) for release in found]}, 202)

    # ------------------------------------------------------------- the others

    async def list_breakers(self, call: Call) -> Response:
        return success({"items": await self._breakers()})

    async def force_breaker(self, call: Call) -> Response:
        body, name = call.body, call.path("name")
        await self._service.overrides.start(
            name,
            body.state,
            reason=body.reason,
            expires_in=timedelta(milliseconds=body.expiresIn),
            actor=call.caller.name,
        )
        return await self._breaker(name)

    async def end_breaker_override(self, call: Call) -> Response:
        name = call.path("name")
        await self._service.overrides.end(name, actor=call.caller.name)
        return await self._breaker(name)

    async def _breaker(self, name: str) -> Response:
        # The answer shows what this replica has just been told, not what it said at its last heartbeat.
        await self._service.beat()
        return success(next(breaker for breaker in await self._breakers() if breaker["name"] == name))

    async def _breakers(self) -> list[dict[str, Any]]:
        now, here = self._service.clock(), self._service.present()

        def read(connection: Connection) -> list[dict[str, Any]]:
            # This replica answers for itself from memory, the others by what they have stored of their last change.
            others = [replica for replica in replicas.alive(connection, now) if replica.replica != here.replica]
            living = sorted([here, *others], key=lambda replica: replica.replica)
            return views.breaker_views(living, overrides.active(connection, now), now)

        return await self._read(read)

    async def list_products(self, call: Call) -> Response:
        now = self._service.clock()
        found = await self._read(lambda c: products.page(c, now, available=call.query.available))
        return success({"items": [views.product_view(product) for product in found]})

    async def list_dead_letters(self, call: Call) -> Response:
        query = call.query

        def read(connection: Connection) -> dict[str, Any]:
            found = dead_letters.page(connection, state=query.state, limit=query.limit)
            groups = dead_letters.groups(connection, state=query.state)
            return {
                "items": [views.dead_letter_view(dead_letter) for dead_letter in found],
                "groups": [views.dead_letter_group_view(group) for group in groups],
            }

        return success(await self._read(read))

    async def get_dead_letter(self, call: Call) -> Response:
        dead_letter_id = call.path("id")
        dead_letter = await self._read(lambda connection: dead_letters.get(connection, dead_letter_id))
        if dead_letter is None:
            raise NotFound("dead-letter", dead_letter_id)
        return success(views.dead_letter_view(dead_letter, is_whole=True))

    async def replay_dead_letter(self, call: Call) -> Response:
        dead_letter = await self._service.dead_letters.replay(call.path("id"), actor=call.caller.name)
        return success(views.dead_letter_view(dead_letter))

    async def discard_dead_letter(self, call: Call) -> Response:
        dead_letter = await self._service.dead_letters.discard(
            call.path("id"), actor=call.caller.name, note=call.body.note
        )
        return success(views.dead_letter_view(dead_letter))

    async def list_differences(self, call: Call) -> Response:
        query = call.query
        found = await self._read(lambda c: conservation.page(c, state=query.state, limit=query.limit))
        return success({"items": [views.difference_view(difference) for difference in found]})

    async def compensate(self, call: Call) -> Response:
        difference = await self._service.conservation.compensate(
            call.path("orderId"), call.path("kind"), actor=call.caller.name, reason=call.body.reason
        )
        return success(views.difference_view(difference))

    async def list_audit(self, call: Call) -> Response:
        found = await self._read(lambda c: audit.page(c, limit=call.query.limit))
        return success({"items": [views.audit_view(entry) for entry in found]})

    # ---------------------------------------------------------------- helpers

    async def _order(self, order_id: str) -> Response:
        def read(connection: Connection) -> dict[str, Any]:
            order = orders.get(connection, order_id)
            if order is None:
                raise NotFound("order", order_id)
            return views.order_view(order, reviews.of_orders(connection, [order_id])[order_id])

        return success(await self._read(read))

    async def _cases(self, order_id: str) -> Sequence[Any]:
        return (await self._read(lambda c: reviews.of_orders(c, [order_id])))[order_id]


def _idempotency_key(header: str | None) -> str | None:
    if header is None:
        return None
    try:
        return canonical_id(header)
    except NotAllowed as error:
        raise wrong_value("Idempotency-Key", header, str(error)) from None


def _lines(items: Sequence[Any]) -> tuple[Line, ...]:
    return tuple(Line(item.productId, item.variantId, item.quantity) for item in items)
