"""The part of the seed that fills the pages Events, Stock, Audit, Sandbox and Hand-over."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import orjson

from state import audit, breakers, dead_letters, deduplication, outbox, products, sandbox
from state.audit import AuditEntry
from state.breakers import BreakerOverride
from state.dead_letters import DeadLetter
from state.products import Product
from state.sandbox import Drill


def fill(connection: Any, now: datetime) -> None:
    _events(connection, now)
    _dead_letters(connection, now)
    _products(connection, now)
    _audit(connection, now)
    _sandbox(connection, now)
    override = BreakerOverride(
        "inventoryServiceReleaser", "forced_closed", "trial of the new version", "ben", now, now + timedelta(minutes=9)
    )
    breakers.put_override(connection, override)


def _events(connection: Any, now: datetime) -> None:
    for number in range(30):
        at = now - timedelta(seconds=20 * number + 5)
        body = {"id": f"evt-p{number:02}", "type": "inventory.confirm_requested", "data": {"orderId": "ORD-2000"}}
        row = {
            "event_id": f"evt-p{number:02}", "subject": ("order.created", "inventory.confirm_requested")[number % 2],
            "order_id": f"ORD-{2000 - number}", "payload": orjson.dumps(body), "created_at": at,
        }  # fmt: skip
        outbox.add(connection, [row])
    rows = outbox.settle_and_claim(connection, [], [], 100, now)
    ids = [row.id for row in rows if row.event_id.startswith("evt-p")]
    outbox.settle_and_claim(connection, ids, [(rows[0].id, "no response from stream")], 0, now)
    for number in range(25):
        at = now - timedelta(seconds=20 * number + 4)
        outcome = "ignored" if number == 7 else "handled"
        deduplication.add(connection, f"in-{number:02}", "inventory.confirmed", f"ORD-{2000 - number}", at, outcome)
    deduplication.add(connection, "in-03", "inventory.confirmed", "ORD-1997", now)


def _dead_letters(connection: Any, now: datetime) -> None:
    for number in range(12):
        body = {"orderId": f"ORD-9{number:03}", "reservationId": f"RSV-9{number:03}"}
        dead_letter = DeadLetter(
            f"DL-2{number:02}", "INVENTORY_EVENTS", 100 + number, "inventory.confirmed", body["orderId"],
            orjson.dumps(body), {"Nats-Msg-Id": f"m-{number}"}, f"UnknownOrder: order ORD-9{number:03} is not known",
            8, "OPEN", now - timedelta(minutes=number + 2),
        )  # fmt: skip
        dead_letters.add(connection, dead_letter)
    dead_letters.resolve(connection, "DL-211", "DISCARDED", by="olga@example.com", note="a test order", at=now)


SOURCES = {"low": "inventory.low_stock", "in_stock": "inventory.back_in_stock", "out": "inventory.out_of_stock"}


def _products(connection: Any, now: datetime) -> None:
    half_hour = timedelta(minutes=30)
    for number in range(28):
        at = now - timedelta(minutes=number * 3 + 1)
        level = ("low", "in_stock", "out")[number % 3]
        left = {"low": 4, "in_stock": 60, "out": 0}[level]
        product = Product(
            f"SKU-{number:02}", "oak", level != "out", level, left, 10 if level == "low" else None,
            SOURCES[level],
            at, at + half_hour if level == "out" else None,
        )  # fmt: skip
        products.put(connection, product)


def _audit(connection: Any, now: datetime) -> None:
    for number in range(26):
        at = now - timedelta(minutes=7 * number + 3)
        actor = ("olga@example.com", "ben", "system")[number % 3]
        action, target, order_id = (
            ("CANCEL_ORDER", "order:ORD-1007", "ORD-1007"),
            ("FORCE_BREAKER", "breaker:inventoryServiceReserver", None),
            ("DISCARD_EVENT", "dead-letter:DL-211", None),
        )[number % 3]
        result = "refused: INVALID_STATE" if number == 4 else "done"
        entry = AuditEntry(
            at, actor, action, target, order_id, "customer called" if number % 2 == 0 else None,
            {"status": "PLACED"}, {"status": "CANCELLED"}, result, None, f"cmd-{number}",
        )  # fmt: skip
        audit.add(connection, entry)


def _sandbox(connection: Any, now: datetime) -> None:
    items = [
        {
            "productId": f"SKU-{number:02}", "variantId": "oak", "name": f"Oak chair, model {number}",
            "onHand": 100 - 9 * number, "reserved": number, "available": max(0, 100 - 10 * number), "safety": 0,
            "lowStockThreshold": 20, "level": "low" if number > 7 else "ok",
        }
        for number in range(10)
    ]  # fmt: skip
    ledger = [
        {
            "id": number, "at": (now - timedelta(seconds=3 * number)).isoformat(), "kind": "RESERVE",
            "productId": "SKU-01", "variantId": "oak", "onHandDelta": 0, "reservedDelta": 2, "orderId": "ORD-2000",
            "reservationId": "RSV-2000", "reason": None,
        }
        for number in range(20)
    ]  # fmt: skip
    faults = {"outage": False, "latencyMs": 0, "errorRate": 0.0, "silentConfirmations": False, "soldOut": False}
    shown = {"items": items, "ledger": ledger, "faults": faults, "traffic": {"ordersPerSecond": None}}
    sandbox.put_value(connection, sandbox.SHELVES, shown, now - timedelta(seconds=2))
    began = now - timedelta(hours=2)
    report = {
        "completed": True, "faultSeconds": 60.4, "detection": [{"by": "breaker", "seconds": 3.1},
                                                               {"by": "health", "seconds": 4.0}],
        "breakersOpened": {"inventoryServiceReserver": 2},
        "orders": {"placed": 61, "hurt": 44, "refused": 39, "flagged": 5,
                   "refusals": {"INVENTORY_UNAVAILABLE": 37, "INVENTORY_TIMEOUT": 2},
                   "statuses": {"CONFIRMED": 22, "REJECTED": 39}},
        "recovery": {"seconds": 34.2, "at": began.isoformat()},
        "lost": {"differences": [], "unsettled": [], "count": 0, "compared": 61},
    }  # fmt: skip
    drill = Drill("DRL-1", "outage", {"outage": True}, 60, "olga@example.com", "before the sale", "WAITING", began)
    assert sandbox.start(connection, drill)
    sandbox.save(
        connection, drill, phase="DONE", began_at=began, ended_at=began + timedelta(seconds=60),
        finished_at=began + timedelta(seconds=100), report=report,
    )  # fmt: skip
