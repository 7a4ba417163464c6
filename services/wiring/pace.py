"""The pace of the Inventory Service, shared by replicas: told with each heartbeat and heard at each heartbeat.

No call waits for it, and no call asks the database.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from services.inventory.pacing import Pace, Pacer
from services.settings import LONGEST_RETRY_AFTER_SECONDS
from state.replicas import Replica

FASTEST = 10_000.0
"""Calls a second; more is no pace."""


def pace_fact(pacer: Pacer) -> dict[str, Any]:
    """What the heartbeat says of the pace."""
    told = pacer.told()
    return {"pace": {"rate": told.rate, "closedMs": round(told.closed_seconds * 1000)} if told else None}


def hear_others(pacer: Pacer, others: Iterable[Replica], now: datetime) -> None:
    """Take on what other replicas were told; ``now``: the time of this replica's clock."""
    for other in others:
        if told := _read(other.facts.get("pace"), max((now - other.heartbeat_at).total_seconds(), 0.0)):
            pacer.hear(told)


def _read(said: object, age_seconds: float) -> Pace | None:
    """What a heartbeat of that age says; None where another version says it in another form."""
    if not isinstance(said, dict):
        return None
    rate, closed = _number(said.get("rate")), _number(said.get("closedMs"))
    if rate is None or closed is None:
        return None
    left = min(closed / 1000, LONGEST_RETRY_AFTER_SECONDS) - age_seconds
    return Pace(min(max(rate, 0.0), FASTEST), left)


def _number(said: object) -> float | None:
    return float(said) if isinstance(said, int | float) and math.isfinite(said) else None
