"""Bulk jobs on the console: previews, stored jobs and their items.

The console only stores a job with its items; a worker runs it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from services.console.access import LIVE_TTL, Topic, storable
from services.console.cache import Reading
from services.console.paging import csv_text
from services.domain.bulk import MAX_ITEMS, BulkAction, BulkItemState
from services.domain.commands import CommandKind
from services.domain.reconciliation import (
    MAX_ASKED,
    OFFERED,
    Agreement,
    ComparedItem,
    FrozenSelection,
    compare,
    is_fresh,
)
from services.domain.reviews import ReviewAction
from state import audit, bulk_jobs, commands, dead_letters, inventory_lookups, orders, releases, reviews
from state.audit import AuditEntry
from state.bulk_jobs import BulkItem, BulkJob
from state.commands import Command

_CSV_COLUMNS = (
    "item_id", "order_id", "version", "seen_state", "state", "sent_at", "accepted_at", "settled_at", "detail",
)  # fmt: skip
PAGE_SIZE = 20
PAST = 8
"""Ended jobs shown on a page."""

IRREVERSIBLE = (
    ReviewAction.CANCEL_ORDER,
    ReviewAction.MARK_RELEASED,
    ReviewAction.APPROVE,
    BulkAction.MARK_RELEASED,
    BulkAction.DISCARD_EVENT,
)
"""Actions that cannot be undone. For several items, the actor confirms the start by typing their number."""

_VERSIONS = {
    BulkAction.RETRY_RELEASE: releases.versions,
    BulkAction.MARK_RELEASED: releases.versions,
    BulkAction.RESOLVE_REVIEW: reviews.versions,
    BulkAction.REPLAY_EVENT: dead_letters.versions,
    BulkAction.DISCARD_EVENT: dead_letters.versions,
}
"""Current version and state of the items of an action."""


@dataclass(frozen=True, slots=True)
class BulkTarget:
    """One item as the actor saw it."""

    item_id: str
    order_id: str
    """Empty for an event without an order."""
    version: int
    state: str
    cause: str
    note: str = ""
    """A remark for the preview."""
    claimed_by: str | None = None
    """The actor who has claimed the item."""


@dataclass(frozen=True, slots=True)
class BulkRequest:
    """An action with its items, frozen when its dialog opens."""

    bulk_action: str
    action: str | None
    targets: tuple[BulkTarget, ...]
    seen_at: datetime
    filter: str
    """The filter or selection as readable text."""
    matching: Callable[[Any], Sequence[str]] | None = None
    """For "all matching": the ids that match now; None for a selection."""
    left_out: tuple[BulkTarget, ...] = ()
    """Items that are shown and not acted on, because the inventory status contradicts the action."""

    @property
    def has_reconciliation(self) -> bool:
        """True when items have an inventory status; events have none."""
        return self.bulk_action not in (BulkAction.REPLAY_EVENT, BulkAction.DISCARD_EVENT)

    @property
    def is_irreversible(self) -> bool:
        return self.bulk_action in IRREVERSIBLE or self.action in IRREVERSIBLE


@dataclass(frozen=True, slots=True)
class StartedJob:
    """A stored job, and what changed between its preview and its start."""

    job: BulkJob
    changed: int
    """Items that are skipped because they changed since they were seen."""

    @property
    def sentence(self) -> str | None:
        """Summary of what changed since the preview, or None."""
        parts = []
        if self.changed:
            are = "is" if self.changed == 1 else "are"
            parts.append(f"{self.changed} of {self.job.total} changed since and {are} skipped")
        if self.job.unseen:
            matches = "matches" if self.job.unseen == 1 else "match"
            parts.append(f"{self.job.unseen} new {matches}, not included")
        return "; ".join(parts) or None


@dataclass(frozen=True, slots=True)
class JobList:
    """Jobs of a page: those that have not ended, oldest first, and the latest ended ones."""

    unended: tuple[BulkJob, ...]
    past: tuple[BulkJob, ...]


@dataclass(frozen=True, slots=True)
class ItemPage:
    """One page of a job's items."""

    job: BulkJob
    items: tuple[BulkItem, ...]
    has_more: bool


