"""One order and everything that can happen to it: the states of the model and the steps between them.

A step is one transaction, one call carried out (answered or not), one event delivered, or one thing
that happens by itself: a crash, time passing, a competitor, a customer, an operator. What goes wrong
is bounded in number, what has to happen is not.

Assumptions on time, which the search does not question:
- a reservation that nobody waits for any more arrives before a person says that all is given back;
and, where the gateway cannot be told to refuse a capture (``gateway_can_void`` is off), besides:
- a capture that a run sent and got no answer to arrives before a refund that is due LATER begins;
- a run that was slow enough to be taken for dead does not die as well while a charge of its own is under way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from services.domain.calls import InventoryCall
from services.domain.orders import events, lifecycle
from services.domain.orders.changes import ENDED
from services.domain.orders.model import CustomerPriority, Order, OrderStatus, PaymentStatus, ReleaseState, ReviewReason
from services.domain.reviews import ReviewAction, allowed_actions
from services.reviews.cases import ResolveReview
from tests.model import neighbours
from tests.model.neighbours import DEDUCTED, HELD, Shop, StockRules, Till
from tests.model.rows import LATER, SOON, Case, Message, RowRules, Rows, Tables, new_order
from tests.model.runs import (
    CAPTURE,
    FIND,
    NO_ANSWER,
    REFUND,
    TRANSACTION,
    UNUSABLE,
    VOID,
    Answer,
    Attempts,
    OrderService,
    Run,
    renumbered,
)

LOST, UNANSWERED, LATE, GARBLED, CRASH = "lost", "unanswered", "late", "garbled", "crash"
PAUSE, DUPLICATE, SLOW_EVENT, DEAD_EVENT = "pause", "duplicate", "slow event", "dead event"
TIME, RIVAL, RIVAL_GIVES_BACK, DECLINE = "time", "rival", "rival gives back", "decline"
IN_CALLS = (LOST, UNANSWERED, LATE, GARBLED, DECLINE)
IN_EVENTS = (DUPLICATE, SLOW_EVENT, DEAD_EVENT)
IN_RUNS = (CRASH, PAUSE)
OUTSIDE = (TIME, RIVAL, RIVAL_GIVES_BACK)
FAULTS = frozenset((*IN_CALLS, *IN_EVENTS, *IN_RUNS, *OUTSIDE))

MAY_ARRIVE_LATE = (InventoryCall.RESERVE, CAPTURE)

AT_WORK = ("place", "again", "sweep", "resolve")
"""Runs that bring the order on."""


class Left(NamedTuple):
    """How much may still happen."""

    faults: int
    cancels: int
    operators: int
    returns: int
    repeats: int


class State(NamedTuple):
    """Everything there is, at one moment."""

    rows: Rows
    runs: tuple[Run, ...]
    wire: tuple[str, ...]
    """Requests that nobody waits for any more and that have not arrived yet."""
    to_inventory: tuple[Message, ...]
    to_orders: tuple[Message, ...]
    shop: Shop
    till: Till
    phase: int
    left: Left

    @property
    def order(self) -> Order:
        return self.rows.order

    @property
    def is_quiet(self) -> bool:
        """Nothing is under way and nothing is due: only a person, a customer or the end of a hold changes it."""
        under_way = self.runs or self.wire or self.to_inventory or self.to_orders
        is_job_due = self.rows.job is not None and self.rows.job.state == ReleaseState.PENDING
        return not under_way and self.order.due_at is None and not is_job_due

    def __str__(self) -> str:
        order = self.order
        facts = [order.status, order.inventory_status, f"payment {order.payment_status}", f"till {self.till.state}"]
        facts += [f"hold {reservation.state}" for reservation in self.shop.reservations]
        facts += [f"case {case.reason}" for case in self.rows.cases]
        facts += [f"{run.kind} waits for its {run.waits_for}" for run in self.runs]
        return ", ".join(facts)


Step = tuple[str, State]


@dataclass(frozen=True)
class Bounds:
    """How much may happen in one search, and which rules are in force."""

    faults: int = 2
    kinds: frozenset[str] = FAULTS
    cancels: int = 1
    operators: int = 1
    returns: int = 0
    repeats: int = 0
    """How often the customer's request comes again after it was refused for a passing reason."""
    units: int = 1
    last_phase: int = 4
    runs: int = 4
    """Runs at work at the same time."""
    priority: str = CustomerPriority.STANDARD
    attempts: Attempts = field(default_factory=Attempts)
    stock: StockRules = field(default_factory=StockRules)
    rows: RowRules = field(default_factory=RowRules)
    gateway_knows_the_key: bool = True
    gateway_can_void: bool = True
    events_are_stored_with_the_change: bool = True


