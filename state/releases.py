"""Release jobs: stored requests to release the reservation of an order, one for each order, and past actions on them.

A job loses its cause when it is done or started again, so each action has a row of its own. An action is undecided
until its job ends. When the reservation has to be released again, the outcome becomes failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, case, func, insert, null, select

from services.domain.calls import NOT_TRIED, Failure, FailureClass
from services.domain.orders.model import ReleaseState
from services.domain.reviews import ResolutionOutcome
from state.bulk_jobs import is_outside
from state.engine import rows
from state.engine.rows import Rows
from state.tables import orders, release_actions, releases

MAX_PAGE = 200
MAX_DEPTH = 1000
"""Maximum length of a list; narrower filters find further jobs."""

MAX_GROUPS = 50
STATES = tuple(ReleaseState)

NEWEST, OLDEST, ATTEMPTS = "newest", "oldest", "attempts"
SORTS = (NEWEST, OLDEST, ATTEMPTS)
"""Most recently changed first, least recently changed first, most attempts first."""


@dataclass(frozen=True, slots=True)
class Release:
    """One release job."""

    order_id: str
    reason: str
    state: str
    attempts: int
    next_attempt_at: datetime | None
    last_error: str | None
    created_at: datetime
    updated_at: datetime
    version: int
    cause: str = FailureClass.NOT_TRIED
    """The key of the last failure, which jobs with the same failure share."""
    failure_class: str = FailureClass.NOT_TRIED
    """A FailureClass."""
    traceparent: str | None = None
    """The traceparent of the order; set when the job was claimed."""

    @property
    def last_attempt_sent(self) -> bool:
        """False when the circuit breaker kept the last attempt from being sent."""
        return self.failure_class != FailureClass.BREAKER_OPEN


@dataclass(frozen=True, slots=True)
class CauseGroup:
    """Unfinished jobs with the same cause."""

    cause: str
    failed: int
    pending: int
    first_at: datetime
    last_at: datetime
    """``first_at`` and ``last_at``: the earliest and the latest change of a job in the group."""


@dataclass(frozen=True, slots=True)
class ReleaseFilter:
    """Selects release jobs."""

    states: tuple[str, ...] = STATES
    cause: str | None = None
    order_id: str | None = None


_JOBS = Rows(releases, Release, traceparent=null())
_CLAIMED = Rows(releases, Release, traceparent=orders.c.traceparent)


def start(connection: Connection, order_id: str, reason: str, at: datetime) -> None:
    """Create the job, or start it again with all its attempts, due at once."""
    fresh = {"reason": reason, "state": ReleaseState.PENDING, "attempts": 0, "next_attempt_at": at, "updated_at": at}
    fresh |= failure_values(None, NOT_TRIED)
    version = releases.c.version + 1
    if rows.change(connection, releases, releases.c.order_id == order_id, version=version, **fresh):
        came_again(connection, order_id)
    else:
        connection.execute(insert(releases), {"order_id": order_id, "created_at": at, "version": 1, **fresh})


def claim_due(connection: Connection, now: datetime, until: datetime, limit: int) -> list[Release]:
    """Claim due jobs; no other replica claims them before ``until``."""
    due = (releases.c.state == ReleaseState.PENDING, releases.c.next_attempt_at <= now)
    return _claim(connection, *due, order=[releases.c.next_attempt_at], limit=limit, until=until)


def claim(connection: Connection, order_ids: Sequence[str], until: datetime) -> list[Release]:
    """Claim the given jobs whether due or not, unless they are done."""
    wanted = (releases.c.order_id.in_(order_ids), releases.c.state != ReleaseState.DONE)
    return _claim(connection, *wanted, order=(), limit=len(order_ids), until=until)


def _claim(
    connection: Connection, *conditions: ColumnElement[bool], order: Sequence[Any], limit: int, until: datetime
) -> list[Release]:
    claimed = {"state": ReleaseState.PENDING, "next_attempt_at": until, "version": releases.c.version + 1}
    ids = rows.claim(connection, releases, *conditions, order=order, limit=limit, **claimed)
    if not ids:
        return []
    jobs = select(*_CLAIMED.columns).join(orders, orders.c.order_id == releases.c.order_id)
    return _CLAIMED.read(connection, jobs.where(releases.c.order_id.in_(ids)))


def failure_values(message: str | None, failure: Failure) -> dict[str, Any]:
    """The column values that describe how the last attempt failed."""
    return {"last_error": message, "cause": failure.key, "failure_class": failure.failure_class}


def settle(connection: Connection, release: Release, at: datetime, **values: Any) -> bool:
    """Record the end of an attempt; False when the job was started again meanwhile."""
    is_as_seen = (releases.c.order_id == release.order_id, releases.c.version == release.version)
    return rows.change(connection, releases, *is_as_seen, updated_at=at, version=release.version + 1, **values) == 1


def get(connection: Connection, order_id: str) -> Release | None:
    return _JOBS.one(connection, releases.c.order_id == order_id)


def page(
    connection: Connection, *, states: Sequence[str] = STATES, limit: int = MAX_PAGE, offset: int = 0
) -> list[Release]:
    """Jobs, the most recently changed first."""
    return matching(connection, ReleaseFilter(tuple(states)), limit=min(limit, MAX_PAGE), offset=offset)


def matching(
    connection: Connection, wanted: ReleaseFilter, *, sort: str = NEWEST, limit: int, offset: int = 0
) -> list[Release]:
    """Jobs that match, at most MAX_DEPTH; each state is read along its own index, and the results are merged."""
    until = min(offset + limit, MAX_DEPTH)
    column, descending = _SORTS[sort]
    found: list[Release] = []
    for state in wanted.states:
        place = column.desc() if descending else column.asc()
        found += _JOBS.some(connection, *_conditions(wanted, state), order=[place, releases.c.order_id], limit=until)
    found.sort(key=lambda job: job.order_id)
    found.sort(key=lambda job: getattr(job, column.name), reverse=descending)
    return found[offset:until]


def count_matching(connection: Connection, wanted: ReleaseFilter, limit: int) -> int:
    """Number of matching jobs, counted up to ``limit``."""
    counted = 0
    for state in wanted.states:
        counted += rows.count(connection, releases, *_conditions(wanted, state), up_to=limit - counted)
    return counted


_SORTS = {
    NEWEST: (releases.c.updated_at, True),
    OLDEST: (releases.c.updated_at, False),
    ATTEMPTS: (releases.c.attempts, True),
}


def _conditions(wanted: ReleaseFilter, state: str) -> list[ColumnElement[bool]]:
    filters = ((releases.c.state, state), (releases.c.cause, wanted.cause), (releases.c.order_id, wanted.order_id))
    return [column == value for column, value in filters if value is not None]


def groups(connection: Connection) -> list[CauseGroup]:
    """Unfinished jobs by cause; causes with the most failed jobs come first."""
    failed = func.sum(case((releases.c.state == ReleaseState.FAILED, 1), else_=0))
    pending = func.sum(case((releases.c.state == ReleaseState.PENDING, 1), else_=0))
    statement = (
        select(releases.c.cause, failed, pending, func.min(releases.c.updated_at), func.max(releases.c.updated_at))
        .where(releases.c.state.in_((ReleaseState.PENDING, ReleaseState.FAILED)))
        .group_by(releases.c.cause)
        .order_by(failed.desc(), pending.desc(), releases.c.cause)
        .limit(MAX_GROUPS)
    )
    return [CauseGroup(*row) for row in connection.execute(statement)]


def count_failed_since(
    connection: Connection, causes: Sequence[str], since: datetime, *, outside_job: str, limit: int
) -> int:
    """Number of jobs that failed with one of the causes since ``since``, without those of the bulk job."""
    failed = (releases.c.state == ReleaseState.FAILED, releases.c.cause.in_(causes), releases.c.updated_at > since)
    return rows.count(connection, releases, *failed, is_outside(releases.c.order_id, outside_job), up_to=limit)


def versions(connection: Connection, order_ids: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Version and state of the given jobs."""
    return rows.versions(connection, releases.c.order_id, releases.c.version, releases.c.state, order_ids)


