"""Orders: list, CSV file, one order with its events and cases, cancel, return."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from services.base.context import trace_id
from services.console.access import LIVE_TTL, Access, Topic
from services.console.cache import Reading
from services.console.events import of_order
from services.console.paging import MAX_ROWS, NEWEST, Paged, Place, csv_text, paged, with_rows
from services.console.reviews import ReviewCase, review_cases
from services.console.status import recent_commands
from services.domain.orders.changes import RETURNABLE, TimelineEntry
from services.domain.orders.model import Order
from services.domain.reviews import CANCELLABLE, ReviewState
from state import commands, order_search, orders, releases, reviews
from state.commands import Command
from state.deduplication import Received
from state.engine.keyset import Key, Slice
from state.order_search import OrderQuery
from state.outbox import Outgoing
from state.releases import Release

COUNT_LIMIT = 1000
"""Maximum to which matching orders are counted."""

OrderFilter = OrderQuery

ORDER_COLUMNS = (
    "orderId", "userId", "customerPriority", "status", "inventoryStatus", "paymentStatus", "reservationId", "items",
    "createdAt", "updatedAt", "confirmedAt", "cancelReason", "failureCode",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class OrderRow:
    """An order in a list."""

    order: Order
    open_reviews: tuple[str, ...]
    """Reasons of its open cases."""


@dataclass(frozen=True, slots=True)
class OrdersPage:
    """One page of orders, newest first."""

    rows: Paged[OrderRow]
    count: int
    """Matching orders, counted up to COUNT_LIMIT."""
    is_count_capped: bool
    """Whether more than COUNT_LIMIT may match."""


@dataclass(frozen=True, slots=True)
class OrderView:
    """One order with its cases, release job, timeline, commands and events."""

    order: Order
    cases: tuple[ReviewCase, ...]
    release: Release | None
    timeline: tuple[TimelineEntry, ...]
    commands: tuple[Command, ...]
    """Commands on the order and on its cases, newest first."""
    sent: tuple[Outgoing, ...] = ()
    """Its last outgoing events, newest first; kept for two weeks."""
    received: tuple[Received, ...] = ()
    """Its last incoming events, newest first; kept for a month."""

    @property
    def can_return(self) -> bool:
        return self.order.status in RETURNABLE and any(line.quantity > line.returned for line in self.order.lines)

    @property
    def can_cancel(self) -> bool:
        return self.order.status in CANCELLABLE and self.order.cancel_reason is None


@dataclass(frozen=True, slots=True)
class Trace:
    """The trace that an order belongs to."""

    trace_id: str
    url: str | None
    """Page of the tracing backend; None without TRACE_URL_TEMPLATE."""


class Orders(Topic):
    """The topic of the Orders page and the order page."""

    def __init__(self, access: Access, trace_url_template: str | None) -> None:
        super().__init__(access)
        self._trace_url_template = trace_url_template

    def page(self, wanted: OrderFilter, place: Place = NEWEST) -> Reading[OrdersPage]:
        """The page of orders at a place."""
        return self._access.read(("orders", wanted, place), LIVE_TTL, lambda c: orders_page(c, wanted, place))

    def csv(self, wanted: OrderFilter) -> str:
        """The matching orders, newest first, at most MAX_ROWS. Raises SourceUnavailable."""
        return csv_text(ORDER_COLUMNS, self._access.read_now(lambda c: order_rows(c, wanted, MAX_ROWS)))

    def order(self, order_id: str) -> Reading[OrderView]:
        """The order. If it does not exist, the reading has an ``as_of`` and no value."""
        return self._access.read(("order", order_id), LIVE_TTL, lambda c: order_view(c, order_id))

    def trace(self, order: Order) -> Trace | None:
        """The trace of an order; None if the order has no trace. The tracing backend may not have stored the trace."""
        if order.traceparent is None:
            return None
        found, template = trace_id(order.traceparent), self._trace_url_template
        return Trace(found, template.replace("{trace_id}", found) if template else None)


@dataclass(frozen=True, slots=True)
class _Matching:
    """The matching orders as a list that paged() reads."""

    wanted: OrderFilter
    key = order_search.KEY

    def page(self, connection: Connection, limit: int, *, before: Key | None = None, after: Key | None = None) -> Slice:
        found = order_search.find(connection, self.wanted, limit=limit, before=before, after=after)
        nearest_first = found.orders if after is None else tuple(reversed(found.orders))
        return Slice(nearest_first, found.frontier if len(nearest_first) < limit else None)

    def count_above(self, connection: Connection, start: Key, limit: int) -> int:
        return order_search.count_above(connection, self.wanted, start, limit)


def orders_page(connection: Connection, wanted: OrderFilter, place: Place = NEWEST) -> OrdersPage:
    found = paged(connection, _Matching(wanted), lambda order: order, place)
    flags = reviews.of_orders(connection, [order.order_id for order in found.rows])
    rows = [
        OrderRow(order, tuple(case.reason for case in flags[order.order_id] if case.state == ReviewState.OPEN))
        for order in found.rows
    ]
    return OrdersPage(with_rows(found, rows), *order_search.count(connection, wanted, COUNT_LIMIT))


def order_rows(connection: Connection, wanted: OrderFilter, limit: int) -> list[tuple[object, ...]]:
    """The matching orders as rows of ORDER_COLUMNS."""
    return [
        (
            order.order_id,
            order.user_id,
            order.customer_priority,
            order.status,
            order.inventory_status,
            order.payment_status,
            order.reservation_id,
            "; ".join(f"{line.quantity} x {line.product_id}/{line.variant_id}" for line in order.lines),
            order.created_at,
            order.updated_at,
            order.confirmed_at,
            order.cancel_reason,
            (order.failure or {}).get("code"),
        )
        for order in order_search.walk(connection, wanted, limit)
    ]


def order_view(connection: Connection, order_id: str) -> OrderView | None:
    order = orders.get(connection, order_id)
    if order is None:
        return None
    found = reviews.of_orders(connection, [order_id])[order_id]
    given = recent_commands(connection, order_id, 20)
    for case in found:
        given += commands.latest(connection, target_id=case.review_id, limit=5)
    sent, received = of_order(connection, order_id)
    return OrderView(
        order=order,
        cases=review_cases(connection, found),
        release=releases.get(connection, order_id),
        timeline=tuple(orders.timeline(connection, order_id)),
        commands=tuple(sorted(given, key=lambda command: command.created_at, reverse=True)),
        sent=sent,
        received=received,
    )