class World:
    """The steps of one search; to be made anew when a rule was changed."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self._service = OrderService(bounds.rows, bounds.attempts)

    def initial(self) -> State:
        """The order's row is written and its run begins."""
        rows = Rows(new_order(self.bounds.priority))
        run = self._service.begin("place", rows.order, 0)
        bounds = self.bounds
        left = Left(bounds.faults, bounds.cancels, bounds.operators, bounds.returns, bounds.repeats)
        runs = (run,) if run else ()
        return State(rows, runs, (), (), (), Shop(self.bounds.units), Till(), 0, left)

    def successors(self, state: State) -> Iterator[Step]:
        for label, after in self._steps(state):
            yield label, canonical(after)

    def _steps(self, state: State) -> Iterator[Step]:
        for number, run in enumerate(state.runs):
            if run.waits_for == TRANSACTION:
                yield from self._commit(state, number)
            else:
                yield from self._call(state, number)
            yield from self._crash(state, number)
        yield from self._late_arrivals(state)
        yield from self._events(state)
        yield from self._sweeper(state)
        yield from self._release_worker(state)
        yield from self._surroundings(state)
        yield from self._people(state)

    # -------------------------------------------------------------------- runs

    def _commit(self, state: State, number: int) -> Iterator[Step]:
        run = state.runs[number]
        rows, stored, after = self._service.commit(run, state.rows, state.phase)
        label = f"{run.kind}: transaction, order {rows.order.status}"
        committed = _with_run(state, number, after)._replace(rows=rows)
        yield label, committed._replace(to_inventory=state.to_inventory + stored)
        if stored and self._may_lose_events(state):
            yield f"{label}; crash before it is published", _worse(committed)

    def _call(self, state: State, number: int) -> Iterator[Step]:
        run = state.runs[number]
        for what, answer, after in self._carried_out(state, run.waits_for):
            yield f"{run.kind}: {what}", self._heard(after, number, answer)
            if self._may(state, UNANSWERED):
                yield f"{run.kind}: {what}, answer lost", _worse(self._heard(after, number, NO_ANSWER))
            if run.waits_for == InventoryCall.RESERVE and self._may(state, GARBLED):
                garbled = self._heard(after, number, (UNUSABLE, -1, 0))
                yield f"{run.kind}: {what}, answer unusable", _worse(garbled)
        if self._may(state, LOST):
            yield f"{run.kind}: {run.waits_for} lost", _worse(self._heard(state, number, NO_ANSWER))
        if run.waits_for in MAY_ARRIVE_LATE and self._may(state, LATE):
            late = _on_the_wire(self._heard(state, number, NO_ANSWER), run.waits_for)
            yield f"{run.kind}: {run.waits_for} not answered, still under way", _worse(late)

    def _carried_out(self, state: State, call: str) -> Iterator[tuple[str, Answer, State]]:
        """What the call does at the other side, and the answer."""
        bounds = self.bounds
        if call == InventoryCall.CHECK_AVAILABILITY:
            is_available = neighbours.is_available(state.shop, state.phase)
            yield f"check says {'yes' if is_available else 'no'}", is_available, state
        elif call == InventoryCall.RESERVE:
            shop, answer, number = neighbours.reserve(bounds.stock, state.shop, state.phase)
            ends = shop.reservations[number].ends if answer == HELD else 0
            yield f"reserve: {answer}", (answer, number, ends), state._replace(shop=shop)
        elif call == InventoryCall.RELEASE:
            shop, answer, _ = neighbours.release(bounds.stock, state.shop, state.phase)
            yield f"release: {answer}", answer, state._replace(shop=shop)
        elif call == FIND:
            yield f"find: {state.till.state}", state.till.state, state
        elif call == REFUND:
            till, answer = neighbours.refund(state.till)
            yield f"refund: {answer}", answer, state._replace(till=till)
        elif call == VOID:
            till, answer = neighbours.void(state.till, can=self.bounds.gateway_can_void)
            yield f"void: {answer}", answer, state._replace(till=till)
        else:
            yield from self._charged(state)

    def _charged(self, state: State) -> Iterator[tuple[str, Answer, State]]:
        knows = self.bounds.gateway_knows_the_key
        till, answer = neighbours.charge(state.till, knows_the_key=knows)
        yield f"capture: {answer}", answer, state._replace(till=till)
        if state.till.state == neighbours.NOTHING and self._may(state, DECLINE):
            till, answer = neighbours.charge(state.till, declines=True)
            yield f"capture: {answer}", answer, _worse(state._replace(till=till))

    def _heard(self, state: State, number: int, answer: Answer) -> State:
        return _with_run(state, number, self._service.hear(state.runs[number], answer, state.phase))

    def _crash(self, state: State, number: int) -> Iterator[Step]:
        run = state.runs[number]
        is_assumed_to_live = run.is_overtaken and not self.bounds.gateway_can_void
        if not self._may(state, CRASH) or (is_assumed_to_live and _may_have_charged(run)):
            return
        dead = _worse(_with_run(state, number, None))
        yield f"{run.kind}: crash before its {run.waits_for}", dead
        if run.waits_for in MAY_ARRIVE_LATE and self._may(state, LATE) and not is_assumed_to_live:
            yield f"{run.kind}: crash, its {run.waits_for} under way", _on_the_wire(dead, run.waits_for)

    def _late_arrivals(self, state: State) -> Iterator[Step]:
        for call in sorted(set(state.wire)):
            wire = list(state.wire)
            wire.remove(call)
            for what, _, after in self._carried_out(state, call):
                yield f"a late {call} arrives: {what}", after._replace(wire=tuple(wire))

    # ------------------------------------------------------------------ events

    def _events(self, state: State) -> Iterator[Step]:
        for message in sorted(set(state.to_inventory)):
            after = state._replace(to_inventory=_without(state.to_inventory, message))
            yield from self._delivered(state, message, self._at_inventory(after, message), "to_inventory")
        for message in sorted(set(state.to_orders)):
            after = state._replace(to_orders=_without(state.to_orders, message))
            yield from self._delivered(state, message, self._at_orders(after, message), "to_orders")

    def _delivered(self, state: State, message: Message, after: State, channel: str) -> Iterator[Step]:
        label = f"{message.type} delivered{' again' if message.was_handled else ''}"
        yield label, after
        if self._may(state, DUPLICATE) and not message.was_handled:
            again = (*getattr(after, channel), message._replace(was_handled=True))
            yield f"{label}, and will be again", _worse(after._replace(**{channel: again}))
        if self._may(state, DEAD_EVENT) and message.type in _ABOUT_CONFIRMATION:
            left = _without(getattr(state, channel), message)
            yield f"{message.type} ends among the dead letters", _worse(state._replace(**{channel: left}))

    def _at_inventory(self, state: State, message: Message) -> State:
        rules, shop = self.bounds.stock, state.shop
        if message.was_handled and rules.inbox:
            return state
        if message.type == events.ORDER_CANCELLED:
            return state._replace(shop=neighbours.cancel(rules, shop, state.phase))
        if message.type == events.ORDER_RETURNED:
            return state._replace(shop=neighbours.take_back(rules, shop, state.phase))
        shop, answer, number = neighbours.confirm(rules, shop, message.reservation, state.phase)
        kind = events.CONFIRMED if answer == DEDUCTED else events.CONFIRMATION_FAILED
        return state._replace(shop=shop, to_orders=(*state.to_orders, Message(kind, number)))

    def _at_orders(self, state: State, message: Message) -> State:
        was_handled = message.was_handled
        event = message._replace(was_handled=False)
        return self._at_once(state, "event", event, was_handled=was_handled)

    def _at_once(self, state: State, kind: str, subject: object, *, was_handled: bool = False) -> State:
        rows, stored, _ = self._service.at_once(kind, subject, state.rows, state.phase, was_handled=was_handled)
        return state._replace(rows=rows, to_inventory=state.to_inventory + stored)

    # ----------------------------------------------------------------- workers

    def _sweeper(self, state: State) -> Iterator[Step]:
        """The sweeper claims the order; a run that is still at work was slower than it may be."""
        order = state.order
        at_work = [number for number, run in enumerate(state.runs) if run.kind in AT_WORK]
        is_full = len(at_work) > 1 or len(state.runs) >= self.bounds.runs
        if order.due_at is None or is_full or not self._is_time_to_sweep(state):
            return
        tables = Tables(state.rows, self.bounds.rows)
        run = self._service.begin("sweep", tables.claim_order(), state.phase)
        claimed = state._replace(rows=tables.rows())
        for number in at_work:
            claimed = _with_run(claimed, number, claimed.runs[number]._replace(is_overtaken=True))
        claimed = claimed._replace(runs=(*claimed.runs, run)) if run else claimed
        if not at_work:
            yield f"sweeper claims the {order.status} order", claimed
        elif self._may(state, PAUSE):
            yield f"sweeper claims the {order.status} order, taking a slow run for dead", _worse(claimed)

    def _is_time_to_sweep(self, state: State) -> bool:
        order = state.order
        if order.payment_status == PaymentStatus.REFUND_PENDING and order.due_at == LATER:
            return self.bounds.gateway_can_void or CAPTURE not in state.wire
        # While an answer is still to come it is asked for again only when it takes very long.
        return order.status != OrderStatus.PLACED or not (state.to_inventory or state.to_orders)

    def _release_worker(self, state: State) -> Iterator[Step]:
        job = state.rows.job
        at_work = sum(run.kind == "release" for run in state.runs)
        is_full = at_work > 1 or len(state.runs) >= self.bounds.runs
        if job is None or job.state != ReleaseState.PENDING or is_full or (at_work and job.next_attempt_at != SOON):
            return
        tables = Tables(state.rows, self.bounds.rows)
        run = self._service.begin("release", tables.claim_job(), state.phase)
        if run is not None:
            yield "release job claimed", state._replace(rows=tables.rows(), runs=(*state.runs, run))

    # ------------------------------------------------------- what happens besides

    def _surroundings(self, state: State) -> Iterator[Step]:
        if state.shop.reserved and state.phase < self.bounds.last_phase:
            passed = state._replace(phase=state.phase + 1)
            if state.phase % 2:
                yield "the hold's time is over", passed
            elif self._may(state, TIME):
                yield "the hold is about to end", _worse(passed)
        if self._may(state, RIVAL) and (shop := neighbours.sell_to_rival(state.shop, state.phase)):
            yield "a competitor buys a unit", _worse(state._replace(shop=shop))
        if self._may(state, RIVAL_GIVES_BACK) and (shop := neighbours.take_back_from_rival(state.shop)):
            yield "a competitor gives a unit back", _worse(state._replace(shop=shop))
        if self._may(state, SLOW_EVENT) and state.order.status == OrderStatus.PLACED and state.order.due_at:
            yield from self._asked_too_early(state)

    def _asked_too_early(self, state: State) -> Iterator[Step]:
        if not state.runs and (state.to_inventory or state.to_orders):
            tables = Tables(state.rows, self.bounds.rows)
            run = self._service.begin("sweep", tables.claim_order(), state.phase)
            runs = (run,) if run else ()
            yield "the confirmation takes too long", _worse(state._replace(rows=tables.rows(), runs=runs))

    def _people(self, state: State) -> Iterator[Step]:
        order, left = state.order, state.left
        if left.cancels and order.status not in _PAST_CANCELLING and not order.cancel_reason:
            spent = state._replace(left=left._replace(cancels=left.cancels - 1))
            yield from self._asked_for("the customer cancels", spent, "cancel")
        if left.repeats and lifecycle.may_try_again(order) and len(state.runs) < self.bounds.runs:
            run = self._service.begin("again", None, state.phase)
            if run is not None:
                spent = left._replace(repeats=left.repeats - 1)
                yield "the customer asks again", state._replace(left=spent, runs=(*state.runs, run))
        if left.returns and order.status == OrderStatus.CONFIRMED:
            spent = state._replace(left=left._replace(returns=left.returns - 1))
            yield from self._asked_for("the customer returns the goods", spent, "return")
        if left.operators:
            yield from self._operator(state._replace(left=left._replace(operators=left.operators - 1)))

    def _asked_for(self, label: str, state: State, kind: str) -> Iterator[Step]:
        after = self._at_once(state, kind, None)
        yield label, after
        if len(after.to_inventory) > len(state.to_inventory) and self._may_lose_events(state):
            yield f"{label}; crash before it is published", _worse(after._replace(to_inventory=state.to_inventory))

    def _operator(self, state: State) -> Iterator[Step]:
        for case in state.rows.cases:
            for action in allowed_actions(case.reason, state.order.status):
                if _is_sensible(action, case, state):
                    command = ResolveReview(case.review_id, action, "seen", case.version, "ada")
                    run = self._service.begin("resolve", command, state.phase)
                    if run is not None:
                        yield f"an operator: {action} for {case.reason}", state._replace(runs=(*state.runs, run))

    def _may_lose_events(self, state: State) -> bool:
        return not self.bounds.events_are_stored_with_the_change and self._may(state, CRASH)

    def _may(self, state: State, fault: str) -> bool:
        return state.left.faults > 0 and fault in self.bounds.kinds


