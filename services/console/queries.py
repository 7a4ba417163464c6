"""The questions the console asks: synchronous functions of a connection, each bounded and indexed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from services.breakers import overview
from services.console.events import of_order
from services.console.paging import NEWEST, Place, paged, time_and_text, with_rows
from services.console.views import (
    COUNT_LIMIT,
    Changes,
    ConservationPage,
    DifferenceRow,
    Live,
    OrderFilter,
    OrderRow,
    OrdersPage,
    OrderView,
    ReviewCase,
    Worker,
)
from services.domain.orders.model import Order, OrderStatus
from services.domain.reviews import ReviewAction, allowed_actions
from services.metrics.math import Known
from services.metrics.trends import SPAN, Trends, trends
from state import (
    commands,
    conservation,
    dead_letters,
    history,
    order_search,
    orders,
    outbox,
    releases,
    replicas,
    reviews,
    samples,
)
from state.commands import Command
from state.engine.keyset import Key, Slice
from state.replicas import BreakerTransition, Replica
from state.reviews import Review

REMEMBERED = timedelta(days=1)
"""How long the last heartbeat of a dead worker still tells until when its breakers are known."""
PAGE_SIZE = 20
MAX_CHANGES = 2000
"""Of breaker states that are drawn at once."""

RETRY_RELEASE, RESOLVE_REVIEW, CANCEL_ORDER = "retry_release", "resolve_review", "cancel_order"
COMPENSATE = "compensate"
CLAIM_REVIEW, RELEASE_CLAIM = "claim_review", "release_claim"
ASK_THEIRS, ASK_THEIRS_MANY = "ask_theirs", "ask_theirs_many"
QUESTIONS = (ASK_THEIRS, ASK_THEIRS_MANY)


def live(connection: Connection, now: datetime, *, sandbox: bool) -> Live:
    """How things stand; ``sandbox`` is what the settings say, for when no worker says otherwise."""
    known = [_worker(row, now) for row in replicas.known(connection, now - REMEMBERED)]
    living = tuple(worker for worker in known if worker.is_alive)
    by_reason = reviews.count_open_by_reason(connection)
    waiting, oldest_at = outbox.pending(connection)
    said = [worker.sandbox for worker in living if worker.sandbox is not None]
    return Live(
        workers=living,
        silent_since=None if living else max((worker.heartbeat_at for worker in known), default=None),
        breakers=overview.by_name(breaker for worker in living for breaker in worker.breakers),
        queues=_queues(connection) | {"reviews": sum(by_reason.values()), "outbox": waiting},
        reviews_by_reason=by_reason,
        outbox_oldest_at=oldest_at,
        sandbox=any(said) if said else sandbox,
    )


def recent(connection: Connection, now: datetime, window: timedelta, known: Known | None = None) -> Trends:
    """The last half hour; ``window`` is the time over which rates are judged, ``known`` spares repeated work."""
    start = now - SPAN - timedelta(minutes=2)
    rows = samples.since(connection, start, known.samples if known else {})
    if known is not None:
        known.samples = {(at, replica): sample for at, replica, sample in rows}
    return trends(rows, bands_since(connection, now, start), now, window, known)


def bands_since(connection: Connection, now: datetime, start: datetime) -> list[overview.Band]:
    """In which state each breaker was when, from ``start`` to now; of very many changes the newest."""
    known = [_worker(row, now) for row in replicas.known(connection, now - REMEMBERED)]
    present = [
        (breaker, worker.started_at, now if worker.is_alive else worker.heartbeat_at)
        for worker in known
        for breaker in worker.breakers
    ]
    return overview.bands(replicas.transitions_since(connection, start, MAX_CHANGES), present, start)


def transitions(connection: Connection, now: datetime) -> tuple[BreakerTransition, ...]:
    return tuple(replicas.transitions_since(connection, now - REMEMBERED, 50))


def changes(connection: Connection, now: datetime) -> Changes:
    found = replicas.transitions_since(connection, now - REMEMBERED, 6)
    return Changes(tuple(found), tuple(_asked_for(connection, None, 6)))


def _asked_for(connection: Connection, target_id: str | None, limit: int) -> list[Command]:
    """What people asked for last, without the questions, which change nothing."""
    given = commands.latest(connection, target_id=target_id, limit=5 * limit)
    return [command for command in given if command.kind not in QUESTIONS][:limit]


def _worker(row: Replica, now: datetime) -> Worker:
    facts = row.facts
    return Worker(
        replica=row.replica,
        version=str(facts.get("version", "")),
        started_at=row.started_at,
        heartbeat_at=row.heartbeat_at,
        is_alive=row.heartbeat_at >= now - replicas.ALIVE_FOR,
        nats_connected=bool(facts.get("natsConnected", True)),
        sandbox=facts.get("sandbox"),
        breakers=tuple(overview.replica_breaker(row.replica, b, row.heartbeat_at) for b in row.breakers),
    )


def _queues(connection: Connection) -> dict[str, int]:
    jobs = releases.count_by_state(connection)
    return {
        "reservation": orders.count_with_status(connection, OrderStatus.PENDING_INVENTORY),
        "release": jobs.get("PENDING", 0),
        "failed_releases": jobs.get("FAILED", 0),
        "dead_letters": dead_letters.count_open(connection),
        "differences": conservation.count_unsettled(connection),
    }


@dataclass(frozen=True, slots=True)
class _Orders:
    """The orders that match, as a list to be paged."""

    connection: Connection
    wanted: OrderFilter

    def page(self, limit: int, *, before: Key | None = None, after: Key | None = None) -> Slice:
        found = order_search.find(self.connection, self.wanted, limit=limit, before=before, after=after)
        nearest_first = found.orders if after is None else tuple(reversed(found.orders))
        return Slice(nearest_first, found.frontier if len(nearest_first) < limit else None)

    def count_above(self, start: Key, limit: int) -> int:
        return order_search.count_above(self.connection, self.wanted, start, limit)


def orders_page(connection: Connection, wanted: OrderFilter, place: Place = NEWEST) -> OrdersPage:
    found = paged(
        _Orders(connection, wanted), lambda order: order, lambda order: (order.created_at, order.order_id),
        time_and_text, place,
    )  # fmt: skip
    flags = reviews.of_orders(connection, [order.order_id for order in found.rows])
    rows = [
        OrderRow(order, tuple(case.reason for case in flags[order.order_id] if case.state == "OPEN"))
        for order in found.rows
    ]
    return OrdersPage(with_rows(found, rows), *order_search.count(connection, wanted, COUNT_LIMIT))


ORDER_COLUMNS = (
    "orderId", "userId", "customerPriority", "status", "inventoryStatus", "paymentStatus", "reservationId", "items",
    "createdAt", "updatedAt", "confirmedAt", "cancelReason", "failureCode",
)  # fmt: skip


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


def cases(connection: Connection, found: Sequence[Review]) -> tuple[ReviewCase, ...]:
    """Cases with their orders, what our side allows, and what was last asked about them."""
    ids = [case.review_id for case in found]
    owners = {o.order_id: o for o in orders.get_many(connection, list({case.order_id for case in found}))}
    given = commands.latest_of(connection, ids, (RESOLVE_REVIEW,))
    claims = commands.latest_of(connection, ids, (CLAIM_REVIEW, RELEASE_CLAIM))
    return tuple(
        ReviewCase(
            case,
            owners[case.order_id],
            _actions(case, owners[case.order_id]),
            given.get(case.review_id),
            claims.get(case.review_id),
        )
        for case in found
        if case.order_id in owners
    )


def _actions(case: Review, order: Order) -> tuple[ReviewAction, ...]:
    return allowed_actions(case.reason, order.status) if case.state == "OPEN" else ()


def conservation_page(connection: Connection, page: int) -> ConservationPage:
    found = conservation.page(connection, limit=PAGE_SIZE, offset=(max(page, 1) - 1) * PAGE_SIZE)
    given = commands.latest_of(connection, [f"{known.order_id}/{known.kind}" for known in found])
    rows = (DifferenceRow(known, given.get(f"{known.order_id}/{known.kind}")) for known in found)
    return ConservationPage(tuple(rows), conservation.count_unsettled(connection), conservation.progress(connection)[1])


def order_view(connection: Connection, order_id: str) -> OrderView | None:
    order = orders.get(connection, order_id)
    if order is None:
        return None
    found = reviews.of_orders(connection, [order_id])[order_id]
    given = _asked_for(connection, order_id, 20)
    for case in found:
        given += commands.latest(connection, target_id=case.review_id, limit=5)
    sent, received = of_order(connection, order_id)
    return OrderView(
        order=order,
        cases=cases(connection, found),
        release=releases.get(connection, order_id),
        timeline=tuple(history.of_order(connection, order_id)),
        commands=tuple(sorted(given, key=lambda command: command.created_at, reverse=True)),
        sent=sent,
        received=received,
    )