class BulkJobs(Topic):
    """Bulk jobs; ``console().bulk``."""

    # -- reading -------------------------------------------------------------------------------

    def shown(self, bulk_actions: Sequence[str] | None = None) -> Reading[JobList]:
        """The jobs with one of the actions; all jobs without actions."""
        key = ("bulk_jobs", tuple(bulk_actions) if bulk_actions else None)
        return self._access.read(key, LIVE_TTL, lambda c: _shown(c, bulk_actions))

    def items(self, job_id: str, *, states: Sequence[str] = (), page: int = 1) -> Reading[ItemPage]:
        """Items of one job. If the job does not exist, the reading has an ``as_of`` and no value."""
        key = ("bulk_items", job_id, tuple(states), page)
        return self._access.read(key, LIVE_TTL, lambda c: _item_page(c, job_id, states, page))

    def csv(self, job_id: str) -> str:
        """Every item of a job as CSV. Raises SourceUnavailable."""
        found = self._access.read_now(lambda c: bulk_jobs.item_page(c, job_id, limit=MAX_ITEMS))
        return csv_text(_CSV_COLUMNS, [[getattr(item, name) for name in _CSV_COLUMNS] for item in found])

    # -- writing -------------------------------------------------------------------------------

    def start(self, bulk: BulkRequest, reason: str, *, actor: str, job_id: str) -> StartedJob:
        """Store the job; a known ``job_id`` is not stored again.

        An item that is no longer at the version seen is stored as skipped. Items that match now and were not shown
        are counted, not included. Raises ValueError without items, above MAX_ITEMS, or without a required reason,
        and SourceUnavailable; then nothing was stored.
        """
        if not 0 < len(bulk.targets) <= MAX_ITEMS:
            raise ValueError(f"a bulk job acts on 1 to {MAX_ITEMS} items, not {len(bulk.targets)}")
        if bulk.is_irreversible and not reason.strip():
            raise ValueError("what cannot be undone needs a reason")
        at = self._access.now()
        why = storable(reason.strip()) or None
        return self._access.write(actor, lambda c: _store(c, bulk, why, actor, job_id, at))


def _shown(connection: Any, bulk_actions: Sequence[str] | None) -> JobList:
    wanted = set(bulk_actions or tuple(BulkAction))
    unended = tuple(one for one in bulk_jobs.unended(connection) if one.bulk_action in wanted)
    latest = bulk_jobs.page(connection, bulk_actions=bulk_actions, limit=PAST + len(unended))
    return JobList(unended, tuple(one for one in latest if one.ended_at is not None)[:PAST])


def _item_page(connection: Any, job_id: str, states: Sequence[str], page: int) -> ItemPage | None:
    job = bulk_jobs.get(connection, job_id)
    if job is None:
        return None
    offset = (max(page, 1) - 1) * PAGE_SIZE
    found = bulk_jobs.item_page(connection, job_id, states=states, limit=PAGE_SIZE + 1, offset=offset)
    return ItemPage(job, tuple(found[:PAGE_SIZE]), len(found) > PAGE_SIZE)


def _store(connection: Any, bulk: BulkRequest, reason: str | None, actor: str, job_id: str, at: datetime) -> StartedJob:
    ids = [target.item_id for target in bulk.targets]
    now = _VERSIONS[BulkAction(bulk.bulk_action)](connection, ids)
    items = [_item(job_id, place, target, now, at) for place, target in enumerate(bulk.targets)]
    # orjson accepts only plain strings as keys.
    tally = dict(Counter(str(BulkItemState(item.state).value) for item in items))
    shown = {*ids, *(target.item_id for target in bulk.left_out)}
    unseen = len(set(bulk.matching(connection)) - shown) if bulk.matching else 0
    job = BulkJob(
        job_id=job_id,
        bulk_action=bulk.bulk_action,
        action=bulk.action,
        actor=actor,
        reason=reason,
        filter=storable(_said(bulk)),
        causes=sorted({storable(target.cause) for target in bulk.targets}),
        total=len(items),
        unseen=unseen,
        seen_at=bulk.seen_at,
        created_at=at,
        tally=tally,
    )
    if not bulk_jobs.add(connection, job, items):
        return StartedJob(bulk_jobs.get(connection, job_id) or job, tally.get(BulkItemState.SKIPPED, 0))
    audit.add(connection, _audit(job, bulk))
    return StartedJob(job, tally.get(BulkItemState.SKIPPED, 0))


def _said(bulk: BulkRequest) -> str:
    number = len(bulk.left_out)
    return f"{bulk.filter}; {number} left out, the inventory status differs" if number else bulk.filter