def count_by_state(connection: Connection) -> dict[str, int]:
    unfinished = releases.c.state.in_((ReleaseState.PENDING, ReleaseState.FAILED))
    return rows.count_by(connection, releases.c.state, unfinished)


MAX_PAST_ACTIONS = 50
"""Maximum number of actions of one cause."""

NO_ANSWER = (FailureClass.NOT_TRIED, FailureClass.BREAKER_OPEN)
"""Causes of jobs without an answer of the Inventory Service; an action on such a job is not stored."""


@dataclass(frozen=True, slots=True)
class PastReleaseAction:
    """One action on one failed job."""

    order_id: str
    cause: str
    action: str
    """A ReleaseActionKind of services.domain.reviews."""
    actor: str
    at: datetime
    why: str | None
    outcome: str
    """A ResolutionOutcome."""


_ACTIONS = Rows(release_actions, PastReleaseAction, action="move")


def add_action(
    connection: Connection,
    order_id: str,
    cause: str,
    action: str,
    actor: str,
    at: datetime,
    *,
    why: str | None = None,
    outcome: str = ResolutionOutcome.UNDECIDED,
) -> None:
    """Store an action on a job with that cause; an earlier undecided action of the order becomes failed."""
    decide_action(connection, order_id, ResolutionOutcome.FAILED)
    if cause in NO_ANSWER:
        return
    _ACTIONS.add(connection, PastReleaseAction(order_id, cause, action, actor, at, why, outcome))


def decide_action(connection: Connection, order_id: str, outcome: str) -> bool:
    """Store the outcome of the undecided action of an order; False when there was none."""
    return rows.change(connection, release_actions, *_undecided(order_id), outcome=outcome) > 0


def forget_undecided(connection: Connection, order_id: str) -> None:
    """Delete the undecided action of an order, because nothing was sent."""
    rows.remove(connection, release_actions, *_undecided(order_id))


def has_undecided(connection: Connection, order_id: str) -> bool:
    return rows.has_any(connection, release_actions, *_undecided(order_id))


def came_again(connection: Connection, order_id: str) -> None:
    """Mark lasting actions of the order as failed, because its reservation has to be released again."""
    lasting = _with_outcome(order_id, ResolutionOutcome.LASTED)
    rows.change(connection, release_actions, *lasting, outcome=ResolutionOutcome.FAILED)


def last_actions(connection: Connection, cause: str) -> list[PastReleaseAction]:
    """The last MAX_PAST_ACTIONS actions on jobs with one cause, newest first."""
    newest = (release_actions.c.at.desc(), release_actions.c.id.desc())
    return _ACTIONS.some(connection, release_actions.c.cause == cause, order=newest, limit=MAX_PAST_ACTIONS)


def _undecided(order_id: str) -> tuple[ColumnElement[bool], ...]:
    return _with_outcome(order_id, ResolutionOutcome.UNDECIDED)


def _with_outcome(order_id: str, outcome: str) -> tuple[ColumnElement[bool], ...]:
    return release_actions.c.order_id == order_id, release_actions.c.outcome == outcome
