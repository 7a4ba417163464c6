"""The collaborators of a worker that a test may replace, and the common arguments of the worker's builders."""

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
    """The fault switches of the reference Inventory Service."""


class Border(Protocol):
    """Called once for each collaborator of the worker, when the worker is built."""

    def __call__(self, seam: Seam, collaborator: T, /) -> T:
        """Return the object to use in place of the collaborator."""
        ...


def as_it_is(_: Seam, collaborator: T, /) -> T:
    """Return the collaborator unchanged."""
    return collaborator


@dataclass(frozen=True, slots=True)
class Parts:
    """The arguments that every builder of the worker takes."""

    settings: Settings
    database: Database
    clock: Callable[[], datetime]
    replica: str
    """Name of this process among all replicas."""
    metrics: Metrics
    tracer: Tracer | None
    border: Border
