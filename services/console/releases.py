"""Release jobs on the console: by cause, filtered, sorted, and frozen for a bulk job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.console.access import LIVE_TTL, Topic
from services.console.bulk import BulkRequest, BulkTarget
from services.console.cache import Reading
from services.console.paging import PAGE_SIZE
from services.console.reviews import stock_for_actions
from services.domain.bulk import MAX_ITEMS, BulkAction
from services.domain.commands import CommandKind
from services.domain.conservation import StockState
from services.domain.orders.changes import TimelineEntry
from services.domain.orders.model import Order, ReleaseState, ReviewReason
from services.domain.reviews import ActionSummary, PastResolution, ReviewState, summarise
from state import commands, inventory_lookups, orders, releases, reviews
from state.commands import Command
from state.inventory_lookups import StoredLookup
from state.releases import SORTS, CauseGroup, Release, ReleaseFilter
from state.reviews import Review

EXCERPT = 12
"""Entries of the timeline shown beside a job."""
KINDS = (CommandKind.RETRY_RELEASE, CommandKind.MARK_RELEASED, CommandKind.CANCEL_ORDER)
"""Commands on a release job. Inventory lookups of its order are not among them."""


@dataclass(frozen=True, slots=True)
class ReleaseRow:
    """A release job with the order it belongs to."""

    release: Release
    order: Order
    case: Review | None
    """The open case that waits for a person."""
    command: Command | None
    answer: StoredLookup | None = None
    """The last inventory lookup of the order."""
    stock: StockState | None = None
    """The stock state of ``answer``; None if the lookup is too old to decide which actions are offered."""


@dataclass(frozen=True, slots=True)
class PastActions:
    """A summary of the last actions on jobs with one cause."""

    summaries: tuple[ActionSummary, ...]
    count: int
    """Number of past actions in the summary."""


@dataclass(frozen=True, slots=True)
class JobView:
    """One release job with the facts for a decision."""

    row: ReleaseRow
    asking: Command | None
    """The last lookup command on the order."""
    past_actions: PastActions
    timeline: tuple[TimelineEntry, ...]
    """The newest entries, oldest first."""


@dataclass(frozen=True, slots=True)
class ReleasesPage:
    """One page of release jobs, with the causes and numbers of all jobs."""

    rows: tuple[ReleaseRow, ...]
    matching: int
    """Unfinished jobs that match and could be retried, counted up to MAX_ITEMS + 1."""
    failed: int
    """Failed jobs that match, counted up to MAX_ITEMS + 1."""
    groups: tuple[CauseGroup, ...]
    """Every cause, independent of the filter."""
    counts: Mapping[str, int]
    """Number of all jobs by state, PENDING and FAILED."""
    has_more: bool


class Releases(Topic):
    """The topic of the Releases page; ``console().releases``."""

    def page(self, wanted: ReleaseFilter, *, sort: str = SORTS[0], page: int = 1) -> Reading[ReleasesPage]:
        """The jobs of one page; at most MAX_DEPTH jobs are listed."""
        key = ("releases", wanted, sort, page)
        now = self._access.now()
        return self._access.read(key, LIVE_TTL, lambda c: _page(c, wanted, sort, page, now))

    def job(self, order_id: str) -> Reading[JobView]:
        """The job of an order. If the order has none, the reading has an ``as_of`` and no value."""
        now = self._access.now()
        return self._access.read(("job", order_id), LIVE_TTL, lambda c: _job(c, order_id, now))

    def past_actions(self, cause: str) -> Reading[PastActions]:
        """A summary of the last actions on jobs with this cause."""
        return self._access.read(("past_release_actions", cause), LIVE_TTL, lambda c: _past_actions(c, cause))

    def freeze(self, bulk_action: str, wanted: ReleaseFilter, words: str) -> BulkRequest:
        """Freeze the jobs that match now and allow the action, least recently changed first, at most MAX_ITEMS.

        ``words`` is the filter as readable text. Raises ValueError for a filter that excludes no unfinished job,
        and SourceUnavailable.
        """
        if narrows_nothing(wanted):
            raise ValueError("a filter that narrows nothing cannot be acted on as a whole")
        fit = fitting(bulk_action, wanted)
        found = self._access.read_now(lambda c: releases.matching(c, fit, sort=releases.OLDEST, limit=MAX_ITEMS))
        return BulkRequest(
            bulk_action, None, tuple(map(target, found)), self._access.now(), words, lambda c: _ids(c, fit)
        )


def narrows_nothing(wanted: ReleaseFilter) -> bool:
    """Whether every unfinished job matches."""
    return (
        wanted.cause is None
        and wanted.order_id is None
        and {ReleaseState.FAILED, ReleaseState.PENDING} <= set(wanted.states)
    )


def fitting(bulk_action: str, wanted: ReleaseFilter) -> ReleaseFilter:
    """Limit a filter to jobs that allow the action. Done jobs allow none, pending jobs only a retry."""
    failed, pending = ReleaseState.FAILED, ReleaseState.PENDING
    fit = (failed,) if bulk_action == BulkAction.MARK_RELEASED else (failed, pending)
    return ReleaseFilter(tuple(state for state in fit if state in wanted.states), wanted.cause, wanted.order_id)


def target(job: Release) -> BulkTarget:
    """A job as an item of a bulk job."""
    note = f"{job.attempts} {'attempt' if job.attempts == 1 else 'attempts'}"
    return BulkTarget(job.order_id, job.order_id, job.version, job.state, job.cause, note)


def _ids(connection: Any, wanted: ReleaseFilter) -> list[str]:
    return [job.order_id for job in releases.matching(connection, wanted, limit=MAX_ITEMS)]


def _page(connection: Any, wanted: ReleaseFilter, sort: str, page: int, now: datetime) -> ReleasesPage:
    offset = (max(page, 1) - 1) * PAGE_SIZE
    found = releases.matching(connection, wanted, sort=sort, limit=PAGE_SIZE + 1, offset=offset)
    retriable = fitting(BulkAction.RETRY_RELEASE, wanted)
    markable = fitting(BulkAction.MARK_RELEASED, wanted)
    return ReleasesPage(
        rows=_rows(connection, found[:PAGE_SIZE], now),
        matching=releases.count_matching(connection, retriable, MAX_ITEMS + 1),
        failed=releases.count_matching(connection, markable, MAX_ITEMS + 1),
        groups=tuple(releases.groups(connection)),
        counts=releases.count_by_state(connection),
        has_more=len(found) > PAGE_SIZE,
    )


def _job(connection: Any, order_id: str, now: datetime) -> JobView | None:
    job = releases.get(connection, order_id)
    rows = _rows(connection, [job], now) if job else ()
    if job is None or not rows:
        return None
    return JobView(
        row=rows[0],
        asking=commands.latest_of(connection, [order_id], (CommandKind.LOOK_UP_INVENTORY,)).get(order_id),
        past_actions=_past_actions(connection, job.cause),
        timeline=tuple(orders.timeline(connection, order_id)[-EXCERPT:]),
    )


def _past_actions(connection: Any, cause: str) -> PastActions:
    found = releases.last_actions(connection, cause)
    return PastActions(
        summarise([PastResolution(one.action, one.actor, one.at, one.outcome, one.why) for one in found]), len(found)
    )


def _rows(connection: Any, shown: list[Release], now: datetime) -> tuple[ReleaseRow, ...]:
    ids = [job.order_id for job in shown]
    owners = {order.order_id: order for order in orders.get_many(connection, ids)}
    cases = reviews.of_orders(connection, ids)
    given = commands.latest_of(connection, ids, KINDS)
    answers = inventory_lookups.of_orders(connection, ids)
    found = []
    for job in shown:
        order, answer = owners.get(job.order_id), answers.get(job.order_id)
        if order is not None:
            stock = stock_for_actions(answer, now, order.updated_at)
            case = _case(cases[job.order_id])
            found.append(ReleaseRow(job, order, case, given.get(job.order_id), answer, stock))
    return tuple(found)


def _case(cases: list[Review]) -> Review | None:
    return next(
        (case for case in cases if case.reason == ReviewReason.RELEASE_FAILED and case.state == ReviewState.OPEN), None
    )