_ABOUT_CONFIRMATION = (events.CONFIRM_REQUESTED, events.CONFIRMED, events.CONFIRMATION_FAILED)
"""Events that are asked for again when they do not come; other dead letters are a person's to replay."""

_PAST_CANCELLING = ENDED | {OrderStatus.PARTIALLY_RETURNED}


def _is_sensible(action: str, case: Case, state: State) -> bool:
    """Operators look before they say that money was captured or that a hold was given back."""
    if action == ReviewAction.APPROVE and case.reason == ReviewReason.PAYMENT_UNKNOWN:
        return state.till.state == neighbours.CAPTURED
    if action == ReviewAction.MARK_RELEASED:
        return not state.shop.reserved and InventoryCall.RESERVE not in state.wire
    return True


def _may_have_charged(run: Run) -> bool:
    return any(answer in (neighbours.CAPTURED, NO_ANSWER) for _, answer in run.heard)


def _with_run(state: State, number: int, run: Run | None) -> State:
    runs = list(state.runs)
    runs[number : number + 1] = [run] if run else []
    return state._replace(runs=tuple(runs))


def _on_the_wire(state: State, call: str) -> State:
    return state._replace(wire=tuple(sorted((*state.wire, call))))


def _worse(state: State) -> State:
    """One fault fewer is left."""
    return state._replace(left=state.left._replace(faults=state.left.faults - 1))


