"""What a bulk operation does to one dead letter: run its handler again, or give it up.

Source: console, "what none of them has" 2 and 4; page Events.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from services.base.context import correlated
from services.domain.bulk import BulkItemState, ItemResult
from services.domain.errors import NotFound
from services.messaging.dead_letters import DeadLetterChanged, DeadLetters, ReplayFailed
from state import dead_letters
from state.bulk_jobs import BulkItem, BulkJob
from state.inbox import DUPLICATE, IGNORED

MAX_COUNTED = 1000
"""New dead letters of the same cause are counted no further than this."""

_WITHOUT_EFFECT = {
    IGNORED: "The handler ran and changed nothing: the order has moved on.",
    DUPLICATE: "It had been handled before and has no second effect.",
}


class _DeadLetterAction:
    """What both verbs have in common."""

    def __init__(self, dead_letters: DeadLetters) -> None:
        self._dead_letters = dead_letters

    def guarded_by(self, job: BulkJob) -> str | None:
        """Handlers work on our own database alone."""
        return None

    def follow(self, connection: Connection, job: BulkJob, items: Sequence[BulkItem]) -> dict[str, ItemResult]:
        return {}

    def new_failures(self, connection: Connection, job: BulkJob, since: datetime) -> int:
        return dead_letters.count_opened_since(connection, job.causes, since, outside_job=job.job_id, limit=MAX_COUNTED)


class ReplayEvent(_DeadLetterAction):
    """Sent is the handler run, confirmed is the event handled."""

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
        except (DeadLetterChanged, NotFound) as error:
            return ItemResult(BulkItemState.SKIPPED, error.message)
        except ReplayFailed as error:
            return ItemResult(BulkItemState.FAILED, error.message)
        if outcome in _WITHOUT_EFFECT:
            return ItemResult(BulkItemState.RECORDED, _WITHOUT_EFFECT[outcome])
        return ItemResult(BulkItemState.CONFIRMED)


class DiscardEvent(_DeadLetterAction):
    """There is no other side that would confirm it: each discard is recorded here."""

    async def act(self, job: BulkJob, item: BulkItem) -> ItemResult:
        try:
            with correlated(job.job_id):
                await self._dead_letters.discard(
                    item.item_id,
                    actor=job.actor,
                    note=job.reason or "",
                    seen=item.version,
                    action_id=item.action_id,
                )
        except (DeadLetterChanged, NotFound) as error:
            return ItemResult(BulkItemState.SKIPPED, error.message)
        return ItemResult(BulkItemState.RECORDED)
