"""The order service's tables as a value, behind the same functions that the product calls.

The functions stand in for those of the same names in ``state``; test_the_models_are_true compares
them with the real ones. Times are reduced to what matters: something is due SOON or LATER.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest

from services import unit_of_work
from services.domain.orders import ending, events
from services.domain.orders.changes import TimelineEntry
from services.domain.orders.events import OutgoingEvent
from services.domain.orders.model import CustomerPriority, Line, Order, ReleaseState
from state import audit, deduplication, incident_impacts, orders, outbox, releases, reviews
from state.orders import StaleOrder
from state.releases import Release
from state.reviews import Review

START = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SOON = START - timedelta(days=1)
LATER = START + timedelta(days=365)
"""Due after the longest time that a call of a dead run may still be under way."""

LINE = Line("chair", "oak", 1)
CANCEL_REASON = "CANCEL"


class Failure(NamedTuple):
    """Why an order was refused, as far as a rule reads it."""

    retryable: bool

    def get(self, name: str) -> bool | None:
        return self.retryable if name == "retryable" else None


class Case(NamedTuple):
    """One open review case."""

    reason: str
    serial: int
    version: int

    @property
    def review_id(self) -> str:
        return f"{self.reason}/{self.serial}"

    def review(self, order_id: str) -> Review:
        return Review(self.review_id, order_id, self.reason, "OPEN", "", START, self.version)


class Rows(NamedTuple):
    """Everything the order service has stored about the one order, but for the events it still has to send."""

    order: Order
    job: Release | None = None
    cases: tuple[Case, ...] = ()
    last_serial: int = 0
    return_known: bool = False
    capture_seen: bool = False
    """The timeline says that the money was captured."""


class Message(NamedTuple):
    """An event under way; ``reservation`` is -1 where it names none."""

    type: str
    reservation: int = -1
    was_handled: bool = False
    """It comes a second time: its acknowledgement was lost, or it was published twice."""


def new_order(priority: str = CustomerPriority.STANDARD) -> Order:
    """A row just written, its run about to begin."""
    return Order("order-1", "user-1", priority, (LINE,), START, START, due_at=LATER)


NOT_MODELLED = ("last_error", "cause", "failure_class")
"""Columns of a release job that only describe its last failure."""


@dataclass(frozen=True)
class RowRules:
    """Which rules of the tables are in force."""

    versions_are_checked: bool = True
    claims_raise_the_version: bool = True
    jobs_are_versioned: bool = True
    cases_are_versioned: bool = True
    inbox: bool = True


class Tables:
    """One transaction's working copy: what the product takes for a database connection."""

    def __init__(self, rows: Rows, rules: RowRules, *, was_handled: bool = False) -> None:
        self.order = rows.order
        self.job = rows.job
        self.cases = {case.review_id: case for case in rows.cases}
        self.last_serial = rows.last_serial
        self.return_known = rows.return_known
        self.capture_seen = rows.capture_seen
        self.rules = rules
        self.was_handled = was_handled
        self.stored: list[Message] = []

    def rows(self) -> Rows:
        cases = tuple(sorted(self.cases.values()))
        return Rows(self.order, self.job, cases, self.last_serial, self.return_known, self.capture_seen)

    # ------------------------------------------------------------ state.orders

    def get_order(self, order_id: str) -> Order:
        return self.order

    def save_order(self, order: Order, values: dict[str, Any], at: datetime) -> Order:
        if self.rules.versions_are_checked and order.version != self.order.version:
            raise StaleOrder(order.order_id)
        changes = _simplified(values, at)
        self.order = replace(self.order, **changes, version=self.order.version + 1)
        return replace(order, **changes, version=self.order.version)

    def claim_order(self) -> Order:
        """What claim_due does to the one order."""
        raised = self.order.version + 1 if self.rules.claims_raise_the_version else self.order.version
        self.order = replace(self.order, due_at=LATER, version=raised)
        return self.order

    def add_returned(self, order_id: str, lines: Iterable[Line]) -> None:
        (line,) = self.order.lines
        self.order = replace(
            self.order, lines=(replace(line, returned=line.returned + sum(x.quantity for x in lines)),)
        )

    # ---------------------------------------------------------- state.releases

    def start_job(self, order_id: str, reason: str, at: datetime) -> None:
        version = self.job.version + 1 if self.job else 1
        self.job = Release(order_id, "", ReleaseState.PENDING, 0, SOON, None, START, START, version)

    def claim_job(self) -> Release:
        """What claim_due does to the one job."""
        if self.job is None:
            raise LookupError("there is no job to claim")
        self.job = replace(self.job, next_attempt_at=LATER, version=self.job.version + 1)
        return self.job

    def settle_job(self, job: Release, at: datetime, **values: Any) -> bool:
        if self.job is None or (self.rules.jobs_are_versioned and self.job.version != job.version):
            return False
        values = {name: value for name, value in values.items() if name not in NOT_MODELLED}
        if values.get("next_attempt_at") is not None:
            values["next_attempt_at"] = SOON
        self.job = replace(self.job, **values, version=self.job.version + 1)
        return True

    def get_job(self, order_id: str) -> Release | None:
        return self.job

    # ----------------------------------------------------------- state.reviews

    def open_case(self, review_id: str, order_id: str, reason: str, detail: str, at: datetime, **_: Any) -> bool:
        if any(case.reason == reason for case in self.cases.values()):
            return False
        self.last_serial += 1
        case = Case(reason, self.last_serial, 1)
        self.cases[case.review_id] = case
        return True

    def close_cases(self, order_id: str, reasons: Sequence[str], **_: Any) -> list[str]:
        closed = [case for case in self.cases.values() if case.reason in reasons]
        for case in closed:
            del self.cases[case.review_id]
        return [case.reason for case in closed]

    def resolve_case(self, review: Review, **_: Any) -> bool:
        if not self._is_current(review):
            return False
        del self.cases[review.review_id]
        return True

    def touch_case(self, review: Review, **_: Any) -> bool:
        if not self._is_current(review):
            return False
        case = self.cases[review.review_id]
        self.cases[review.review_id] = case._replace(version=case.version + 1)
        return True

    def renew_claim(self, *_: Any) -> None:
        """The model's one operator claims nothing."""

    def get_case(self, review_id: str) -> Review:
        case = self.cases.get(review_id)
        if case is not None:
            return case.review(self.order.order_id)
        reason, _, serial = review_id.partition("/")
        return replace(Case(reason, int(serial), 0).review(self.order.order_id), state="RESOLVED")

    def _is_current(self, review: Review) -> bool:
        case = self.cases.get(review.review_id)
        return case is not None and (not self.rules.cases_are_versioned or case.version == review.version)

    # -------------------------------------------- outbox, inbox, returns

    def store_events(self, rows: Sequence[dict[str, Any]]) -> None:
        self.stored += [message for row in rows if (message := _message(row["payload"]))]

    def remember_event(
        self, event_id: str, event_type: str, order_id: str | None, at: datetime, outcome: str = "handled", **_: Any
    ) -> bool:
        return not (self.was_handled and self.rules.inbox)

    def note_on_timeline(self, order_id: str, entries: Sequence[TimelineEntry]) -> None:
        self.capture_seen = self.capture_seen or any(map(ending.shows_capture, entries))

    def shows_capture(self, order_id: str) -> bool:
        return self.capture_seen

    def remember_return(self, *_: Any, **__: Any) -> None:
        self.return_known = True