def _without(messages: tuple[Message, ...], message: Message) -> tuple[Message, ...]:
    rest = list(messages)
    rest.remove(message)
    return tuple(rest)


# ------------------------------------------------------------------- canonical


def canonical(state: State) -> State:
    """The same state under the names that all its equals have: numbers nobody compares with are forgotten."""
    kinds = {run.kind for run in state.runs}
    rows = state.rows
    if "resolve" not in kinds and (rows.cases or rows.last_serial):
        cases = tuple(case._replace(serial=0, version=1) for case in rows.cases)
        rows = rows._replace(cases=cases, last_serial=0)
    if "release" not in kinds and rows.job is not None:
        rows = rows._replace(job=None if rows.job.state == ReleaseState.DONE else replace(rows.job, version=1))
    state = state._replace(
        rows=rows,
        runs=tuple(sorted(state.runs, key=lambda run: run.kind)),
        to_inventory=tuple(sorted(state.to_inventory)),
        to_orders=tuple(sorted(state.to_orders)),
    )
    return _with_small_versions(state)


def _with_small_versions(state: State) -> State:
    versions = sorted({state.order.version}.union(*(run.versions for run in state.runs)))
    if versions[-1] == len(versions):
        return state
    ranks = {version: rank for rank, version in enumerate(versions, 1)}
    rows = state.rows._replace(order=renumbered(state.order, ranks))
    return state._replace(rows=rows, runs=tuple(renumbered(run, ranks) for run in state.runs))
