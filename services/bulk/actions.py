"""The actions of bulk jobs. Each action runs on one item, under the idempotency key of the item."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import ClassVar

from sqlalchemy import Connection

from services.base.context import correlated
from services.domain.bulk import BulkAction, BulkItemState, ItemResult, became
from services.domain.calls import InventoryCall
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
from services.domain.orders.model import ReleaseState
from services.domain.reviews import ReviewState, called_by
from services.messaging.dead_letters import DeadLetters, ReplayFailed
from services.releases.jobs import ReleaseJobs
from services.releases.mark_released import MarkReleased, ReleaseByProof
from services.reviews.cases import ResolveReview
from services.reviews.resolution import ReviewResolution
from state import dead_letters, orders, releases, reviews
from state.bulk_jobs import BulkItem, BulkJob
from state.deduplication import DUPLICATE, IGNORED
from state.releases import MAX_DEPTH as MAX_COUNTED
from state.reviews import Review

CHANGED = (NotFound, ReleaseConflict, ReviewConflict, InvalidState, ClaimedByOther)
"""Errors that show that the item has changed since the actor saw it. The item is skipped."""


CountFailures = Callable[..., int]
"""Counts failures with some causes after a time that are not items of a job, up to a limit."""


class ItemAction(ABC):
    """The action of a bulk job on one item."""

    count_failures: ClassVar[CountFailures]

    def guarded_by(self, job: BulkJob) -> str | None:
        """The inventory call whose circuit breaker limits this job; None for an action without an inventory call."""
        return None

    @abstractmethod
    async def act(self, job: BulkJob, item: BulkItem) -> ItemResult:
        """Act on one item; a repetition has no second effect. Returns state ASKED when nothing was tried.

        Raises one of CHANGED when the item has changed since the actor saw it.
        """

    def follow(self, connection: Connection, job: BulkJob, items: Sequence[BulkItem]) -> dict[str, ItemResult]:
        """Results of accepted items that have ended, by item id."""
        return {}

    def new_failures(self, connection: Connection, job: BulkJob, since: datetime) -> int:
        """Number of failures after ``since`` that have the same causes and are not items of this job."""
        return self.count_failures(connection, job.causes, since, outside_job=job.job_id, limit=MAX_COUNTED)


class RetryRelease(ItemAction):
    """Make one release attempt per release job."""

    count_failures = staticmethod(releases.count_failed_since)

    def __init__(self, jobs: ReleaseJobs) -> None:
        self._jobs = jobs

    def guarded_by(self, job: BulkJob) -> str | None:
        return InventoryCall.RELEASE

    async def act(self, job: BulkJob, item: BulkItem) -> ItemResult:
        tried = await self._jobs.try_once(
            item.item_id, item.version, actor=job.actor, reason=job.reason, action_id=item.action_id
        )
        if tried is None:
            return ItemResult(
                BulkItemState.ASKED, "Nothing was tried: the breaker is open, or the service asks for fewer calls."
            )
        release, failure = tried
        if release.state == ReleaseState.DONE:
            return ItemResult(BulkItemState.CONFIRMED)
        return ItemResult(_unconfirmed(failure), release.last_error)


class MarkReleasedByProof(ItemAction):
    """Mark failed release jobs as released, after a lookup of the inventory status."""

    count_failures = staticmethod(releases.count_failed_since)

    def __init__(self, proofs: ReleaseByProof) -> None:
        self._proofs = proofs

    async def act(self, job: BulkJob, item: BulkItem) -> ItemResult:
        command = MarkReleased(item.item_id, item.version, job.reason or "", job.actor, item.action_id, in_bulk=True)
        try:
            stock = await self._proofs.mark_released(command)
        except InvalidState as error:
            return ItemResult(BulkItemState.FAILED, error.message)
        if stock == StockState.FREE:
            return ItemResult(BulkItemState.CONFIRMED, "The Inventory Service holds nothing for it.")
        return ItemResult(BulkItemState.RECORDED, "On the proof alone: the Inventory Service could not be asked.")


class ResolveCase(ItemAction):
    """Resolve review cases with one action."""

    count_failures = staticmethod(reviews.count_opened_since)

    def __init__(self, resolution: ReviewResolution) -> None:
        self._resolution = resolution

    def guarded_by(self, job: BulkJob) -> str | None:
        return called_by(job.action, job.causes)

    async def act(self, job: BulkJob, item: BulkItem) -> ItemResult:
        command = ResolveReview(
            review_id=item.item_id,
            action=job.action or "",
            note=job.reason or "",
            version=item.version,
            actor=job.actor,
            # The audit log may have an earlier attempt that the breaker stopped, under the key of an earlier version.
            action_id=f"{item.action_id}/{item.version}",
            in_bulk=True,
        )
        try:
            case = await self._resolution.resolve(command)
        except CHANGED:
            raise
        except CircuitOpen:
            return _turned_back(item)
        except (BusinessError, DependencyError) as error:
            return ItemResult(_unconfirmed(error), f"{error.code}: {error.message}")
        return _after(item, case)

    def follow(self, connection: Connection, job: BulkJob, items: Sequence[BulkItem]) -> dict[str, ItemResult]:
        found = {order.order_id: order for order in orders.get_many(connection, [item.order_id for item in items])}
        ends = {
            item.item_id: became(job.action or "", found[item.order_id]) for item in items if item.order_id in found
        }
        return {item_id: end for item_id, end in ends.items() if end is not None}


def _after(item: BulkItem, case: Review) -> ItemResult:
    if case.state != ReviewState.OPEN:
        return ItemResult(BulkItemState.ACCEPTED)
    if not case.last_attempt_sent:
        return _turned_back(item)
    return ItemResult(BulkItemState.FAILED, f"Tried without success, the case stays open. {case.detail}")


def _turned_back(item: BulkItem) -> ItemResult:
    """The result after the breaker opened during the action; the action raised the version of the case by one."""
    return ItemResult(BulkItemState.ASKED, "The circuit breaker is open: it waits for another turn.", item.version + 1)


_WITHOUT_EFFECT = {
    IGNORED: "The handler ran and changed nothing: the order has moved on.",
    DUPLICATE: "It had been handled before and has no second effect.",
}


class _DeadLetterAction(ItemAction):
    """Base of both actions on dead letters. An event handler makes no inventory call."""

    count_failures = staticmethod(dead_letters.count_opened_since)

    def __init__(self, dead_letters: DeadLetters) -> None:
        self._dead_letters = dead_letters


class ReplayEvent(_DeadLetterAction):
    """Run the handler of dead-lettered events again."""

    async def act(self, job: BulkJob, item: BulkItem) -> ItemResult:
        try:
            with correlated(job.job_id):
                outcome = await self._dead_letters.handle_again(
                    item.item_id,
                    actor=job.actor,
                    reason=job.reason,
                    seen=item.version,
                    action_id=item.action_id,
                )
        except ReplayFailed as error:
            return ItemResult(BulkItemState.FAILED, error.message)
        if outcome in _WITHOUT_EFFECT:
            return ItemResult(BulkItemState.RECORDED, _WITHOUT_EFFECT[outcome])
        return ItemResult(BulkItemState.CONFIRMED)


class DiscardEvent(_DeadLetterAction):
    """Discard dead letters. This needs no confirmation of the Inventory Service."""

    async def act(self, job: BulkJob, item: BulkItem) -> ItemResult:
        with correlated(job.job_id):
            await self._dead_letters.discard(
                item.item_id,
                actor=job.actor,
                note=job.reason or "",
                seen=item.version,
                action_id=item.action_id,
            )
        return ItemResult(BulkItemState.RECORDED)


def item_actions(
    jobs: ReleaseJobs, proofs: ReleaseByProof, resolution: ReviewResolution, dead_letters: DeadLetters
) -> Mapping[str, ItemAction]:
    """Return the ItemAction of every BulkAction."""
    return {
        BulkAction.RETRY_RELEASE: RetryRelease(jobs),
        BulkAction.MARK_RELEASED: MarkReleasedByProof(proofs),
        BulkAction.RESOLVE_REVIEW: ResolveCase(resolution),
        BulkAction.REPLAY_EVENT: ReplayEvent(dead_letters),
        BulkAction.DISCARD_EVENT: DiscardEvent(dead_letters),
    }


def _unconfirmed(error: ApiError | None) -> BulkItemState:
    """The state of an unsuccessful item: UNANSWERED when no answer came, since the action may have taken effect."""
    is_unanswered = isinstance(error, DependencyError) and error.is_unanswered
    return BulkItemState.UNANSWERED if is_unanswered else BulkItemState.FAILED
