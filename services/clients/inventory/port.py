"""The port to the Inventory Service: the inventory calls of an order.

Adapters: ``HTTPInventoryGateway`` (http.py) makes one attempt per call. ``ResilientInventory`` (resilient.py) adds
breakers, retries and metrics to any gateway.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.domain.calls import Attempted
from services.domain.orders.model import Line


@dataclass(frozen=True, slots=True)
class LineAvailability:
    """The availability of one order line. Source: requirements 3.1."""

    product_id: str
    variant_id: str
    available: bool
    requested_quantity: int
    available_quantity: int | None
    """None when the service does not state or track the quantity."""


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether every line is available now. This is advisory: only a reservation sets stock aside."""

    available: bool
    lines: tuple[LineAvailability, ...]


@dataclass(frozen=True, slots=True)
class Reservation:
    """Stock that is set aside for all lines of an order until ``expires_at``."""

    reservation_id: str
    expires_at: datetime


class InventoryGateway(Protocol):
    """The three inventory calls of requirements 2.1.

    Every method returns its result with one Attempt per try; an error carries the attempts. Errors:
    InsufficientInventory and ReservationFailed (check and reserve), ReleaseFailed when a release is refused, and
    for all three InventoryTimeout, InventoryUnavailable and CircuitOpen.
    """

    async def check_availability(self, lines: tuple[Line, ...]) -> Attempted[Availability]:
        """Check whether all lines are available; changes nothing."""

    async def reserve(self, order_id: str, lines: tuple[Line, ...], user_id: str) -> Attempted[Reservation]:
        """Reserve all lines for the order. The call is idempotent by order_id, so it may be repeated."""

    async def release(self, order_id: str) -> Attempted[bool]:
        """Release the reservation; returns False when no reservation was left."""
