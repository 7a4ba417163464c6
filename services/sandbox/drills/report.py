"""The report of a drill: time to detect, affected orders, time to recover, anything lost.

It is computed from the database alone, so that a restart loses nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from services.domain.orders.events import timestamp
from state import drills
from state.drills import Drill, OrdersOfDrill

REFUSED = ("INVENTORY_TIMEOUT", "INVENTORY_UNAVAILABLE", "RESERVATION_FAILED", "INSUFFICIENT_INVENTORY")
SHOWN = 20
"""Ids of lost orders that are listed."""


def made(
    connection: Connection,
    drill: Drill,
    ended_at: datetime | None,
    recovered_at: datetime | None,
    now: datetime,
    *,
    compared: int,
) -> dict[str, Any]:
    """The report: ``{completed, detection, orders, recovery, lost}``, times in seconds."""
    if drill.began_at is None:
        why = "It was stopped before it began." if drill.stopped_by else "The Inventory Service did not answer."
        return {"completed": False, "why": why}
    end = ended_at or now
    facts = drills.orders_placed_between(connection, drill.began_at, end)
    opened = drills.first_breaker_opened(connection, drill.began_at, end)
    differences = drills.differences_of(connection, facts.ids)
    return {
        "completed": True,
        "faultSeconds": seconds(drill.began_at, end),
        "detection": detection(drill.began_at, drill.noticed, opened),
        "breakersOpened": drills.breakers_opened(connection, drill.began_at, end),
        "orders": _orders(facts),
        "recovery": {
            "seconds": seconds(end, recovered_at) if recovered_at else None,
            "at": timestamp(recovered_at) if recovered_at else None,
        },
        "lost": {
            "differences": [f"{kind} {order_id}" for order_id, kind in differences[:SHOWN]],
            "unsettled": list(facts.unsettled[:SHOWN]),
            "count": len(differences) + len(facts.unsettled),
            "compared": min(facts.placed, compared),
        },
    }


def detection(began_at: datetime, noticed: dict[str, str], opened: tuple[str, datetime] | None) -> list[dict[str, Any]]:
    """The signals that detected the faults, each with its delay in seconds, the fastest first."""
    moments = {name: datetime.fromisoformat(at) for name, at in noticed.items()}
    if opened is not None:
        # The stored transition of the breaker is exact; an observation of the runner is up to a second late.
        moments["breaker"] = min(opened[1], moments.get("breaker", opened[1]))
    found = [{"by": name, "seconds": seconds(began_at, at)} for name, at in moments.items()]
    return sorted(found, key=lambda one: float(str(one["seconds"])))


def _orders(facts: OrdersOfDrill) -> dict[str, Any]:
    refused = sum(count for code, count in facts.refusals.items() if code in REFUSED)
    return {
        "placed": facts.placed,
        "hurt": refused + facts.flagged,
        "refused": refused,
        "flagged": facts.flagged,
        "refusals": facts.refusals,
        "statuses": facts.statuses,
    }


def seconds(start: datetime, end: datetime) -> float:
    return round(max(0.0, (end - start).total_seconds()), 1)