def _simplified(values: dict[str, Any], at: datetime) -> dict[str, Any]:
    """Column values without what no rule looks at, and times without their length."""
    changes = {name: value for name, value in values.items() if name != "confirmed_at"}
    if "failure" in changes:
        # Nothing reads more of it than whether it passes; one that does not is as good as none.
        changes["failure"] = Failure(True) if (changes["failure"] or {}).get("retryable") else None
    if changes.get("due_at") is not None:
        changes["due_at"] = SOON if changes["due_at"] <= at else LATER
    if changes.get("cancel_reason") is not None:
        changes["cancel_reason"] = CANCEL_REASON
    return changes


def _message(event: OutgoingEvent) -> Message | None:
    if event.type == events.ORDER_CREATED:
        # It only validates, and one line of one unit is always what was reserved.
        return None
    return Message(event.type, reservation_number(event.data.get("reservationId")))


def reservation_id(number: int) -> str:
    return f"reservation-{number}"


def reservation_number(name: str | None) -> int:
    return int(name.rpartition("-")[2]) if name else -1


@contextmanager
def standing_in_for_the_database() -> Iterator[None]:
    """The functions of ``state`` work on Tables instead of a connection."""
    stand_ins: list[tuple[Any, str, Any]] = [
        (orders, "get", Tables.get_order),
        (orders, "save", Tables.save_order),
        (orders, "add_returned", Tables.add_returned),
        (releases, "start", Tables.start_job),
        (releases, "settle", Tables.settle_job),
        (releases, "get", Tables.get_job),
        (reviews, "open_case", Tables.open_case),
        (reviews, "close_cases", Tables.close_cases),
        (reviews, "resolve", Tables.resolve_case),
        (reviews, "touch", Tables.touch_case),
        (reviews, "renew_claim", Tables.renew_claim),
        (reviews, "get", Tables.get_case),
        (outbox, "add", Tables.store_events),
        (deduplication, "add", Tables.remember_event),
        (orders, "add_return", Tables.remember_return),
        (orders, "find_return", lambda *_: None),
        (orders, "add_timeline", Tables.note_on_timeline),
        (incident_impacts, "add", lambda *_: None),
        # A memory for people: no rule of an order reads it.
        (releases, "add_action", lambda *_, **__: None),
        (releases, "decide_action", lambda *_: True),
        (orders, "shows_capture", Tables.shows_capture),
        (audit, "add", lambda *_: None),
        (audit, "last_on", lambda *_: None),
        (unit_of_work, "encode", lambda event, *_: event),
    ]
    with pytest.MonkeyPatch.context() as patch:
        for module, name, stand_in in stand_ins:
            patch.setattr(module, name, stand_in)
        yield
