"""Closes a failed release job by hand, when a person has proof that the reservation no longer exists.

The inventory status is looked up first, where the Inventory Service has a lookup. Stock that is still reserved or
sold is never marked released. Source: requirements 11, page Releases and requirements 11.2, 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from services.domain.conservation import StockState
from services.domain.errors import InvalidState, ValidationFailed, existing
from services.domain.orders import ending
from services.domain.orders.changes import Change
from services.domain.orders.model import InventoryStatus, Order, ReleaseState, ReviewReason
from services.domain.reconciliation import why_not_mark
from services.domain.reviews import ReviewAction, ReviewState
from services.releases.jobs import audit_release, changed_since, refuse_changed
from services.reviews.cases import claimed_by_other
from services.reviews.comparison import Reconciliation
from services.reviews.resolution import end_as_marked
from services.unit_of_work import OrdersContext, action_entry
from state import audit, releases, reviews
from state.releases import Release

SOLD = frozenset({InventoryStatus.INVENTORY_CONFIRMED, InventoryStatus.RESTOCK_REQUESTED})
"""Statuses after the stock was deducted: there is no reservation to release, only goods to restock."""


@dataclass(frozen=True, slots=True)
class MarkReleased:
    """The command of the console's button."""

    order_id: str
    version: int
    proof: str
    actor: str
    action_id: str
    in_bulk: bool = False
    """Whether it is one item of a bulk job."""
    by_admin: bool = False
    """Whether the actor is an admin, whom another actor's claim on the job's case does not block."""


class ReleaseByProof:
    """The use case: ends a failed job, its case and the wait of the order in one transaction."""

    def __init__(self, context: OrdersContext, reconciliation: Reconciliation) -> None:
        self._context = context
        self._reconciliation = reconciliation

    async def mark_released(self, command: MarkReleased) -> StockState | None:
        """Mark the job released; returns the stock state of the lookup: FREE, or None when it is unknown.

        A known ``action_id`` changes nothing. Raises ValidationFailed without a proof, NotFound, ReleaseConflict
        when the job has another version, and ClaimedByOther when another actor has claimed its case. Raises
        InvalidState when the job is still retried, when the stock of the order was deducted, or when the Inventory
        Service still has the reservation. A refusal because of the lookup is written to the audit log.
        """
        if not command.proof.strip():
            problem = {"field": "proof", "value": command.proof, "allowed": "how you know that nothing is reserved"}
            raise ValidationFailed("A proof is needed.", {"problems": [problem]})
        # Looked up anew, because this action cannot be undone.
        stock = (await self._reconciliation.look_up(command.order_id, asked_by=command.actor)).result.stock
        action_id = command.action_id
        if await self._context.database.read(lambda c: audit.find_action(c, action_id)) is not None:
            return stock
        if why := why_not_mark(stock):
            await self._context.database.write(lambda c: self._refuse(c, command, stock, why))
            raise InvalidState(why, {"orderId": command.order_id, "stock": stock})
        await self._context.decide(command.order_id, lambda c, order: self._end(c, order, command, stock))
        return stock

    def _refuse(self, connection: Connection, command: MarkReleased, stock: StockState | None, why: str) -> None:
        job = existing(releases.get(connection, command.order_id), "release", command.order_id)
        after = {"refusal": why, "theirs": stock}
        result, at = f"refused: {InvalidState.code}", self._context.clock()
        action = ReviewAction.MARK_RELEASED
        audit.add(connection, audit_release(action, job, command.actor, at, command.proof, after=after, result=result))

    def _end(
        self, connection: Connection, order: Order, command: MarkReleased, stock: StockState | None
    ) -> Change | None:
        if audit.find_action(connection, command.action_id) is not None:
            return None
        job = existing(releases.get(connection, command.order_id), "release", command.order_id)
        _refuse_unfit(job, order, command.version)
        at = self._context.clock()
        if not end_as_marked(connection, job, at, command.actor, command.proof, in_bulk=command.in_bulk):
            raise changed_since(job)
        _close_case(connection, order, command, at)
        audit.add(
            connection,
            audit_release(
                ReviewAction.MARK_RELEASED,
                job,
                command.actor,
                at,
                command.proof,
                command.action_id,
                after={"state": ReleaseState.DONE, "theirs": stock},
                result="done",
            ),
        )
        entry = action_entry(at, "Marked released with proof", command.actor, command.proof)
        return Change({}, (entry,)).then(ending.released(order, at, f"Marked released by {command.actor}"))


def _close_case(connection: Connection, order: Order, command: MarkReleased, at: datetime) -> None:
    for case in reviews.of_orders(connection, [order.order_id])[order.order_id]:
        if case.reason == ReviewReason.RELEASE_FAILED and case.state == ReviewState.OPEN:
            if not command.by_admin and (claimed := claimed_by_other(case, command.actor, at)):
                raise claimed
            reviews.resolve(
                connection,
                case,
                by=command.actor,
                resolution=ReviewAction.MARK_RELEASED,
                note=command.proof,
                at=at,
                ignore_claim=command.by_admin,
            )


def _refuse_unfit(job: Release, order: Order, version: int) -> None:
    refuse_changed(job, version)
    if job.state != ReleaseState.FAILED:
        raise InvalidState("The job is still tried; only failed ones can be marked.", {"state": job.state})
    if order.inventory_status in SOLD:
        raise InvalidState(
            "The order's stock was deducted: it has to be restocked, not released.",
            {"orderId": order.order_id, "inventoryStatus": order.inventory_status},
        )
