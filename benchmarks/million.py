"""A database as years of orders leave it: a million orders, and beside them what waits and what was measured.

``python -m benchmarks.million PATH [ORDERS]`` writes the SQLite database PATH: about a minute and 1.2 GB for a million.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Connection, Table, func, select

from services.base.identity import VERSION
from services.metrics.catalogue import LATENCY_BUCKETS
from state.engine.database import Database, opened
from state.engine.statements import Prepared
from state.schema import migrate
from state.tables import (
    audit_log,
    breaker_transitions,
    commands,
    conservation_progress,
    dead_letters,
    inbox,
    metric_samples,
    order_history,
    order_items,
    orders,
    outbox,
    products,
    release_actions,
    releases,
    replicas,
    reviews,
)

ORDERS = 1_000_000
STEP = 50_000
"""Rows of one transaction."""
APART = timedelta(seconds=1.2)
"""From one order to the next: a million take two weeks."""
USERS, PRODUCTS = 50_000, 20_000
SOLD = 400
"""Products that orders are for; the first ones sell best."""
OPEN_REVIEWS, RESOLVED_REVIEWS = 200, 20_000
FAILED_JOBS, PENDING_JOBS, DONE_JOBS = 150, 150, 20_000
MOVES = 3_000
"""Remembered retries of release jobs, half of them for the cause below."""
CAUSE = "INVENTORY_UNAVAILABLE:503"
WAITING = 500
"""Orders that wait for inventory, and those before them that wait for something else."""
ACTIONS = 50_000
"""Entries of the audit log."""
DEAD_LETTERS = 2_000
"""Events that were given up, half of them still open."""
TOLD_EVERY = 10
"""Every tenth order has a timeline: the others' would make the file larger and no question slower."""
EVENTS = 100_000
"""Published events, and received ones, that are not pruned yet; at most one for each order."""
SAMPLES = 17_280
"""A day of them; fewer beside few orders, but an hour at least."""
SAMPLE_EVERY = timedelta(seconds=5)
NEVER = timedelta(days=365)
"""No worker takes up what is due only then."""
REASONS = (
    "PENDING_INVENTORY", "CONFIRMATION_TIMEOUT", "INVENTORY_CONFIRMATION_FAILED", "RELEASE_FAILED", "PAYMENT_UNKNOWN",
    "AVAILABILITY_UNVERIFIED",
)  # fmt: skip
BREAKERS = ("inventoryServiceChecker", "inventoryServiceReserver", "inventoryServiceReleaser")
Rows = Iterator[dict[str, Any]]

OUTCOMES = {
    "CONFIRMED": ("INVENTORY_CONFIRMED", "CAPTURED"),
    "REJECTED": ("NONE", "NONE"),
    "CANCELLED": ("RELEASED", "REFUNDED"),
    "RETURNED": ("RESTOCK_REQUESTED", "CAPTURED"),
    "PLACED": ("CONFIRM_REQUESTED", "CAPTURED"),
    "PAYING": ("RESERVED", "UNKNOWN"),
    "PENDING_INVENTORY": ("NONE", "NONE"),
}
"""Inventory and payment status of an order that rests in a status."""
DUE = frozenset({"PENDING_INVENTORY", "PLACED", "PAYING"})
"""What a worker would go on with."""


def seed(database: Database, orders: int = ORDERS, now: datetime | None = None) -> None:
    """Fill a migrated, empty database with so many orders (at least 1 000) and all that goes with them."""
    now = now or datetime.now(UTC)
    if database.is_sqlite:
        database.write_now(lambda connection: connection.exec_driver_sql("PRAGMA cache_size = -262144"))
    _write(database, _orders(orders, now))
    _write(database, _items(orders, now))
    _write(database, _timelines(orders, now))
    _write(database, _reviews(orders, now))
    _write(database, _releases(orders, now))
    _write(database, _moves(orders, now))
    _write(database, _events(orders, now))
    _write(database, _dead_letters(now))
    _write(database, _products(orders, now))
    _write(database, _actions(orders, now))
    _write(database, _measured(now, orders))
    _write(database, _asked(now))
    database.write_now(_audited)
    if database.is_sqlite:
        database.write_now(lambda connection: connection.exec_driver_sql("ANALYZE"))
    else:
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("SET statement_timeout = 0")
            connection.exec_driver_sql("VACUUM ANALYZE")


def keep_fresh(database: Database, orders: int = ORDERS, now: datetime | None = None) -> None:
    """Move what was measured to the present: the console draws half an hour of it."""

    def forget(connection: Connection) -> None:
        for table in (metric_samples, breaker_transitions, replicas):
            connection.execute(table.delete())

    database.write_now(forget)
    _write(database, _measured(now or datetime.now(UTC), orders))


