"""What a bulk operation does to one item, per verb: act under an idempotent key, and see what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection

from services.bulk.dead_letter_actions import DiscardEvent, ReplayEvent
from services.domain.bulk import Ended, ItemState, Verb, became
from services.domain.call_attempts import InventoryCall
from services.domain.causes import was_not_sent
from services.domain.conservation import StockState
from services.domain.errors import (
    ApiError,
    BusinessError,
    CircuitOpen,
    ClaimedByOther,
    DependencyError,
    InvalidState,
    NotFound,
    ReleaseConflict,
    ReviewConflict,
)
from services.domain.reviews import called_by
from services.messaging.dead_letters import DeadLetters
from services.releases.jobs import ReleaseJobs
from services.releases.mark_released import MarkReleased, ReleaseByProof
from services.reviews.resolution import ResolveReview, ReviewResolution
from state import orders, releases, reviews
from state.bulk_jobs import Item, Operation
from state.releases import DONE
from state.releases import MAX_DEPTH as MAX_COUNTED
from state.reviews import Review

CHANGED = (NotFound, ReleaseConflict, ReviewConflict, InvalidState, ClaimedByOther)
"""The item is no longer what the person saw, or no longer allows the action."""


class ItemAction(Protocol):
    """One verb of bulk operations."""

    def guarded_by(self, operation: Operation) -> str | None:
        """The remote operation whose circuit breaker decides whether items may be sent; None: none is called."""

    async def act(self, operation: Operation, item: Item) -> Ended:
        """Act on one item; the same item again has no second effect. ASKED: nothing was tried yet."""

    def follow(self, connection: Connection, operation: Operation, items: Sequence[Item]) -> dict[str, Ended]:
        """Accepted items that have come to their end since."""

    def new_failures(self, connection: Connection, operation: Operation, since: datetime) -> int:
        """Failures of the same causes since then that are not part of the operation."""


class RetryRelease:
    """One attempt per release job."""

    def __init__(self, jobs: ReleaseJobs) -> None:
        self._jobs = jobs

    def guarded_by(self, operation: Operation) -> str | None:
        return InventoryCall.RELEASE

    async def act(self, operation: Operation, item: Item) -> Ended:
        try:
            tried = await self._jobs.try_once(
                item.item_id,
                item.version,
                actor=operation.actor,
                reason=operation.reason,
                action_id=item.action_id,
            )
        except CHANGED as error:
            return Ended(ItemState.SKIPPED, error.message)
        if tried is None:
            return Ended(
                ItemState.ASKED, "Nothing was tried: the breaker is open, or the service asks for fewer calls."
            )
        job, failure = tried
        if job.state == DONE:
            return Ended(ItemState.CONFIRMED)
        return Ended(_unconfirmed(failure), job.last_error)

    def follow(self, connection: Connection, operation: Operation, items: Sequence[Item]) -> dict[str, Ended]:
        return {}

    def new_failures(self, connection: Connection, operation: Operation, since: datetime) -> int:
        return _release_failures(connection, operation, since)


class MarkReleasedByProof:
    """Ends failed release jobs on a person's word, after asking the other side."""

    def __init__(self, proofs: ReleaseByProof) -> None:
        self._proofs = proofs

    def guarded_by(self, operation: Operation) -> str | None:
        return None

    async def act(self, operation: Operation, item: Item) -> Ended:
        command = MarkReleased(
            item.item_id, item.version, operation.reason or "", operation.actor, item.action_id, in_bulk=True
        )
        try:
            stock = await self._proofs.mark_released(command)
        except InvalidState as error:
            return Ended(ItemState.FAILED, error.message)
        except CHANGED as error:
            return Ended(ItemState.SKIPPED, error.message)
        if stock == StockState.FREE:
            return Ended(ItemState.CONFIRMED, "The Inventory Service holds nothing for it.")
        return Ended(ItemState.RECORDED, "On the proof alone: the Inventory Service could not be asked.")

    def follow(self, connection: Connection, operation: Operation, items: Sequence[Item]) -> dict[str, Ended]:
        return {}

    def new_failures(self, connection: Connection, operation: Operation, since: datetime) -> int:
        return _release_failures(connection, operation, since)


class ResolveCase:
    """The same action on several review cases."""

    def __init__(self, resolution: ReviewResolution) -> None:
        self._resolution = resolution

    def guarded_by(self, operation: Operation) -> str | None:
        return called_by(operation.action, operation.causes)

    async def act(self, operation: Operation, item: Item) -> Ended:
        command = ResolveReview(
            review_id=item.item_id,
            action=operation.action or "",
            note=operation.reason or "",
            version=item.version,
            actor=operation.actor,
            # A try that the breaker turned back is on record under its version: the next one has a key of its own.
            action_id=f"{item.action_id}/{item.version}",
            in_bulk=True,
        )
        try:
            case = await self._resolution.resolve(command)
        except CHANGED as error:
            return Ended(ItemState.SKIPPED, error.message)
        except CircuitOpen:
            return _turned_back(item)
        except (BusinessError, DependencyError) as error:
            return Ended(_unconfirmed(error), f"{error.code}: {error.message}")
        return _after(item, case)

    def follow(self, connection: Connection, operation: Operation, items: Sequence[Item]) -> dict[str, Ended]:
        found = {order.order_id: order for order in orders.get_many(connection, [item.order_id for item in items])}
        ends = {
            item.item_id: became(operation.action or "", found[item.order_id])
            for item in items
            if item.order_id in found
        }
        return {item_id: end for item_id, end in ends.items() if end is not None}

    def new_failures(self, connection: Connection, operation: Operation, since: datetime) -> int:
        return reviews.count_opened_since(
            connection, operation.causes, since, outside_operation=operation.operation_id, limit=MAX_COUNTED
        )


def _after(item: Item, case: Review) -> Ended:
    if case.state != "OPEN":
        return Ended(ItemState.ACCEPTED)
    if was_not_sent(case.detail):
        return _turned_back(item)
    return Ended(ItemState.FAILED, f"Tried without success, the case stays open. {case.detail}")


def _turned_back(item: Item) -> Ended:
    """The breaker opened after the action had begun, which has left the case with one version more."""
    return Ended(ItemState.ASKED, "The circuit breaker is open: it waits for another turn.", item.version + 1)


def item_actions(
    jobs: ReleaseJobs, proofs: ReleaseByProof, resolution: ReviewResolution, dead_letters: DeadLetters
) -> Mapping[str, ItemAction]:
    """Every verb with what it does."""
    return {
        Verb.RETRY_RELEASE: RetryRelease(jobs),
        Verb.MARK_RELEASED: MarkReleasedByProof(proofs),
        Verb.RESOLVE_REVIEW: ResolveCase(resolution),
        Verb.REPLAY_EVENT: ReplayEvent(dead_letters),
        Verb.DISCARD_EVENT: DiscardEvent(dead_letters),
    }


def _unconfirmed(error: ApiError | None) -> ItemState:
    """How an item ended of which no success is known: what was sent and not answered may have had its effect."""
    is_unanswered = isinstance(error, DependencyError) and error.is_unanswered
    return ItemState.UNANSWERED if is_unanswered else ItemState.FAILED


def _release_failures(connection: Connection, operation: Operation, since: datetime) -> int:
    return releases.count_failed_since(
        connection, operation.causes, since, outside_operation=operation.operation_id, limit=MAX_COUNTED
    )
