"""A database with a million orders, and what each list of the console costs in it.

Usage: python -m benchmarks.million [--orders 1000000] [--url sqlite:////path/new.db]

Rows are written directly, in a few minutes and about two gigabytes; without --url into a temporary
directory that is removed at the end. Prints milliseconds of each query (of CPU for SQLite), the median of
five, and its plan where it reads a big table from end to end.
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event, insert, text

from services.api import order_list
from services.api.schemas import OrdersQuery
from services.console import queries
from services.console.access import Access
from services.console.audit import Audit, AuditFilter
from services.console.events import Events
from services.console.handover import Handover
from services.console.readings import Reading
from services.console.stock import Stock
from services.console.views import Cursor, OrderFilter
from services.domain.order import InventoryStatus as I
from services.domain.order import OrderStatus as S
from services.domain.order import PaymentStatus as P
from services.ids import new_id
from state import release_moves, tables
from state.database import Database, opened
from state.schema import migrate

END = datetime(2026, 11, 22, 12, tzinfo=UTC)
BATCH = 20_000
PRODUCTS = 400
CUSTOMERS = 50_000
OPEN_REVIEWS = 200
CAUSE = "INVENTORY_UNAVAILABLE: The Inventory Service answered 503"

MIX: tuple[tuple[float, str, str, str], ...] = (
    (0.900, S.CONFIRMED, I.INVENTORY_CONFIRMED, P.CAPTURED),
    (0.960, S.CANCELLED, I.RELEASED, P.REFUNDED),
    (0.985, S.REJECTED, I.NONE, P.NONE),
    (0.995, S.RETURNED, I.RESTOCK_REQUESTED, P.CAPTURED),
    (0.9990, S.PLACED, I.CONFIRM_REQUESTED, P.CAPTURED),
    (0.9996, S.PENDING_INVENTORY, I.NONE, P.NONE),
    (1.0, S.PAYING, I.RESERVED, P.UNKNOWN),
)


def fill(database: Database, orders: int) -> None:
    """Orders over a year, with the rows of other tables that come with them."""
    source = random.Random(7)
    step = timedelta(days=365) / orders
    for start in range(0, orders, BATCH):
        numbers = range(start, min(start + BATCH, orders))
        rows = list(_orders(source, numbers, orders, step))
        database.write_now(lambda c, rows=rows: _store(c, rows))
    database.write_now(_others)
    with database.engine.connect() as connection:
        connection.execute(text("ANALYZE"))
        connection.commit()


def _orders(source: random.Random, numbers: range, total: int, step: timedelta) -> Iterator[dict[str, Any]]:
    for number in numbers:
        at = END - step * (total - number)
        luck = source.random()
        status, inventory, payment = next(row[1:] for row in MIX if luck <= row[0])
        yield {
            "order_id": new_id(), "user_id": f"user-{source.randrange(CUSTOMERS):05}", "customer_priority": "standard",
            "status": status, "inventory_status": inventory, "payment_status": payment, "request_hash": "h",
            "created_at": at, "updated_at": at, "version": 4,
        }  # fmt: skip


def _store(connection: Connection, rows: list[dict[str, Any]]) -> None:
    source = random.Random(len(rows))
    connection.execute(insert(tables.orders), rows)
    connection.execute(
        insert(tables.order_items),
        [
            {"order_id": row["order_id"], "product_id": f"product-{int(source.paretovariate(1)) % PRODUCTS:03}",
             "variant_id": "v", "line": 0, "quantity": 1}
            for row in rows
        ],
    )  # fmt: skip
    connection.execute(
        insert(tables.outbox),
        [
            {"event_id": f"e-{row['order_id']}", "subject": "order.created", "order_id": row["order_id"],
             "payload": b"{}", "created_at": row["created_at"], "published_at": row["created_at"]}
            for row in rows
        ],
    )  # fmt: skip
    connection.execute(
        insert(tables.inbox),
        [
            {"event_id": f"i-{row['order_id']}", "type": "inventory.confirmed", "order_id": row["order_id"],
             "received_at": row["created_at"], "outcome": "handled"}
            for row in rows
        ],
    )  # fmt: skip
    audited = rows[:: len(rows) // 1000 or 1]
    connection.execute(
        insert(tables.audit_log),
        [
            {"at": row["created_at"], "actor": f"person-{number % 9}", "action": "CANCEL_ORDER",
             "target": f"order:{row['order_id']}", "order_id": row["order_id"], "result": "done"}
            for number, row in enumerate(audited)
        ],
    )  # fmt: skip


def _others(connection: Connection) -> None:
    ids = connection.execute(
        text("SELECT order_id FROM orders ORDER BY created_at DESC, order_id DESC LIMIT 20000")
    ).scalars().all()  # fmt: skip
    connection.execute(
        insert(tables.reviews),
        [
            {"review_id": f"r-{number}", "order_id": order_id, "reason": "CONFIRMATION_TIMEOUT", "state": "OPEN",
             "detail": "no answer", "opened_at": END - timedelta(seconds=number), "version": 1}
            for number, order_id in enumerate(ids[:: len(ids) // OPEN_REVIEWS or 1][:OPEN_REVIEWS])
        ],
    )  # fmt: skip
    connection.execute(
        insert(tables.release_moves),
        [
            {"order_id": order_id, "cause": CAUSE if number % 2 else "INVENTORY_TIMEOUT: no answer", "move": "RETRY",
             "actor": "ada", "at": END - timedelta(minutes=number), "outcome": "HELD"}
            for number, order_id in enumerate(ids[:3000])
        ],
    )  # fmt: skip
    connection.execute(
        insert(tables.dead_letters),
        [
            {"id": f"d-{number:05}", "stream": "S", "stream_seq": number, "subject": "inventory.confirmed",
             "payload": b"{}", "headers": {}, "reason": f"order {number} is not known", "attempts": 8, "state": "OPEN",
             "created_at": END - timedelta(seconds=number), "cause": "order \u2026 is not known"}
            for number in range(2000)
        ],
    )  # fmt: skip
    connection.execute(
        insert(tables.products),
        [
            {"product_id": f"product-{number:05}", "variant_id": "v", "available": number % 3 != 0,
             "level": ("out", "low", "in_stock")[number % 3], "source": "inventory.low_stock",
             "changed_at": END - timedelta(minutes=number),
             "expires_at": END - timedelta(minutes=number - 30) if number % 3 == 0 else None}
            for number in range(20_000)
        ],
    )  # fmt: skip


def cases(connection: Connection) -> dict[str, Callable[[Connection], Any]]:
    """Every list of the pages, by name, as a function of a connection."""
    middle = END - timedelta(days=180)
    user = "user-00017"
    rare, popular = "product-399", "product-001"

    def orders(wanted: OrderFilter, before: Cursor | None = None) -> Callable[[Connection], Any]:
        return lambda c: queries.orders_page(c, wanted, before, None)

    def topic(make: Callable[[Access], Callable[[], Any]]) -> Callable[[Connection], Any]:
        return lambda c: make(_access(c))()

    def listed(**query: Any) -> Callable[[Connection], Any]:
        return order_list.reader(OrdersQuery.model_validate(query))

    order_id = connection.execute(text("SELECT order_id FROM orders LIMIT 1")).scalar_one()
    return {
        "orders: newest": orders(OrderFilter()),
        "orders: in the middle": orders(OrderFilter(), Cursor(middle, "x")),
        "orders: by order id": orders(OrderFilter(text=order_id)),
        "orders: by user": orders(OrderFilter(text=user)),
        "orders: by rare product": orders(OrderFilter(text=rare)),
        "orders: by popular product": orders(OrderFilter(text=popular)),
        "orders: by unknown text": orders(OrderFilter(text="nobody")),
        "orders: popular product, rejected": orders(OrderFilter(text=popular, statuses=("REJECTED",))),
        "orders: confirmed": orders(OrderFilter(statuses=("CONFIRMED",))),
        "orders: three statuses": orders(OrderFilter(statuses=("CONFIRMED", "PLACED", "REJECTED"))),
        "orders: confirmed, yet released": orders(
            OrderFilter(statuses=("CONFIRMED",), inventory_statuses=("RELEASED",))
        ),
        "orders: payment unknown": orders(OrderFilter(payment_statuses=("UNKNOWN",))),
        "orders: payment captured": orders(OrderFilter(payment_statuses=("CAPTURED",))),
        "orders: flagged": orders(OrderFilter(flagged=True)),
        "orders: flagged, confirmed": orders(OrderFilter(flagged=True, statuses=("CONFIRMED",))),
        "orders: one hour half a year ago": orders(OrderFilter(since=middle, until=middle + timedelta(hours=1))),
        "api: newest": listed(),
        "api: of a user": listed(userId=user),
        "api: of a user, cancelled": listed(userId=user, status="CANCELLED"),
        "api: waiting": listed(status="PENDING_INVENTORY"),
        "api: confirmed, yet released": listed(status="CONFIRMED", inventoryStatus="RELEASED"),
        "api: flagged": listed(reviewOpen=True),
        "api: flagged, returned": listed(reviewOpen=True, status="RETURNED"),
        "api: not flagged": listed(reviewOpen=False),
        "api: not flagged, paying": listed(reviewOpen=False, status="PAYING"),
        "order page": lambda c: queries.order_view(c, order_id),
        "events: delivery": topic(lambda a: Events(a).delivery),
        "events: outgoing": topic(lambda a: Events(a).outgoing),
        "events: outgoing of a type": topic(lambda a: lambda: Events(a).outgoing(subject="order.returned")),
        "events: outgoing of an order": topic(lambda a: lambda: Events(a).outgoing(order_id=order_id)),
        "events: outgoing refused": topic(lambda a: lambda: Events(a).outgoing(outcome="failing")),
        "events: incoming": topic(lambda a: Events(a).incoming),
        "events: incoming of a type": topic(lambda a: lambda: Events(a).incoming(event_type="inventory.low_stock")),
        "events: incoming that changed nothing": topic(lambda a: lambda: Events(a).incoming(outcome="ignored")),
        "events: incoming that came again": topic(lambda a: lambda: Events(a).incoming(outcome="duplicate")),
        "events: dead letters": topic(lambda a: Events(a).letters),
        "stock: all": topic(lambda a: Stock(a).page),
        "stock: out": topic(lambda a: lambda: Stock(a).page(level="out")),
        "stock: one product": topic(lambda a: lambda: Stock(a).page(product_id="product-00007")),
        "audit: newest": topic(lambda a: lambda: Audit(a).page(AuditFilter())),
        "audit: of a person": topic(lambda a: lambda: Audit(a).page(AuditFilter(actor="person-3"))),
        "audit: of an order": topic(lambda a: lambda: Audit(a).page(AuditFilter(target=order_id))),
        "audit: person and action": topic(
            lambda a: lambda: Audit(a).page(AuditFilter(actor="person-3", action="APPROVE"))
        ),
        "audit: names": topic(lambda a: Audit(a).people_and_actions),
        "releases: memory of a cause": lambda c: release_moves.last_moves(c, CAUSE),
        "releases: what is undecided of an order": lambda c: release_moves.has_undecided(c, order_id),
        "hand-over": topic(lambda a: lambda: Handover(a).page("ada")),
        "live (every page)": lambda c: queries.live(c, END, sandbox=False),
    }


def _access(connection: Connection) -> Access:
    def read(_key: Any, _ttl: float, query: Callable[[Connection], Any]) -> Reading[Any]:
        return Reading(query(connection), END)

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("nothing is written here")

    return Access(read, lambda query: query(connection), refuse, refuse, lambda: END)


PARTIAL = ("ix_inbox_ignored", "ix_inbox_repeated", "ix_outbox_unpublished", "ix_outbox_attempted")
"""Indexes of the few rows that a list is about."""

BIG = ("orders", "order_items", "order_history", "outbox", "inbox", "audit_log", "release_moves")


def whole_reads(connection: Connection, run: Callable[[Connection], Any]) -> list[str]:
    """The statements of a query that read a big table, or one of its indexes, from end to end; for SQLite.

    A walk along an index that a limit ends is none: its plan says SCAN as well, and the statement says LIMIT.
    """
    statements: list[tuple[str, Any]] = []

    def note(_conn: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        statements.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", note)
    try:
        run(connection)
    finally:
        event.remove(connection, "before_cursor_execute", note)
    found = []
    for statement, parameters in statements:
        plan = [str(row[3]) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
        found += [f"{step} <- {' '.join(statement.split())[:160]}" for step in plan if _reads_all(step, statement)]
        if "looked_at" not in statement and "USE TEMP B-TREE FOR ORDER BY" in plan and any(map(_is_wide, plan)):
            found.append(f"sorts {plan} <- {' '.join(statement.split())[:160]}")
    return found


def _reads_all(step: str, statement: str) -> bool:
    words = step.split()
    if words[:1] != ["SCAN"] or len(words) < 2 or words[1] not in BIG:
        return False
    # Along an index, or the key, and ended by a limit: nothing is skipped on the way.
    plain = re.search(rf"FROM {words[1]}( AS \w+)?\s+ORDER BY", statement)
    is_small = any(index in words for index in PARTIAL)
    return not is_small and not (plain and "LIMIT" in statement)


def _is_wide(step: str) -> bool:
    """Whether a step finds more rows of a big table than those of one order, or of ids that are named."""
    words = step.split()
    return words[:1] == ["SEARCH"] and len(words) > 1 and words[1] in BIG and "order_id=?" not in step


def measure(database: Database) -> None:
    with database.engine.connect() as connection:
        for name, run in cases(connection).items():
            times = []
            for _ in range(5):
                began = time.process_time() if database.is_sqlite else time.perf_counter()
                run(connection)
                ended = time.process_time() if database.is_sqlite else time.perf_counter()
                times.append((ended - began) * 1000)
            print(f"{statistics.median(times):8.1f} ms  {name}")
            if database.is_sqlite:
                for plan in whole_reads(connection, run):
                    print(f"             ! {plan}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=1_000_000)
    parser.add_argument("--url")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = arguments.url or f"sqlite:///{Path(folder) / 'million.db'}"
        with opened(url) as database:
            migrate(database)
            began = time.perf_counter()
            fill(database, arguments.orders)
            print(f"{arguments.orders:,} orders written in {time.perf_counter() - began:.0f} s")
            measure(database)


if __name__ == "__main__":
    main()
