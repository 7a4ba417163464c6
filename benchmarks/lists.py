"""A database with a million orders, and what each list of the console costs in it.

Usage: python -m benchmarks.lists [--orders 1000000] [--url sqlite:////path/new.db]

Rows are written directly, in a few minutes and about two gigabytes; without --url into a temporary
directory that is removed at the end. Prints milliseconds of each query (of CPU for SQLite), the median of
five, and its plan where it reads a big table from end to end.
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, select

from benchmarks import million, work_lists
from benchmarks.asked import asked
from benchmarks.work_lists import work_list_cases
from services.api.routes.orders import OrdersQuery, page_reader
from services.base.settings import Settings
from services.console.access import Access
from services.console.audit import Audit
from services.console.events import Events
from services.console.handover import Handover
from services.console.orders import OrderFilter, Orders
from services.console.paging import NEWEST, Place, written
from services.console.status import Status
from services.console.stock import Stock
from state import releases, tables
from state.audit import AuditFilter
from state.engine.database import Database, opened
from state.schema import migrate

END = datetime(2026, 11, 22, 12, tzinfo=UTC)


def cases(connection: Connection) -> dict[str, Callable[[Connection], Any]]:
    """Every list of the pages, by name, as a function of a connection."""
    oldest = connection.scalar(select(func.min(tables.orders.c.created_at))) or END
    middle = oldest + (END - oldest) / 2
    user = "user-00017"
    rare, popular = "product-00399", "product-00001"
    paused = Place(paused_at=written((middle, "x")))

    def orders(wanted: OrderFilter, place: Place = NEWEST) -> Callable[[Connection], Any]:
        return lambda c: Orders(_access(c), None).page(wanted, place)

    def topic(make: Callable[[Access], Callable[[], Any]]) -> Callable[[Connection], Any]:
        return lambda c: make(_access(c))()

    def listed(**query: Any) -> Callable[[Connection], Any]:
        return page_reader(OrdersQuery.model_validate(query))

    order_id = connection.scalar(select(func.max(tables.order_history.c.order_id)))
    return {
        "orders: newest": orders(OrderFilter()),
        "orders: in the middle": orders(OrderFilter(), Place(before=written((middle, "x")))),
        "orders: paused, new ones counted": orders(OrderFilter(), paused),
        "orders: paused, confirmed": orders(OrderFilter(statuses=("CONFIRMED",)), paused),
        "orders: paused, popular product": orders(OrderFilter(text=popular), paused),
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
        "orders: one hour long ago": orders(OrderFilter(since=middle, until=middle + timedelta(hours=1))),
        "api: newest": listed(),
        "api: of a user": listed(userId=user),
        "api: of a user, cancelled": listed(userId=user, status="CANCELLED"),
        "api: waiting": listed(status="PENDING_INVENTORY"),
        "api: confirmed, yet released": listed(status="CONFIRMED", inventoryStatus="RELEASED"),
        "api: flagged": listed(reviewOpen=True),
        "api: flagged, returned": listed(reviewOpen=True, status="RETURNED"),
        "api: not flagged": listed(reviewOpen=False),
        "api: not flagged, paying": listed(reviewOpen=False, status="PAYING"),
        "order page": lambda c: Orders(_access(c), None).order(order_id),
        "events: delivery": topic(lambda a: Events(a).delivery),
        "events: outgoing": topic(lambda a: Events(a).outgoing),
        "events: outgoing paused": topic(lambda a: lambda: Events(a).outgoing(place=Place(paused_at="100"))),
        "events: outgoing of a type, paused": topic(
            lambda a: lambda: Events(a).outgoing(subject="order.returned", place=Place(paused_at="100"))
        ),
        "events: incoming paused": topic(lambda a: lambda: Events(a).incoming(place=paused)),
        "events: dead letters paused": topic(lambda a: lambda: Events(a).dead_letters_by_cause(place=paused)),
        "stock: paused": topic(lambda a: lambda: Stock(a).page(place=paused)),
        "audit: paused": topic(lambda a: lambda: Audit(a).page(AuditFilter(), Place(paused_at=written((middle, 0))))),
        "events: outgoing of a type": topic(lambda a: lambda: Events(a).outgoing(subject="order.returned")),
        "events: outgoing of an order": topic(lambda a: lambda: Events(a).outgoing(order_id=order_id)),
        "events: outgoing refused": topic(lambda a: lambda: Events(a).outgoing(outcome="failing")),
        "events: outgoing that cannot be published": topic(
            lambda a: lambda: Events(a).outgoing(outcome="undeliverable")
        ),
        "events: undeliverable": topic(lambda a: Events(a).undeliverable),
        "events: incoming": topic(lambda a: Events(a).incoming),
        "events: incoming of a type": topic(lambda a: lambda: Events(a).incoming(event_type="inventory.low_stock")),
        "events: incoming that changed nothing": topic(lambda a: lambda: Events(a).incoming(outcome="ignored")),
        "events: incoming that came again": topic(lambda a: lambda: Events(a).incoming(outcome="duplicate")),
        "events: dead letters": topic(lambda a: Events(a).dead_letters_by_cause),
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
        "releases: memory of a cause": lambda c: releases.last_actions(c, million.CAUSE),
        "releases: what is undecided of an order": lambda c: releases.has_undecided(c, order_id),
        "hand-over": topic(lambda a: lambda: Handover(a).page("ada")),
        "live (every page)": lambda c: Status(_access(c), Settings.load()).live(),
    }


def _access(connection: Connection) -> Access:
    return work_lists.access_over(connection, END)


NAMED = re.compile(r"order_id=\?|\(target=\?\)")

PARTIAL = (
    "ix_inbox_ignored",
    "ix_inbox_repeated",
    "ix_outbox_unpublished",
    "ix_outbox_attempted",
    "ix_outbox_undeliverable",
)
"""Indexes of the few rows that a list is about."""

BIG = ("orders", "order_items", "order_history", "outbox", "inbox", "audit_log", "release_moves")


def whole_reads(connection: Connection, run: Callable[[Connection], Any]) -> list[str]:
    """The statements of a query that read a big table, or one of its indexes, from end to end; for SQLite.

    A walk along an index that a limit ends is none: its plan says SCAN as well, and the statement says LIMIT.
    """
    found = []
    for statement, parameters in asked(connection, run):
        plan = [str(row[3]) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
        found += [f"{step} <- {' '.join(statement.split())[:160]}" for step in plan if _reads_all(step, statement)]
        if "looked_at" not in statement and "USE TEMP B-TREE FOR ORDER BY" in plan and any(map(_is_wide, plan)):
            found.append(f"sorts {plan} <- {' '.join(statement.split())[:160]}")
    return found


def _reads_all(step: str, statement: str) -> bool:
    words = step.split()
    if words[:1] != ["SCAN"] or len(words) < 2 or words[1] not in (*BIG, *work_lists.BIG):
        return False
    # Along an index, or the key, and ended by a limit: nothing is skipped on the way.
    plain = re.search(rf"FROM {words[1]}( AS \w+)?\s+ORDER BY", statement)
    is_small = any(index in words for index in (*PARTIAL, *work_lists.PARTIAL))
    return not is_small and not (plain and "LIMIT" in statement)


def _is_wide(step: str) -> bool:
    """Whether a step finds more rows of a big table than those of orders, or of other things, that are named."""
    words = step.split()
    return words[:1] == ["SEARCH"] and len(words) > 1 and words[1] in BIG and not NAMED.search(step)


def measure(database: Database) -> None:
    with database.engine.connect() as connection:
        for name, run in {**cases(connection), **work_list_cases(connection, END)}.items():
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
            million.seed(database, arguments.orders, END)
            print(f"{arguments.orders:,} orders written in {time.perf_counter() - began:.0f} s")
            measure(database)


if __name__ == "__main__":
    main()