def seeded(path: Path, orders: int = ORDERS, now: datetime | None = None) -> None:
    """Write the SQLite database; the file gets its name when it is whole, so that half of one never has it."""
    part = path.with_name(f"{path.name}.part")
    for left in path.parent.glob(f"{part.name}*"):
        left.unlink()
    with opened(f"sqlite:///{part}") as database:
        migrate(database)
        seed(database, orders, now)
    part.rename(path)


def order_id(number: int, at: datetime) -> str:
    """The id of the order with that number, which sorts by time as those of the service do."""
    return str(uuid.UUID(int=int(at.timestamp() * 1000) << 80 | 0x7 << 76 | 0x2 << 62 | number))


def _write(database: Database, rows: Iterator[tuple[Table, dict[str, Any]]]) -> None:
    while step := list(islice(rows, STEP)):
        database.write_now(lambda connection, step=step: _insert(connection, step))


def _insert(connection: Connection, step: list[tuple[Table, dict[str, Any]]]) -> None:
    by_table: dict[Table, list[dict[str, Any]]] = {}
    for table, row in step:
        by_table.setdefault(table, []).append(row)
    for table, rows in by_table.items():
        if connection.dialect.name == "sqlite":
            Prepared(table.insert(), list(rows[0])).run_many(connection, rows)
        else:
            _copy(connection, table, rows)


