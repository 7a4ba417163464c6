"""Every state that one order can get into: what the design promises holds in all of them, and needs each guard.

The order service in the model is the product's own code; see runs.py.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import pytest

from services.domain.orders.model import CustomerPriority, OrderStatus, ReviewReason
from services.orders import sweeper
from tests.model.explore import Exploration, explore
from tests.model.guards import BASES, GUARDS, PATCHED_BASES, SECOND_LINES, Guard, Patch
from tests.model.invariants import problem_in
from tests.model.rows import standing_in_for_the_database
from tests.model.runs import Attempts
from tests.model.world import Bounds, State, World, canonical

PERSON_AT_ONCE = Attempts(reservation=1, payment=1, release=1)

WHOLE: dict[str, Bounds] = {
    "anything once": Bounds(faults=1, cancels=1, operators=1),
    "anything twice, nobody acts": Bounds(faults=2, cancels=0, operators=0),
    "anything twice, a person is asked at once": Bounds(faults=2, cancels=0, operators=1, attempts=PERSON_AT_ONCE),
    "anything twice, a refused customer asks again twice": Bounds(faults=2, cancels=0, operators=0, repeats=2),
    "anything once, a favoured customer": Bounds(faults=1, operators=0, returns=1, priority=CustomerPriority.HIGH),
}
"""Wider bounds (two faults and a cancel: half a million states) take minutes; they were searched by hand."""

UNSEEN: dict[str, set[str]] = {
    "anything once": {
        OrderStatus.RETURNED,
        ReviewReason.AVAILABILITY_UNVERIFIED,
        ReviewReason.CONFIRMATION_TIMEOUT,
        ReviewReason.PAYMENT_UNKNOWN,
        ReviewReason.RELEASE_FAILED,
    },
    "anything twice, nobody acts": {
        OrderStatus.CANCELLED,
        OrderStatus.RETURNED,
        ReviewReason.AVAILABILITY_UNVERIFIED,
        ReviewReason.RELEASE_FAILED,
    },
    "anything twice, a refused customer asks again twice": {
        OrderStatus.CANCELLED,
        OrderStatus.RETURNED,
        ReviewReason.AVAILABILITY_UNVERIFIED,
        ReviewReason.RELEASE_FAILED,
    },
    "anything twice, a person is asked at once": {OrderStatus.RETURNED, ReviewReason.AVAILABILITY_UNVERIFIED},
    "anything once, a favoured customer": {
        ReviewReason.CONFIRMATION_TIMEOUT,
        ReviewReason.PAYMENT_UNKNOWN,
        ReviewReason.RELEASE_FAILED,
    },
}
"""The statuses and cases that lie beyond the bounds of a search."""
EVERYTHING = {*OrderStatus, *ReviewReason} - {
    OrderStatus.PARTIALLY_RETURNED,
    ReviewReason.CONSERVATION_DIFFERENCE,
    ReviewReason.STEP_FAILED,
}
"""Statuses and cases: an order of one unit is returned as a whole, only the audit finds what does not add up, and
no step of the model raises anything unforeseen."""

LONGEST = 30
"""Steps of the longest counterexample that a reader should have to follow."""


def search(bounds: Bounds, *patches: Patch, look: Callable[[State], None] = lambda _: None) -> Exploration[State]:
    def problem(state: State) -> str | None:
        look(state)
        return problem_in(state)

    with standing_in_for_the_database(), pytest.MonkeyPatch.context() as monkeypatch:
        for patch in patches:
            patch(monkeypatch)
        monkeypatch.setattr(sweeper, "CONFIRMATION_REQUESTS", bounds.attempts.confirmation)
        world = World(bounds)
        return explore([canonical(world.initial())], world.successors, problem, lambda state: state.is_quiet)


@pytest.mark.parametrize("name", WHOLE)
def test_every_reachable_state_keeps_every_promise_and_every_status_and_case_is_reached(name, capsys):
    seen: set[str] = set()

    def look(state: State) -> None:
        seen.add(state.order.status)
        seen.update(case.reason for case in state.rows.cases)

    began = time.perf_counter()
    found = search(WHOLE[name], look=look)
    seconds = time.perf_counter() - began
    with capsys.disabled():
        sys.stdout.write(f" [{name}: {found.states} states, {found.steps} steps, {seconds:.1f} s]")
    assert found.problem is None, str(found)
    assert found.states > 5000
    assert seen == EVERYTHING - UNSEEN[name]


def test_no_status_and_no_case_lies_beyond_the_bounds_of_every_search():
    assert UNSEEN.keys() == WHOLE.keys()
    assert set.intersection(*UNSEEN.values()) == set()


def search_without(guard: Guard) -> Exploration[State]:
    return search(guard.off(BASES[guard.base]), *patches_of(guard.base), guard.patch)


def patches_of(base: str) -> list[Patch]:
    return [PATCHED_BASES[base]] if base in PATCHED_BASES else []


@pytest.mark.parametrize("base", BASES)
def test_a_world_in_which_a_guard_is_tried_is_sound_while_the_guard_is_on(base):
    found = search(BASES[base], *patches_of(base))
    assert found.problem is None, str(found)


@pytest.mark.parametrize("guard", GUARDS)
def test_removing_one_guard_breaks_an_invariant(guard):
    found = search_without(GUARDS[guard])
    assert found.problem is not None, f"{found.states} states without {guard!r}, and nothing went wrong"
    assert 0 < len(found.trace) <= LONGEST, str(found)


@pytest.mark.parametrize("guard", SECOND_LINES)
def test_removing_a_second_line_leaves_the_first_in_place(guard):
    found = search_without(SECOND_LINES[guard])
    assert found.problem is None, str(found)
