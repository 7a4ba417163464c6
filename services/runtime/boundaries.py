"""The collaborators of a worker that a test may replace, and what every builder of the worker needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol, TypeVar

from services.base.settings import Settings
from services.metrics.registry import Metrics
from services.tracing.port import Tracer
from state.engine.database import Database

T = TypeVar("T")


class Seam(StrEnum):
    """One collaborator of the worker."""

    CLOCK = "clock"
    INVENTORY = "inventory"
    LOOKUP = "witness"
    """The inventory lookup of one order."""
    PAYMENTS = "payments"
    BROKER = "broker"
    """The connection to NATS."""
    PUBLISHER = "publisher"
    WEBHOOK = "webhook"
    SWITCHES = "switches"
    """Of the reference Inventory Service."""


class Border(Protocol):
    """Called once for each collaborator that is composed in."""

    def __call__(self, seam: Seam, collaborator: T, /) -> T:
        """What takes its place."""
        ...


def as_it_is(_: Seam, collaborator: T, /) -> T:
    """Nothing stands between."""
    return collaborator


@dataclass(frozen=True, slots=True)
class Parts:
    """What every builder of the worker needs."""

    settings: Settings
    database: Database
    clock: Callable[[], datetime]
    replica: str
    """Name of this process among all replicas."""
    metrics: Metrics
    tracer: Tracer | None
    border: Border