def _copy(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    into = f"COPY {table.name} ({', '.join(rows[0])}) FROM STDIN"
    with connection.connection.driver_connection.cursor() as cursor, cursor.copy(into) as copy:
        for row in rows:
            copy.write_row([orjson.dumps(v).decode() if isinstance(v, (dict, list)) else v for v in row.values()])


def _at(number: int, count: int, now: datetime) -> datetime:
    return now - APART * (count - number)


def _status(number: int, count: int) -> str:
    if number >= count - WAITING:
        return "PENDING_INVENTORY"
    if number >= count - 2 * WAITING:
        return "PLACED" if number % 10 else "PAYING"
    return {0: "REJECTED", 1: "CANCELLED", 2: "RETURNED"}.get(number % 40, "CONFIRMED")


def _orders(count: int, now: datetime) -> Iterator[tuple[Table, dict[str, Any]]]:
    for number in range(count):
        at, status = _at(number, count, now), _status(number, count)
        inventory, payment = OUTCOMES[status]
        confirmed = status == "CONFIRMED"
        yield (
            orders,
            {
                "order_id": order_id(number, at),
                "user_id": _user(number),
                "customer_priority": "high" if number % 25 == 0 else "standard",
                "status": status,
                "inventory_status": inventory,
                "payment_status": payment,
                "reservation_id": str(uuid.UUID(int=number)) if confirmed else None,
                "reservation_expires_at": at + timedelta(minutes=30) if confirmed else None,
                "confirmed_at": at + timedelta(seconds=1) if confirmed else None,
                "cancel_reason": "customer called" if status == "CANCELLED" else None,
                "failure": None,
                "metadata": None,
                "request_hash": f"{number:064x}",
                "due_at": now + NEVER if status in DUE else None,
                "attempts": 0,
                "created_at": at,
                "updated_at": at + timedelta(seconds=1),
                "version": 5,
            },
        )


def _user(number: int) -> str:
    return f"user-{number * 7919 % USERS:05}"


def _product(number: int) -> str:
    return f"product-{number:05}"


def _sold(number: int) -> int:
    """The number of the product that an order is for: every second one is for the same, a few for each of the rest."""
    chance = number * 2_654_435_761 % 2**32 / 2**32
    return int(1 / (1 - chance)) % SOLD


def _items(count: int, now: datetime) -> Iterator[tuple[Table, dict[str, Any]]]:
    for number in range(count):
        made = order_id(number, _at(number, count, now))
        for line in (0, 1):
            product = _product((_sold(number) + line * 17) % SOLD)
            yield (
                order_items,
                {
                    "order_id": made,
                    "product_id": product,
                    "variant_id": "v",
                    "line": line,
                    "quantity": 1 + number % 3,
                    "returned": 0,
                },
            )


STORY = (
    ("transition", "Order received", None),
    ("call", "Checked availability", {"outcome": "success", "durationMs": 41}),
    ("transition", "Stock reserved", {"reservationId": "held"}),
    ("event_in", "inventory.confirmed", {"eventId": "evt-93"}),
)


def _timelines(count: int, now: datetime) -> Iterator[tuple[Table, dict[str, Any]]]:
    for number in range(0, count, TOLD_EVERY):
        at = _at(number, count, now)
        for step, (kind, title, details) in enumerate(STORY):
            yield (
                order_history,
                {
                    "order_id": order_id(number, at),
                    "at": at + timedelta(milliseconds=100 * step),
                    "kind": kind,
                    "title": title,
                    "details": details,
                    "actor": None,
                },
            )


def _reviews(count: int, now: datetime) -> Iterator[tuple[Table, dict[str, Any]]]:
    total = min(RESOLVED_REVIEWS, count // 4) + OPEN_REVIEWS
    for case in range(total):
        # Distinct orders, the open cases on the newest of them.
        number = count - total + case
        at, is_open = _at(number, count, now), case >= total - OPEN_REVIEWS
        yield (
            reviews,
            {
                "review_id": str(uuid.UUID(int=case + 1)),
                "order_id": order_id(number, at),
                "reason": REASONS[case % len(REASONS)],
                "state": "OPEN" if is_open else "RESOLVED",
                "detail": "INVENTORY_TIMEOUT: no answer within 3000 ms",
                "opened_at": at,
                "resolved_at": None if is_open else at + timedelta(minutes=5),
                "resolved_by": None if is_open else "olga@example.com",
                "resolution": None if is_open else "APPROVE",
                "note": None,
                "version": 1,
            },
        )


def _releases(count: int, now: datetime) -> Iterator[tuple[Table, dict[str, Any]]]:
    done = min(DONE_JOBS, count // 4)
    states = ["DONE"] * done + ["FAILED"] * FAILED_JOBS + ["PENDING"] * PENDING_JOBS
    for job, state in enumerate(states):
        at = _at(job, count, now)
        yield (
            releases,
            {
                "order_id": order_id(job, at),
                "reason": "order cancelled: customer called",
                "state": state,
                "attempts": 8 if state == "FAILED" else 1,
                "next_attempt_at": now + NEVER if state == "PENDING" else None,
                "last_error": None if state == "DONE" else "INVENTORY_UNAVAILABLE: 503 from the Inventory Service",
                "created_at": at,
                "updated_at": at + timedelta(minutes=1),
                "version": 2,
                "cause": "NOT_TRIED" if state == "DONE" else CAUSE,
                "failure_class": "NOT_TRIED" if state == "DONE" else "INVENTORY_UNAVAILABLE",
            },
        )


def _moves(count: int, now: datetime) -> Iterator[tuple[Table, dict[str, Any]]]:
    for move in range(min(MOVES, count // 4)):
        at = _at(move, count, now)
        yield (
            release_actions,
            {
                "order_id": order_id(move, at),
                "cause": CAUSE if move % 2 else "INVENTORY_TIMEOUT",
                "move": "RETRY",
                "actor": "ada",
                "at": at,
                "why": None,
                "outcome": "HELD",
            },
        )


def _events(count: int, now: datetime) -> Iterator[tuple[Table, dict[str, Any]]]:
    events = min(EVENTS, count)
    for event in range(events):
        at = now - APART * (events - event)
        about = order_id(count - 1 - event % count, _at(count - 1 - event % count, count, now))
        yield (
            outbox,
            {
                "event_id": str(uuid.UUID(int=event + 1)),
                "subject": "order.created",
                "order_id": about,
                "payload": b'{"type": "order.created"}' + b" " * 400,
                "created_at": at,
                "published_at": at + timedelta(milliseconds=20),
                "claimed_until": None,
            },
        )
    for event in range(events):
        yield (
            inbox,
            {
                "event_id": str(uuid.UUID(int=event + 1)),
                "type": "inventory.confirmed",
                "order_id": order_id(count - 1 - event % count, _at(count - 1 - event % count, count, now)),
                "received_at": now - APART * (events - event),
                "outcome": "ignored" if event % 500 == 0 else "handled",
                "repeats": int(event % 700 == 0),
            },
        )


def _dead_letters(now: datetime) -> Iterator[tuple[Table, dict[str, Any]]]:
    for dead_letter in range(DEAD_LETTERS):
        yield (
            dead_letters,
            {
                "id": str(uuid.UUID(int=dead_letter + 1)),
                "stream": "INVENTORY_EVENTS",
                "stream_seq": dead_letter,
                "subject": "inventory.confirmed",
                "order_id": None,
                "payload": b"{",
                "headers": {},
                "reason": f"order {dead_letter} is not known",
                "attempts": 8,
                "state": "OPEN" if dead_letter % 2 else "DISCARDED",
                "created_at": now - timedelta(minutes=dead_letter),
                "cause": "order \u2026 is not known",
            },
        )


def _products(count: int, now: datetime) -> Iterator[tuple[Table, dict[str, Any]]]:
    for number in range(min(PRODUCTS, count)):
        is_out = number % 3 == 0
        yield (
            products,
            {
                "product_id": _product(number),
                "variant_id": "v",
                "available": not is_out,
                "level": ("out", "low", "in_stock")[number % 3],
                "source": "inventory.low_stock",
                "changed_at": now - timedelta(minutes=number),
                "expires_at": now - timedelta(minutes=number - 30) if is_out else None,
            },
        )


def _actions(count: int, now: datetime) -> Iterator[tuple[Table, dict[str, Any]]]:
    total = min(ACTIONS, count // 4)
    for number in range(total):
        about = count * number // total
        at = _at(about, count, now)
        yield (
            audit_log,
            {
                "at": at + timedelta(minutes=1),
                "actor": f"person-{number % 9}",
                "action": "CANCEL_ORDER" if number % 3 else "APPROVE",
                "target": f"order:{order_id(about, at)}",
                "order_id": order_id(about, at),
                "reason": "customer called",
                "result": "done",
            },
        )


def _measured(now: datetime, count: int) -> Iterator[tuple[Table, dict[str, Any]]]:
    """Samples, some changes of breaker states, and the heartbeat of one worker."""
    steps = max(timedelta(hours=1) // SAMPLE_EVERY, min(SAMPLES, count))
    for step in range(steps):
        at = now - SAMPLE_EVERY * (steps - 1 - step)
        yield metric_samples, {"at": at, "replica": "worker-1", "sample": _sample(step)}
    for number in range(200):
        at = now - timedelta(minutes=7 * (199 - number))
        states = ("closed", "open", "half_open", "closed")
        yield (
            breaker_transitions,
            {
                "replica": "worker-1",
                "breaker": BREAKERS[number // 3 % 3],
                "from_state": states[number % 3],
                "to_state": states[number % 3 + 1],
                "at": at,
            },
        )
    yield (
        replicas,
        {
            "replica": "worker-1",
            "started_at": now - timedelta(days=1),
            "heartbeat_at": now,
            "breakers": [_breaker(name, now) for name in BREAKERS],
            "facts": {"version": VERSION, "natsConnected": True, "sandbox": False},
        },
    )


def _asked(now: datetime) -> Iterator[tuple[Table, dict[str, Any]]]:
    for number in range(1_000):
        at = now - timedelta(minutes=number)
        yield (
            commands,
            {
                "command_id": str(uuid.UUID(int=number + 1)),
                "kind": "resolve_review",
                "target_id": str(uuid.UUID(int=number % 300 + 1)),
                "arguments": {"action": "APPROVE", "note": "", "version": 1},
                "actor": "olga@example.com",
                "state": "DONE",
                "created_at": at,
                "finished_at": at,
                "outcome": {"title": "Approved", "detail": "The case is closed.", "code": None},
            },
        )


def _sample(step: int) -> dict[str, Any]:
    """Counters that only grow, of an order a second, and gauges."""
    seen = 5 * step
    latency = [min(seen, seen * (place + 1) // 6) for place in range(len(LATENCY_BUCKETS) + 1)]
    outcomes = {"success": seen, "rejected": seen // 40, "unavailable": seen // 400, "timeout": seen // 900}
    operations = ("check_availability", "reserve", "release")
    return {
        "requests": dict.fromkeys(operations, outcomes),
        "latency": {name: {"buckets": latency, "sum": seen * 0.04, "count": seen} for name in operations},
        "orders": {"PLACED": seen, "PENDING_INVENTORY": seen // 300, "REJECTED": seen // 40},
        "failures": {"INVENTORY_TIMEOUT": seen // 900},
        "queues": {"reservation": step % 3, "release": 150, "outbox": step % 5, "reviews": 200, "deadLetters": 20},
        "outboxOldestAgeSeconds": 0.2,
        "breakers": dict.fromkeys(BREAKERS, "closed"),
    }


def _breaker(name: str, now: datetime) -> dict[str, Any]:
    return {
        "name": name,
        "state": "closed",
        "since": (now - timedelta(hours=3)).isoformat(),
        "retryInMs": None,
        "calls": 50,
        "failures": 1,
        "failureRate": 0.02,
        "thresholdPercentage": 50,
        "volumeThreshold": 10,
        "denied": 0,
        "buckets": [[5, 0]] * 10,
    }


def _audited(connection: Connection) -> None:
    """The conservation audit has seen all of it, so that a worker does not begin with a million orders."""
    last = connection.scalar(select(func.max(order_history.c.id))) or 0
    connection.execute(conservation_progress.insert(), {"id": 1, "history_id": last, "compared": last})


if __name__ == "__main__":
    started = time.perf_counter()
    seeded(Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else ORDERS)
    print(f"{time.perf_counter() - started:.0f} s")
