"""Fills a database as a busy half hour would have left it: every status, every case, an outage in the middle.

``python tests/support/seed_console.py PATH`` writes the SQLite database PATH, to look at the console by hand.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from services.domain.calls import Failure, FailureClass
from services.domain.commands import Outcome
from services.domain.conservation import Difference, StockState
from services.domain.incident_impact import DENIED, FALLBACK, FLAGGED, REFUSED, Impact
from services.domain.orders.changes import TimelineEntry
from services.domain.orders.model import InventoryStatus as I
from services.domain.orders.model import Line, Order, ReviewReason
from services.domain.orders.model import OrderStatus as S
from services.domain.orders.model import PaymentStatus as P
from services.domain.reconciliation import LookupResult
from services.metrics.catalogue import LATENCY_BUCKETS
from state import (
    audit,
    breakers,
    bulk_jobs,
    commands,
    conservation,
    dead_letters,
    incident_impacts,
    inventory_lookups,
    order_search,
    orders,
    outbox,
    releases,
    replicas,
    reviews,
    samples,
)
from state.audit import AuditEntry
from state.breakers import BreakerTransition
from state.bulk_jobs import BulkItem, BulkJob
from state.commands import Command
from state.dead_letters import DeadLetter
from state.engine.database import Database, opened
from state.inventory_lookups import StoredLookup
from state.order_search import OrderQuery
from state.schema import migrate
from tests.support import seed_alerts, seed_topics

REPLICA = "worker-1"
BREAKERS = ("inventoryServiceChecker", "inventoryServiceReserver", "inventoryServiceReleaser")
OPERATIONS = ("check_availability", "reserve", "release")
OUTAGE = (timedelta(minutes=12), timedelta(minutes=8, seconds=30))
"""From so long ago until so long ago."""

STATES: dict[str, tuple[str, str]] = {
    S.RECEIVED: (I.NONE, P.NONE),
    S.RESERVING: (I.NONE, P.NONE),
    S.PENDING_INVENTORY: (I.NONE, P.NONE),
    S.PAYING: (I.RESERVED, P.NONE),
    S.PLACED: (I.CONFIRM_REQUESTED, P.CAPTURED),
    S.CONFIRMED: (I.INVENTORY_CONFIRMED, P.CAPTURED),
    S.CONFIRMATION_FAILED: (I.INVENTORY_FAILED, P.CAPTURED),
    S.CANCELLED: (I.RELEASED, P.REFUNDED),
    S.REJECTED: (I.NONE, P.NONE),
    S.PARTIALLY_RETURNED: (I.RESTOCK_REQUESTED, P.CAPTURED),
    S.RETURNED: (I.RESTOCK_REQUESTED, P.CAPTURED),
}


def order(order_id: str, status: str, at: datetime, **more: Any) -> Order:
    """An order as it stands in that status."""
    inventory, payment = STATES[status]
    held = inventory not in (I.NONE, I.RELEASED)
    values: dict[str, Any] = {
        "user_id": "USR-31",
        "customer_priority": "standard",
        "lines": (Line("SKU-CHAIR", "oak", 2), Line("SKU-LAMP", "brass", 1)),
        "created_at": at,
        "updated_at": at + timedelta(seconds=2),
        "inventory_status": inventory,
        "payment_status": payment,
        "reservation_id": f"RSV-{order_id[4:]}" if held else None,
        "reservation_expires_at": at + timedelta(minutes=30) if held else None,
        "confirmed_at": at + timedelta(seconds=4) if inventory == I.INVENTORY_CONFIRMED else None,
    }
    return Order(order_id=order_id, status=status, **(values | more))


def seed(database: Database, now: datetime, *, confirmed: int = 40) -> None:
    """Everything at once, in one transaction."""
    database.write_now(lambda connection: fill(connection, now, confirmed))


def fill(connection: Any, now: datetime, confirmed: int) -> None:
    """The same within a transaction."""
    _orders(connection, now, confirmed)
    _reviews(connection, now)
    _desk(connection, now)
    _releases(connection, now)
    _release_memory(connection, now)
    _differences(connection, now)
    _messages(connection, now)
    _monitoring(connection, now)
    _commands(connection, now)
    _operations(connection, now)
    seed_alerts.fill(connection, now)
    seed_topics.fill(connection, now)


def _orders(connection: Any, now: datetime, confirmed: int) -> None:
    for number in range(confirmed):
        at = now - timedelta(seconds=40 * number + 12)
        orders.add(connection, order(f"ORD-{2000 - number}", S.CONFIRMED, at, user_id=f"USR-{number % 7 + 10}"), "h")
    for number, status in enumerate(STATES):
        at = now - timedelta(minutes=2 * number + 1, seconds=7)
        priority = "high" if status in (S.PLACED, S.PENDING_INVENTORY) else "standard"
        total = {"total": 249.9 + 100 * number, "currency": "EUR"} if number % 2 else None
        made = order(
            f"ORD-1{number:03}", status, at, customer_priority=priority, user_id=f"USR-{number + 40}", metadata=total
        )
        orders.add(connection, made, "h")
        orders.add_timeline(connection, made.order_id, story(made))


def story(made: Order) -> list[TimelineEntry]:
    """What an order in that state has behind it."""

    def at(seconds: float) -> datetime:
        return made.created_at + timedelta(seconds=seconds)

    story = [
        TimelineEntry(at(0), "transition", "Order received"),
        TimelineEntry(at(0.1), "call", "Checked availability", {"outcome": "success", "durationMs": 41}),
        TimelineEntry(at(0.2), "transition", "Reserving stock", {"from": "RECEIVED", "to": "RESERVING"}),
    ]
    if made.status == S.PENDING_INVENTORY:
        details = {"outcome": "timeout", "durationMs": 3000, "attempt": 3}
        story.append(TimelineEntry(at(9.6), "call", "Reserve: no answer", details))
        story.append(TimelineEntry(at(9.7), "transition", "Waiting for inventory", {"code": "INVENTORY_TIMEOUT"}))
    if made.reservation_id:
        story.append(TimelineEntry(at(0.4), "transition", "Stock reserved", {"reservationId": made.reservation_id}))
        story.append(TimelineEntry(at(1.0), "event_out", "inventory.confirm_requested", {"eventId": "evt-81"}))
    if made.confirmed_at:
        story.append(TimelineEntry(at(4.0), "event_in", "inventory.confirmed", {"eventId": "evt-93"}))
    if made.status == S.CANCELLED:
        story.append(TimelineEntry(at(60), "action", "Cancel order", {"reason": "customer called"}, "olga@example.com"))
    return story


CASES: list[tuple[str, str, str, int]] = [
    ("REV-1", "ORD-1002", ReviewReason.PENDING_INVENTORY, 9),
    ("REV-2", "ORD-1006", ReviewReason.INVENTORY_CONFIRMATION_FAILED, 13),
    ("REV-3", "ORD-1004", ReviewReason.CONFIRMATION_TIMEOUT, 21),
    ("REV-4", "ORD-1004", ReviewReason.AVAILABILITY_UNVERIFIED, 24),
    ("REV-5", "ORD-1007", ReviewReason.RELEASE_FAILED, 47),
    ("REV-6", "ORD-1003", ReviewReason.PAYMENT_UNKNOWN, 65),
]
UNAVAILABLE = Failure(FailureClass.UNAVAILABLE, 503)
CODES: dict[str, tuple[str, FailureClass | None]] = {
    ReviewReason.PENDING_INVENTORY: (FailureClass.TIMEOUT, FailureClass.TIMEOUT),
    ReviewReason.INVENTORY_CONFIRMATION_FAILED: ("RESERVATION_EXPIRED", None),
    ReviewReason.AVAILABILITY_UNVERIFIED: (FailureClass.UNAVAILABLE, FailureClass.UNAVAILABLE),
    ReviewReason.RELEASE_FAILED: (FailureClass.UNAVAILABLE, FailureClass.UNAVAILABLE),
}
DETAILS: dict[str, str] = {
    ReviewReason.PENDING_INVENTORY: "INVENTORY_TIMEOUT: no answer within 3000 ms",
    ReviewReason.INVENTORY_CONFIRMATION_FAILED: "Inventory confirmation failed: RESERVATION_EXPIRED",
    ReviewReason.CONFIRMATION_TIMEOUT: "No answer to 3 requests for confirmation",
    ReviewReason.AVAILABILITY_UNVERIFIED: "INVENTORY_UNAVAILABLE: the breaker is open",
    ReviewReason.RELEASE_FAILED: "Release failed after 8 attempts: INVENTORY_UNAVAILABLE",
    ReviewReason.PAYMENT_UNKNOWN: "The gateway did not say whether it captured",
}


def _codes(reason: str) -> dict[str, Any]:
    cause, failure_class = CODES.get(reason, ("", None))
    return {"cause": cause, "failure_class": failure_class}


def _reviews(connection: Any, now: datetime) -> None:
    for review_id, order_id, reason, minutes in CASES:
        opened_at = now - timedelta(minutes=minutes)
        reviews.open_case(connection, review_id, order_id, reason, DETAILS[reason], opened_at, **_codes(reason))
    reviews.open_case(connection, "REV-0", "ORD-1005", ReviewReason.CONFIRMATION_TIMEOUT, "No answer", now)
    closed = reviews.get(connection, "REV-0")
    assert closed is not None
    reviews.resolve(connection, closed, by="olga@example.com", resolution="RECONFIRM", note="asked again", at=now)


def _desk(connection: Any, now: datetime) -> None:
    """A claim, an answer of the other side, and what was done before about the same cause."""
    until = now + timedelta(minutes=11)
    reviews.claim(connection, "REV-2", "olga@example.com", now - timedelta(minutes=4), until, take=False)
    held = LookupResult(StockState.RESERVED, "ACTIVE", "RSV-1004", now + timedelta(minutes=20))
    inventory_lookups.note(connection, StoredLookup("ORD-1004", held, now - timedelta(seconds=3), "olga@example.com"))
    reason = ReviewReason.INVENTORY_CONFIRMATION_FAILED
    for number in range(6):
        review_id, order_id, at = f"PAST-{number}", f"ORD-{1990 - number}", now - timedelta(days=number + 1)
        reviews.open_case(connection, review_id, order_id, reason, DETAILS[reason], at, **_codes(reason))
        past = reviews.get(connection, review_id)
        assert past is not None
        action = "CANCEL_ORDER" if number == 2 else "RECONFIRM"
        reviews.resolve(connection, past, by="ben", resolution=action, note="stock was recounted", at=at)
        target = f"review:{review_id}"
        entry = AuditEntry(at, "ben", action, target, order_id, "stock was recounted", {}, {}, "done", None)
        audit.add(connection, entry)


def _releases(connection: Any, now: datetime) -> None:
    for number in range(5):
        at = now - timedelta(minutes=5 * number + 3)
        made = order(f"ORD-3{number:03}", S.CANCELLED, at, inventory_status=I.RELEASE_PENDING, user_id="USR-77")
        orders.add(connection, made, "h")
        releases.start(connection, made.order_id, "order cancelled: customer", at)
        _attempt(connection, made.order_id, number, at)
    releases.start(connection, "ORD-1007", "order cancelled: customer called", now - timedelta(minutes=50))
    _attempt(connection, "ORD-1007", 0, now - timedelta(minutes=47))


def _release_memory(connection: Any, now: datetime) -> None:
    """What was done the last times that releases failed of the first cause."""
    cause = UNAVAILABLE.key
    done = [
        ("RETRY", "ben", "HELD", None), ("AUTOMATIC", "system", "FAILED", None), ("RETRY", "olga", "FAILED", None),
        ("BULK_RETRY", "olga", "HELD", "service is back"), ("BULK_RETRY", "olga", "HELD", "service is back"),
        ("BULK_RETRY", "olga", "UNDECIDED", "service is back"), ("MARKED", "ben", "HELD", "ticket 41"),
    ]  # fmt: skip
    for number, (move, actor, outcome, why) in enumerate(done):
        at = now - timedelta(hours=len(done) - number)
        order_id = f"ORD-{1980 - number}"
        releases.add_action(connection, order_id, cause, move, actor, at, why=why, outcome=outcome)


def _differences(connection: Any, now: datetime) -> None:
    (cancelled, *_) = order_search.find(connection, OrderQuery(statuses=(S.CANCELLED,)), limit=1).orders
    known = [Difference("HOLD_LEAKED", "The order is CANCELLED, its stock is still reserved.")]
    conservation.note(connection, cancelled.order_id, known, now - timedelta(minutes=7), judged=())
    conservation.advance(connection, 0, 1234)


def _attempt(connection: Any, order_id: str, number: int, at: datetime) -> None:
    job = releases.get(connection, order_id)
    assert job is not None
    if number < 2:
        error = "INVENTORY_UNAVAILABLE: 503 from the Inventory Service"
        failed = releases.failure_values(error, UNAVAILABLE)
        releases.settle(connection, job, at, state="FAILED", attempts=8, next_attempt_at=None, **failed)
    else:
        error = "INVENTORY_TIMEOUT: no answer within 3000 ms"
        next_at = at + timedelta(minutes=30)
        failed = releases.failure_values(error, Failure(FailureClass.TIMEOUT))
        releases.settle(connection, job, at, attempts=number, next_attempt_at=next_at, **failed)


def _messages(connection: Any, now: datetime) -> None:
    row = {"subject": "order.created", "order_id": "ORD-2000", "payload": b"{}", "created_at": now}
    outbox.add(connection, [row | {"event_id": f"evt-{number}"} for number in range(3)])
    dead_letter = DeadLetter(
        "DL-1", "INVENTORY_EVENTS", 7, "inventory.confirmed", None, b"{", {}, "not JSON", 1, "OPEN", now
    )
    dead_letters.add(connection, dead_letter)


def _commands(connection: Any, now: datetime) -> None:
    done = Outcome("Released", "nothing was held any more")
    refused = Outcome("Somebody was faster", "resolved by olga@example.com", "REVIEW_CONFLICT")
    given = [
        Command("CMD-1", "retry_release", "ORD-3003", {}, "olga@example.com", "DONE", now, now, done),
        Command("CMD-2", "resolve_review", "REV-3", {"action": "RECONFIRM"}, "ben", "REFUSED", now, now, refused),
        Command("CMD-3", "retry_release", "ORD-3002", {}, "ben", "STORED", now),
    ]
    for command in given:
        commands.store(connection, command)
        if command.outcome:
            commands.finish(connection, command.command_id, command.state, command.outcome, now)


def _operations(connection: Any, now: datetime) -> None:
    cause, said = UNAVAILABLE.key, "INVENTORY_UNAVAILABLE: 503 from the Inventory Service"
    ends: dict[str, list[tuple[str, str | None]]] = {
        "OP-1": [("FAILED", said), *[("ASKED", None)] * 11],
        "OP-2": [*[("CONFIRMED", None)] * 5, ("SKIPPED", "The job has changed since: it is DONE at version 4.")],
    }
    for job_id, items in ends.items():
        is_stopped = job_id == "OP-1"
        at = now - timedelta(minutes=6 if is_stopped else 95)
        operation = BulkJob(
            job_id, "retry_release", None, "olga@example.com", "service is back", f"Failed; {cause}", [cause],
            len(items), 2 if is_stopped else 0, at - timedelta(seconds=20), at,
            state="STOPPED" if is_stopped else "DONE",
            note="Stopped by itself: 1 of 1 in the stage of 1 not confirmed." if is_stopped else None,
            tally={state: sum(1 for one, _ in items if one == state) for state, _ in items},
            new_failures=3 if is_stopped else 0,
            ended_at=None if is_stopped else at + timedelta(seconds=9),
        )  # fmt: skip
        rows = [
            BulkItem(
                job_id, f"ORD-9{number:03}", "ORD-3000", number, 3, "FAILED", state,
                sent_at=None if state in ("ASKED", "SKIPPED") else at,
                settled_at=None if state == "ASKED" else at + timedelta(seconds=1), detail=detail,
            )
            for number, (state, detail) in enumerate(items)
        ]  # fmt: skip
        bulk_jobs.add(connection, operation, rows)


def breaker(name: str, state: str, since: datetime, **more: Any) -> dict[str, Any]:
    """A breaker as a heartbeat reports it."""
    return {
        "name": name, "state": state, "since": since.isoformat(), "retryInMs": None, "calls": 42, "failures": 1,
        "failureRate": 1 / 42, "thresholdPercentage": 50, "volumeThreshold": 5, "denied": 0,
        "buckets": [[4, 0], [5, 0], [3, 1], [4, 0], [5, 0], [4, 0], [4, 0], [5, 0], [4, 0], [4, 0]],
    } | more  # fmt: skip


def heartbeat(connection: Any, now: datetime, breakers: list[dict[str, Any]] | None = None, **facts: Any) -> None:
    """The sign of life of the one worker."""
    start = now - timedelta(hours=6)
    said = {
        "version": "0.1.0", "sandbox": True, "natsConnected": True, "apiUrl": "http://127.0.0.1:8600",
        "inventoryUrl": "http://127.0.0.1:8701", "sandboxTraffic": 1.0, "relayProblem": None,
        "consumers": [
            {"stream": "INVENTORY_EVENTS", "durable": "order-service", "pending": 12, "ack_pending": 3,
             "redelivered": 1, "at": now.isoformat()},
        ],
    } | facts  # fmt: skip
    shown = breakers if breakers is not None else [breaker(name, "closed", start) for name in BREAKERS]
    replicas.beat(connection, replicas.Replica(REPLICA, started_at=start, heartbeat_at=now, breakers=shown, facts=said))


def _monitoring(connection: Any, now: datetime) -> None:
    open_breaker = breaker(
        BREAKERS[1], "open", now - timedelta(seconds=12), retryInMs=18_000, calls=24, failures=17, failureRate=17 / 24,
        denied=9, buckets=[[3, 0], [3, 1], [4, 2], [4, 4], [5, 5], [5, 5], [0, 0], [0, 0], [0, 0], [0, 0]],
    )  # fmt: skip
    start = now - timedelta(hours=6)
    heartbeat(
        connection, now, [breaker(BREAKERS[0], "closed", start), open_breaker, breaker(BREAKERS[2], "closed", start)]
    )
    breakers.add_transitions(connection, _outages(now))
    _impacts(connection, now)
    for at, sample in _samples(now):
        samples.add(connection, at, REPLICA, sample)


AFFECTED = (*tuple(f"ORD-{2000 - number}" for number in range(13, 18)), "ORD-1002", "ORD-1004", "ORD-1008")
"""Orders that the outage hurt; the last one was refused."""


def _impacts(connection: Any, now: datetime) -> None:
    began = now - OUTAGE[0]
    for number, order_id in enumerate(AFFECTED):
        at = began + timedelta(seconds=5 + 20 * number)
        found = [Impact(at, DENIED, "reserve", "short_circuited")]
        if order_id == AFFECTED[-1]:
            found.append(Impact(at, REFUSED, "reserve", "RESERVATION_FAILED"))
        else:
            found.append(Impact(at, FALLBACK, "reserve", ReviewReason.PENDING_INVENTORY))
        if order_id in AFFECTED[-3:-1]:
            found.append(Impact(at, FLAGGED, "reserve", ReviewReason.PENDING_INVENTORY))
        incident_impacts.add(connection, order_id, found)


def _outages(now: datetime) -> list[BreakerTransition]:
    began, ended = now - OUTAGE[0], now - OUTAGE[1]
    reserver = (REPLICA, BREAKERS[1])
    found = [
        BreakerTransition(*reserver, "closed", "open", began),
        BreakerTransition(*reserver, "open", "half_open", ended - timedelta(seconds=5)),
        BreakerTransition(*reserver, "half_open", "closed", ended),
        BreakerTransition(*reserver, "closed", "open", now - timedelta(seconds=12)),
    ]
    checker = (REPLICA, BREAKERS[0])
    return [
        *found,
        BreakerTransition(*checker, "closed", "half_open", began),
        BreakerTransition(*checker, "half_open", "closed", ended),
    ]


def _samples(now: datetime) -> list[tuple[datetime, dict[str, Any]]]:
    """Five-second samples of half an hour; everything but the gauges only grows."""
    counts: dict[str, Any] = {
        "requests": {name: {} for name in OPERATIONS},
        "latency": {name: _no_latency() for name in OPERATIONS},
        "orders": {}, "failures": {},
    }  # fmt: skip
    found = []
    for step in range(385):
        at = now - timedelta(seconds=5 * (384 - step))
        during_outage = OUTAGE[0] > now - at > OUTAGE[1]
        _count_step(counts, step, during_outage=during_outage)
        found.append((at, _snapshot(counts, step, during_outage=during_outage)))
    return found


def _no_latency() -> dict[str, Any]:
    return {"buckets": [0] * (len(LATENCY_BUCKETS) + 1), "sum": 0.0, "count": 0}


def _count_step(counts: dict[str, Any], step: int, *, during_outage: bool) -> None:
    for number, name in enumerate(OPERATIONS):
        busy = 9 + (step * (3 + number)) % 5 if number < 2 else 1
        bad = busy - 2 if during_outage and number == 1 else int(step % 37 == 5 * number)
        _bump(counts["requests"][name], "unavailable", bad)
        _bump(counts["requests"][name], "rejected", int(step % 9 == 0 and number == 1))
        _bump(counts["requests"][name], "success", busy - bad)
        typical = 4 + number + (step % 7 == 0) + (4 if during_outage else 0)
        buckets = counts["latency"][name]["buckets"]
        counts["latency"][name]["buckets"] = [
            c + (busy if i >= typical else busy // 3 if i == typical - 1 else 0) for i, c in enumerate(buckets)
        ]
        counts["latency"][name]["count"] += busy
    _bump(counts["orders"], "PLACED", 2 if during_outage else 8 + step % 4)
    _bump(counts["orders"], "PENDING_INVENTORY", 4 if during_outage else int(step % 11 == 0))
    _bump(counts["orders"], "REJECTED", 3 if during_outage else int(step % 6 == 0))
    _bump(counts["failures"], "INVENTORY_UNAVAILABLE", 3 if during_outage else 0)
    _bump(counts["failures"], "PENDING_INVENTORY", 4 if during_outage else int(step % 11 == 0))


def _bump(counter: dict[str, int], key: str, number: int) -> None:
    counter[key] = counter.get(key, 0) + number


def _snapshot(counts: dict[str, Any], step: int, *, during_outage: bool) -> dict[str, Any]:
    return {
        "requests": {name: dict(values) for name, values in counts["requests"].items()},
        "latency": {name: values | {"buckets": list(values["buckets"])} for name, values in counts["latency"].items()},
        "orders": dict(counts["orders"]), "failures": dict(counts["failures"]), "releases": {"released": step // 4},
        "queues": {
            "reservation": 9 if during_outage else step % 3, "release": 3 + step % 2, "outbox": step % 5,
            "reviews": 4 + step // 130, "deadLetters": int(step > 300),
        },
        "outboxOldestAgeSeconds": 0.4 if not during_outage else 3.1,
        "breakers": {name: "open" if during_outage and name == BREAKERS[1] else "closed" for name in BREAKERS},
    }  # fmt: skip


def main(path: str) -> None:
    """Seed a fresh file, then keep the one worker alive for as long as somebody looks."""
    import time

    with opened(f"sqlite:///{Path(path).resolve()}") as database:
        migrate(database)
        seed(database, datetime.now(UTC))
        while True:
            time.sleep(1)
            database.write_now(_stay_alive)


def _stay_alive(connection: Any) -> None:
    from sqlalchemy import update

    from state.tables import replicas as table

    connection.execute(update(table).values(heartbeat_at=datetime.now(UTC)))


if __name__ == "__main__":
    main(sys.argv[1])
