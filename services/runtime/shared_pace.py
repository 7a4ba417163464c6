"""Shares the pace of inventory calls between replicas: each heartbeat publishes ours and reads that of the others.

No call waits for it, and no call asks the database.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from services.base.settings import LONGEST_RETRY_AFTER_SECONDS
from services.clients.inventory.pacing import Pace, Pacer
from state.replicas import Replica

FASTEST = 10_000.0
"""Calls a second. A larger value is ignored."""


def pace_fact(pacer: Pacer) -> dict[str, Any]:
    """The pace as the heartbeat carries it."""
    told = pacer.told()
    return {"pace": {"rate": told.rate, "closedMs": round(told.closed_seconds * 1000)} if told else None}


def hear_others(pacer: Pacer, others: Iterable[Replica], now: datetime) -> None:
    """Apply the pace of other replicas; ``now`` is the time of this replica's clock."""
    for other in others:
        if told := _read(other.facts.get("pace"), max((now - other.heartbeat_at).total_seconds(), 0.0)):
            pacer.hear(told)


def _read(said: object, age_seconds: float) -> Pace | None:
    """The pace in a heartbeat of that age; None when another version wrote it in another form."""
    if not isinstance(said, dict):
        return None
    rate, closed = _number(said.get("rate")), _number(said.get("closedMs"))
    if rate is None or closed is None:
        return None
    left = min(closed / 1000, LONGEST_RETRY_AFTER_SECONDS) - age_seconds
    return Pace(min(max(rate, 0.0), FASTEST), left)


def _number(said: object) -> float | None:
    return float(said) if isinstance(said, int | float) and math.isfinite(said) else None