def _item(job_id: str, place: int, target: BulkTarget, now: dict[str, tuple[int, str]], at: datetime) -> BulkItem:
    version, state = now.get(target.item_id, (None, "gone"))
    item = BulkItem(job_id, target.item_id, target.order_id, place, target.version, target.state)
    # The state is compared, too: settling a dead letter does not change its version, the number of attempts.
    if (version, state) == (target.version, target.state):
        return item
    detail = f"Changed between preview and start: it is {state} at version {version}."
    seen = (job_id, target.item_id, target.order_id, place, target.version, target.state)
    return BulkItem(*seen, state=BulkItemState.SKIPPED, settled_at=at, detail=detail)


def _audit(job: BulkJob, bulk: BulkRequest) -> AuditEntry:
    what = job.action or job.bulk_action
    return AuditEntry(
        at=job.created_at,
        actor=job.actor,
        action=f"BULK_{what.upper()}"[:40],
        target=f"operation:{job.job_id}",
        reason=job.reason,
        before={"filter": storable(bulk.filter), "shown": job.total + len(bulk.left_out)}
        | ({"leftOut": [target.item_id for target in bulk.left_out]} if bulk.left_out else {}),
        after={"asked": job.tally.get(BulkItemState.ASKED, 0), "skipped": job.tally.get(BulkItemState.SKIPPED, 0)},
        result="started",
        action_id=job.job_id,
    )


# -- previews --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PreviewComparison:
    """The items of a preview with the inventory status of their orders."""

    items: Mapping[str, ComparedItem]
    """By item id, including the items beyond the first MAX_ASKED orders."""
    question: Command | None
    """The lookup command; None when every stored answer is fresh."""

    @property
    def is_asking(self) -> bool:
        return self.question is not None and self.question.is_unfinished


class Previews(Topic):
    """Previews of bulk jobs; ``console().previews``."""

    def ask(self, bulk: BulkRequest, *, actor: str, command_id: str) -> Command | None:
        """Store a lookup of the first MAX_ASKED orders; None when every stored answer is fresh.

        Raises SourceUnavailable or NotPermitted, and then nothing was stored.
        """
        ids, now = _first_orders(bulk), self._access.now()
        wanted = self._access.read_now(lambda c: inventory_lookups.not_fresh(c, ids, now))
        if not wanted:
            return None
        arguments = {"orderIds": wanted}
        return self._access.store_command(
            CommandKind.LOOK_UP_INVENTORY_MANY, command_id, arguments, actor=actor, command_id=command_id
        )

    def compared(self, bulk: BulkRequest, command_id: str) -> Reading[PreviewComparison]:
        """Every item compared with its inventory status; ``command_id`` is the id of the lookup command."""
        now = self._access.now()
        return self._access.read(("preview", command_id), LIVE_TTL, lambda c: _compared(c, bulk, command_id, now))


def narrowed(bulk: BulkRequest, frozen: FrozenSelection) -> BulkRequest:
    """The request without the items that are left out."""
    fit = tuple(target for target in bulk.targets if target.item_id not in frozen.left_out)
    left = tuple(target for target in bulk.targets if target.item_id in frozen.left_out)
    return replace(bulk, targets=fit, left_out=left)


def _first_orders(bulk: BulkRequest) -> list[str]:
    return list(dict.fromkeys(target.order_id for target in bulk.targets))[:MAX_ASKED]


def _compared(connection: Connection, bulk: BulkRequest, command_id: str, now: datetime) -> PreviewComparison:
    ids = _first_orders(bulk)
    answers = inventory_lookups.of_orders(connection, ids)
    owners = {order.order_id: order for order in orders.get_many(connection, ids)}

    def one(target: BulkTarget) -> ComparedItem:
        order = owners.get(target.order_id)
        if order is None:
            return ComparedItem(Agreement.LATER if target.order_id not in ids else Agreement.UNANSWERED)
        answer = answers.get(target.order_id)
        counts = answer is not None and is_fresh(answer.asked_at, now, order.updated_at, OFFERED)
        said = answer.result if answer is not None and counts else None
        return compare(bulk.bulk_action, bulk.action, target.cause, order.status, said)

    items = {target.item_id: one(target) for target in bulk.targets}
    return PreviewComparison(items, commands.get(connection, command_id))
