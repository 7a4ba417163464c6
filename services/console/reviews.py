"""Manual review on the console: the queue, one case with its reconciliation, claims, and resolutions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from services.console.access import LIVE_TTL, Topic
from services.console.bulk import BulkRequest, BulkTarget
from services.console.cache import Reading
from services.console.paging import PAGE_SIZE
from services.domain.bulk import MAX_ITEMS, BulkAction
from services.domain.commands import CommandKind
from services.domain.conservation import StockState
from services.domain.orders.changes import TimelineEntry
from services.domain.orders.model import Order, OrderValue, order_value
from services.domain.reconciliation import (
    OFFERED,
    AllowedActions,
    advice,
    is_fresh,
    reconcile,
)
from services.domain.reviews import (
    BY_ITSELF,
    UNDO_FOR,
    ActionSummary,
    PastResolution,
    ReviewAction,
    ReviewState,
    allowed_actions,
    called_by,
    check_reason,
    outcome_of,
    standings,
    summarise,
)
from services.unit_of_work import SYSTEM
from state import commands, inventory_lookups, orders, releases, review_queue, reviews
from state.commands import Command
from state.inventory_lookups import StoredLookup
from state.releases import Release
from state.review_queue import CaseFilter, Group
from state.reviews import Review

EXCERPT = 12
"""Entries of the timeline shown beside a case."""


@dataclass(frozen=True, slots=True)
class ReviewCase:
    """A case with its order, allowed actions and last commands."""

    review: Review
    order: Order
    actions: tuple[ReviewAction, ...]
    command: Command | None
    """The last command to resolve the case."""
    claim: Command | None = None
    """The last command to claim the case or to hand it back."""

    @property
    def order_value(self) -> OrderValue:
        return order_value(self.order)


@dataclass(frozen=True, slots=True)
class QueuePage:
    """One page of the queue, with the number, causes, products and actions of all matching cases."""

    cases: tuple[ReviewCase, ...]
    count: int
    """Matching cases, counted up to POOL."""
    by_cause: tuple[Group, ...]
    """Keys: review reason, cause."""
    by_product: tuple[Group, ...]
    """Key: product id."""
    allowing: Mapping[str, int]
    """By action, the number of matching cases whose order allows the action."""
    calls: Mapping[str, str]
    """The inventory call by action, for actions that make one immediately on some of the matching cases."""


@dataclass(frozen=True, slots=True)
class LookupView:
    """The last inventory lookup of one order."""

    answer: StoredLookup | None
    asking: Command | None
    """The last lookup command on the order."""
    stock: StockState | None
    """The stock state of a fresh lookup; None without one."""


@dataclass(frozen=True, slots=True)
class CaseView:
    """One case with the facts for a decision."""

    case: ReviewCase
    actions: AllowedActions
    """Actions that the order and its stock state allow; without a fresh lookup, actions that the order allows."""
    advice: str | None
    lookup: LookupView
    release: Release | None
    release_command: Command | None
    timeline: tuple[TimelineEntry, ...]
    """The newest entries, oldest first."""
    past_resolutions: tuple[ActionSummary, ...]
    past_count: int
    """Number of past cases with the same cause in the summary."""


class Reviews(Topic):
    """The topic of the Manual review page."""

    # -- reading -------------------------------------------------------------------------------

    def queue(self, wanted: CaseFilter, *, page: int = 1) -> Reading[QueuePage]:
        """One page of the matching cases. The first ``page`` is 1."""
        now = self._access.now()
        return self._access.read(("queue", wanted, page), LIVE_TTL, lambda c: _queue(c, wanted, now, page))

    def case(self, review_id: str) -> Reading[CaseView]:
        """The case. If it does not exist, the reading has an ``as_of`` and no value."""
        return self._access.read(("case", review_id), LIVE_TTL, lambda c: _case(c, review_id, self._access.now()))

    def inventory_lookup(self, order_id: str) -> Reading[LookupView]:
        """The latest inventory lookup of an order, however old."""
        return self._access.read(
            ("their_say", order_id), LIVE_TTL, lambda c: _lookup_view(c, order_id, self._access.now())
        )

    def next_unclaimed(self, wanted: CaseFilter, *, leave: str = "") -> Reading[ReviewCase]:
        """The most urgent matching case without a claim: the reservation that ends first, then priority, then age.

        ``leave`` is the id of the case that is skipped. The reading has no value if there is no such case.
        """
        free = replace(wanted, state=ReviewState.OPEN, owner=None, unclaimed=True, sort=review_queue.URGENT)
        return self._access.read(("next", free, leave), 0.0, lambda c: _next(c, free, self._access.now(), leave))

    def freeze(self, action: ReviewAction, wanted: CaseFilter, words: str) -> BulkRequest:
        """Freeze the open cases that match now and allow the action, longest waiting first, at most MAX_ITEMS.

        ``words`` is the filter as readable text. Raises ValueError for a filter that excludes no case of its state,
        and SourceUnavailable.
        """
        if narrows_nothing(wanted):
            raise ValueError("a filter that narrows nothing cannot be acted on as a whole")
        fit, now = replace(wanted, state=ReviewState.OPEN, sort=review_queue.OLDEST), self._access.now()
        found = self._access.read_now(lambda c: _fitting(c, fit, action, now))
        targets = tuple(target(review, now) for review in found)
        return BulkRequest(
            BulkAction.RESOLVE_REVIEW, action, targets, now, words, lambda c: _ids(c, fit, action, self._access.now())
        )

    # -- writing -------------------------------------------------------------------------------

    def resolve(
        self, review: Review, action: str, *, note: str, reason: str | None, actor: str, command_id: str
    ) -> Command:
        """Resolve one case at the version shown. Actions in UNDO_FOR are delayed, so that they can be undone.

        Raises ValidationFailed when an explanation is missing, SourceUnavailable, NotPermitted.
        """
        check_reason(review.reason, action, reason, note)
        arguments = {"action": action, "note": note, "version": review.version} | ({"reason": reason} if reason else {})
        return self._access.store_command(
            CommandKind.RESOLVE_REVIEW,
            review.review_id,
            arguments,
            actor=actor,
            command_id=command_id,
            undo_for=UNDO_FOR.get(action),
        )


def review_cases(connection: Connection, found: Sequence[Review]) -> tuple[ReviewCase, ...]:
    """Cases with their orders, the actions that the orders allow, and their last commands."""
    ids = [case.review_id for case in found]
    owners = {o.order_id: o for o in orders.get_many(connection, list({case.order_id for case in found}))}
    given = commands.latest_of(connection, ids, (CommandKind.RESOLVE_REVIEW,))
    claims = commands.latest_of(connection, ids, (CommandKind.CLAIM_REVIEW, CommandKind.RELEASE_CLAIM))
    return tuple(
        ReviewCase(
            case,
            owners[case.order_id],
            _allowed(case, owners[case.order_id]),
            given.get(case.review_id),
            claims.get(case.review_id),
        )
        for case in found
        if case.order_id in owners
    )


def _allowed(case: Review, order: Order) -> tuple[ReviewAction, ...]:
    return allowed_actions(case.reason, order.status) if case.state == ReviewState.OPEN else ()


def _queue(connection: Connection, wanted: CaseFilter, now: datetime, page: int) -> QueuePage:
    offset = (max(page, 1) - 1) * PAGE_SIZE
    found = review_queue.page(connection, wanted, now, limit=PAGE_SIZE, offset=offset)
    standing = review_queue.by_standing(connection, wanted, now) if wanted.state == ReviewState.OPEN else []
    return QueuePage(
        cases=review_cases(connection, found),
        count=review_queue.count(connection, wanted, now),
        by_cause=tuple(review_queue.by_cause(connection, wanted, now)),
        by_product=tuple(review_queue.by_product(connection, wanted, now)),
        allowing=_allowing(standing),
        calls=_calls({group.keys[0] for group in standing}),
    )


def narrows_nothing(wanted: CaseFilter) -> bool:
    """Whether every case of a state matches."""
    return wanted == CaseFilter(state=wanted.state, sort=wanted.sort)


def target(review: Review, now: datetime) -> BulkTarget:
    """A case as an item of a bulk job."""
    return BulkTarget(
        review.review_id, review.order_id, review.version, review.state, review.reason, review.detail,
        review.owner_at(now),
    )  # fmt: skip


def _allowing(groups: list[Group]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for group in groups:
        for action in allowed_actions(*group.keys):
            counts[action] += group.count
    return dict(counts)


def _calls(reasons: set[str]) -> dict[str, str]:
    found = {str(action): called_by(action, reasons) for action in ReviewAction}
    return {action: call for action, call in found.items() if call}


def _fitting(connection: Connection, wanted: CaseFilter, action: ReviewAction, now: datetime) -> list[Review]:
    return review_queue.standing(connection, wanted, now, standings(action), limit=MAX_ITEMS)


def _ids(connection: Connection, wanted: CaseFilter, action: ReviewAction, now: datetime) -> list[str]:
    return [review.review_id for review in _fitting(connection, wanted, action, now)]


def _next(connection: Connection, wanted: CaseFilter, now: datetime, leave: str) -> ReviewCase | None:
    found = [review for review in review_queue.page(connection, wanted, now, limit=2) if review.review_id != leave]
    return next(iter(review_cases(connection, found[:1])), None)


def _lookup_view(connection: Connection, order_id: str, now: datetime) -> LookupView:
    answer = inventory_lookups.get(connection, order_id)
    asked = commands.latest_of(connection, [order_id], (CommandKind.LOOK_UP_INVENTORY,))
    order = orders.get(connection, order_id)
    said = stock_for_actions(answer, now, order.updated_at) if order else None
    return LookupView(answer, asked.get(order_id), said)


def stock_for_actions(answer: StoredLookup | None, now: datetime, changed_at: datetime) -> StockState | None:
    """The stock state that decides which actions are offered; None for an older answer, which is shown with its age."""
    return answer.result.stock if answer and is_fresh(answer.asked_at, now, changed_at, OFFERED) else None


def _case(connection: Connection, review_id: str, now: datetime) -> CaseView | None:
    review = reviews.get(connection, review_id)
    found = review_cases(connection, [review]) if review else ()
    if not found:
        return None
    (case,) = found
    order_id = case.review.order_id
    lookup = _lookup_view(connection, order_id, now)
    said = stock_for_actions(lookup.answer, now, case.order.updated_at)
    retried = commands.latest_of(connection, [order_id], (CommandKind.RETRY_RELEASE,))
    past = reviews.last_cases(connection, case.review.reason, case.review.cause)
    is_open = case.review.state == ReviewState.OPEN
    return CaseView(
        case=case,
        actions=reconcile(case.review.reason, case.order.status, said) if is_open else AllowedActions(()),
        advice=advice(case.review.reason, case.order.status, said) if is_open else None,
        lookup=lookup,
        release=releases.get(connection, order_id),
        release_command=retried.get(order_id),
        timeline=tuple(orders.timeline(connection, order_id)[-EXCERPT:]),
        past_resolutions=summarise(_pasts(connection, past)),
        past_count=len(past),
    )


def _pasts(connection: Connection, cases: list[reviews.PastCase]) -> list[PastResolution]:
    """The last action of a person on each case, or else its resolution.

    A case that closed as a consequence of an action counts for that action.
    """
    done = {action.review_id: action for action in reviews.actions_on(connection, cases, tuple(ReviewAction))}
    found = []
    for case in cases:
        last = done.get(case.review_id)
        action = last.action if last else case.resolution if case.resolution in set(ReviewAction) else BY_ITSELF
        by = last.actor if last else SYSTEM if action == BY_ITSELF else case.resolved_by
        why = case.note or case.resolution_reason
        outcome = outcome_of(action, case.order_status, came_again=case.came_again)
        found.append(PastResolution(action, by, case.resolved_at, outcome, why))
    return found
