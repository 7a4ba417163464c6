"""Release jobs as the Releases page sees them: by cause, filtered, sorted, and frozen for a bulk operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.console.operations import MAX_ITEMS, Bulk, Target, Verb
from services.console.readings import Reading, Readings
from services.domain.order import Order
from services.domain.release_causes import NOT_TRIED
from state import commands, orders, releases, reviews
from state.commands import Command
from state.releases import MAX_DEPTH, SORTS, CauseGroup, Release, ReleaseFilter
from state.reviews import Review
from state.source import Source

__all__ = [
    "MAX_DEPTH", "MAX_ITEMS", "NOT_TRIED", "SORTS", "CauseGroup", "Release", "ReleaseFilter", "ReleaseRow", "Releases",
    "ReleasesPage", "narrows_nothing", "target",
]  # fmt: skip

PAGE_SIZE = 20
TTL = 1.0
KINDS = ("retry_release", "mark_released", "cancel_order")
"""Commands on a release job; questions about its order are none."""


@dataclass(frozen=True, slots=True)
class ReleaseRow:
    """A release job with the order it belongs to."""

    release: Release
    order: Order
    case: Review | None
    """The open case that waits for a person."""
    command: Command | None


@dataclass(frozen=True, slots=True)
class ReleasesPage:
    """One page of release jobs, and what all of them have in common."""

    rows: tuple[ReleaseRow, ...]
    matching: int
    """Unfinished jobs that match and could be retried, counted up to MAX_ITEMS + 1."""
    failed: int
    """Failed ones among them, counted likewise."""
    groups: tuple[CauseGroup, ...]
    """Every cause, whatever the filter."""
    counts: Mapping[str, int]
    """PENDING and FAILED jobs in all."""
    has_more: bool


class Releases:
    """The facade's part for release jobs; reached as ``console().releases``."""

    def __init__(self, source: Source, readings: Readings, clock: Callable[[], datetime]) -> None:
        self._source = source
        self._readings = readings
        self._clock = clock

    def page(self, wanted: ReleaseFilter, *, sort: str = SORTS[0], page: int = 1) -> Reading[ReleasesPage]:
        """The jobs of one page; at most MAX_DEPTH jobs are listed."""
        key = ("releases", wanted, sort, page)
        return self._readings.get(key, TTL, lambda: self._source.read(lambda c: _page(c, wanted, sort, page)))

    def freeze(self, verb: str, wanted: ReleaseFilter, words: str) -> Bulk:
        """Everything that matches now and that the verb can act on, the longest untouched first, at most MAX_ITEMS.

        ``words`` says the filter as a person reads it. Raises ValueError for a filter that narrows nothing,
        and SourceUnavailable.
        """
        if narrows_nothing(wanted):
            raise ValueError("a filter that narrows nothing cannot be acted on as a whole")
        fit = fitting(verb, wanted)
        found = self._source.read(lambda c: releases.matching(c, fit, sort=releases.OLDEST, limit=MAX_ITEMS))
        return Bulk(verb, None, tuple(map(target, found)), self._clock(), words, lambda c: _ids(c, fit))


def narrows_nothing(wanted: ReleaseFilter) -> bool:
    """Whether every unfinished job matches."""
    return (
        wanted.cause is None and wanted.order_id is None and {releases.FAILED, releases.PENDING} <= set(wanted.states)
    )


def fitting(verb: str, wanted: ReleaseFilter) -> ReleaseFilter:
    """The part of a filter that a verb can act on: done jobs never, pending ones only by a retry."""
    fit = (releases.FAILED,) if verb == Verb.MARK_RELEASED else (releases.FAILED, releases.PENDING)
    return ReleaseFilter(tuple(state for state in fit if state in wanted.states), wanted.cause, wanted.order_id)


def target(job: Release) -> Target:
    """A job as an operation captures it."""
    note = f"{job.attempts} {'attempt' if job.attempts == 1 else 'attempts'}"
    return Target(job.order_id, job.order_id, job.version, job.state, job.cause or NOT_TRIED, note)


def _ids(connection: Any, wanted: ReleaseFilter) -> list[str]:
    return [job.order_id for job in releases.matching(connection, wanted, limit=MAX_ITEMS)]


def _page(connection: Any, wanted: ReleaseFilter, sort: str, page: int) -> ReleasesPage:
    offset = (max(page, 1) - 1) * PAGE_SIZE
    found = releases.matching(connection, wanted, sort=sort, limit=PAGE_SIZE + 1, offset=offset)
    retriable = fitting(Verb.RETRY_RELEASE, wanted)
    markable = fitting(Verb.MARK_RELEASED, wanted)
    return ReleasesPage(
        rows=_rows(connection, found[:PAGE_SIZE]),
        matching=releases.count_matching(connection, retriable, MAX_ITEMS + 1),
        failed=releases.count_matching(connection, markable, MAX_ITEMS + 1),
        groups=tuple(releases.groups(connection)),
        counts=releases.count_by_state(connection),
        has_more=len(found) > PAGE_SIZE,
    )


def _rows(connection: Any, shown: list[Release]) -> tuple[ReleaseRow, ...]:
    ids = [job.order_id for job in shown]
    owners = {order.order_id: order for order in orders.get_many(connection, ids)}
    cases = reviews.of_orders(connection, ids)
    given = commands.latest_of(connection, ids, KINDS)
    rows = (
        ReleaseRow(job, owners[job.order_id], _case(cases[job.order_id]), given.get(job.order_id))
        for job in shown
        if job.order_id in owners
    )
    return tuple(rows)


def _case(cases: list[Review]) -> Review | None:
    return next((case for case in cases if case.reason == "RELEASE_FAILED" and case.state == "OPEN"), None)
