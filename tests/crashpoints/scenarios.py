"""The steps of an order, each as somebody asks for it: what has to be so before, what is asked, how it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from services.sandbox.inventory_service.catalogue import CATALOGUE
from tests.crashpoints.lane import Lane, wait_until

MUG = CATALOGUE[4]
ITEM = {"productId": MUG.product_id, "variantId": MUG.variant_id, "quantity": 1}


@dataclass
class Visit:
    """One customer's order, under a key of its own; every request of hers may be repeated."""

    order_id: str = field(default_factory=lambda: str(uuid4()))

    def place(self, lane: Lane, **more: Any) -> None:
        body = {"orderId": self.order_id, "userId": "user-1", "items": [ITEM], **more}
        lane.ask("POST", "/orders", body, key=f"k-{self.order_id}")

    def place_high(self, lane: Lane) -> None:
        self.place(lane, customerPriority="high")

    def place_declined(self, lane: Lane) -> None:
        self.place(lane, metadata={"sandboxPayment": "decline"})

    def cancel(self, lane: Lane) -> None:
        lane.ask("POST", f"/orders/{self.order_id}/cancel", {})

    def give_back(self, lane: Lane) -> None:
        body = {"returnId": f"r-{self.order_id}", "items": [ITEM], "reason": "DAMAGED"}
        lane.ask("POST", f"/orders/{self.order_id}/return", body)

    def retry_release(self, lane: Lane) -> None:
        lane.ask("POST", f"/releases/{self.order_id}/retry", {})

    def retry_reservation(self, lane: Lane) -> None:
        for case in lane.open_cases(self.order_id):
            body = {"action": "RETRY_RESERVATION", "note": "seen", "version": case["version"]}
            lane.ask("POST", f"/reviews/{case['reviewId']}/resolve", body)

    # -------------------------------------------------------- what has to be so before

    def is_confirmed(self, lane: Lane) -> None:
        self.place(lane)
        self.waits_to_be(lane, "CONFIRMED")
        self.has_told_everybody(lane)

    def is_placed(self, lane: Lane) -> None:
        lane.misbehave(silentConfirmations=True)
        self.place(lane)
        self.waits_to_be(lane, "PLACED")
        self.has_told_everybody(lane)

    def waits_for_inventory(self, lane: Lane) -> None:
        lane.misbehave(outage=True)
        self.place_high(lane)
        self.waits_to_be(lane, "PENDING_INVENTORY")
        lane.misbehave()

    def has_a_release_that_fails(self, lane: Lane) -> None:
        self.is_placed(lane)
        lane.misbehave(outage=True)
        self.cancel(lane)
        wait_until(lambda: lane.waiting().refunds == 0, "the refund is made")
        lane.misbehave()

    def has_told_everybody(self, lane: Lane) -> None:
        """Nothing of it is under way that the next step could be taken for."""

        def is_heard() -> bool:
            waiting = lane.waiting()
            return not waiting.unsent_events and not waiting.unheard_events

        wait_until(is_heard, "its events are heard")

    def waits_to_be(self, lane: Lane, status: str) -> None:
        def is_so() -> bool:
            order = lane.order(self.order_id)
            return order is not None and order["status"] == status

        wait_until(is_so, f"the order is {status}: {lane.order(self.order_id)}")


Step = Callable[[Visit, Lane], None]


def _nothing(_: Visit, __: Lane) -> None:
    """Nothing has to be so before."""


@dataclass(frozen=True)
class Scenario:
    """One step of an order's life."""

    act: Step
    ends: str
    before: Step = _nothing
    settings: dict[str, str] = field(default_factory=dict)
    """Of the worker; no retry of its own must come before what is asked."""
    opens: tuple[str, ...] = ()
    """Cases that stay for a person by design."""


NO_RETRIES_BY_ITSELF = {"RESERVATION_RETRY_BASE_DELAY": "60000", "RESERVATION_RETRY_MAX_DELAY": "60000"}
NO_RELEASES_BY_ITSELF = {"RELEASE_RETRY_BASE_DELAY": "60000", "RELEASE_RETRY_MAX_DELAY": "60000"}
UNVERIFIED = ("AVAILABILITY_UNVERIFIED",)

SCENARIOS: dict[str, Scenario] = {
    "place": Scenario(Visit.place, "CONFIRMED"),
    "place, declined": Scenario(Visit.place_declined, "REJECTED"),
    "place, retried later": Scenario(
        lambda visit, lane: None,
        "CONFIRMED",
        before=Visit.waits_for_inventory,
        settings={"RESERVATION_RETRY_BASE_DELAY": "1500", "RESERVATION_RETRY_MAX_DELAY": "1500"},
        opens=UNVERIFIED,
    ),
    "review: retry the reservation": Scenario(
        Visit.retry_reservation,
        "CONFIRMED",
        before=Visit.waits_for_inventory,
        settings=NO_RETRIES_BY_ITSELF,
        opens=UNVERIFIED,
    ),
    "cancel, confirmed": Scenario(Visit.cancel, "CANCELLED", before=Visit.is_confirmed),
    "cancel, only placed": Scenario(Visit.cancel, "CANCELLED", before=Visit.is_placed),
    "cancel, waiting": Scenario(
        Visit.cancel, "CANCELLED", before=Visit.waits_for_inventory, settings=NO_RETRIES_BY_ITSELF
    ),
    "return": Scenario(Visit.give_back, "RETURNED", before=Visit.is_confirmed),
    "release, retried": Scenario(
        Visit.retry_release, "CANCELLED", before=Visit.has_a_release_that_fails, settings=NO_RELEASES_BY_ITSELF
    ),
    "place, favoured": Scenario(Visit.place_high, "CONFIRMED", opens=UNVERIFIED),
    "command of the console": Scenario(
        lambda visit, lane: lane.store_command("cancel_order", visit.order_id, reason="WRONG"),
        "CANCELLED",
        before=Visit.is_confirmed,
    ),
}
