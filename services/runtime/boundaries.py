"""Where the worker touches what it does not decide: the other services, the broker and the clock.

Whoever builds a worker may stand something between it and any of them; tests make them fail there.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol, TypeVar

T = TypeVar("T")


class Seam(StrEnum):
    """One collaborator of the worker."""

    CLOCK = "clock"
    INVENTORY = "inventory"
    LOOKUP = "witness"
    """What the Inventory Service says about one order."""
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
