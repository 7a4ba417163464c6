"""Every state that one order can get into: what the design promises holds in all of them, and needs each guard.

The order service in the model is the product's own code; see runs.py.
"""

from __future__ import annotations

import time

import pytest

from services.domain.order import CustomerPriority
from tests.model.explore import Exploration, explore
from tests.model.guards import BASES, GUARDS, PATCHED_BASES, SECOND_LINES, Guard, Patch
from tests.model.invariants import problem_in
from tests.model.rows import standing_in_for_the_database
from tests.model.world import Bounds, State, World, canonical

WHOLE: dict[str, Bounds] = {
    "anything once": Bounds(faults=1, cancels=1, operators=1),
    "anything twice, nobody acts": Bounds(faults=2, cancels=0, operators=0),
    "anything once, a favoured customer": Bounds(faults=1, cancels=1, operators=0, priority=CustomerPriority.HIGH),
}


LONGEST = 30
"""Steps of the longest counterexample that a reader should have to follow."""


def search(bounds: Bounds, *patches: Patch) -> Exploration[State]:
    with standing_in_for_the_database(), pytest.MonkeyPatch.context() as monkeypatch:
        for patch in patches:
            patch(monkeypatch)
        world = World(bounds)
        return explore([canonical(world.initial())], world.successors, problem_in, lambda state: state.is_quiet)


@pytest.mark.parametrize("bounds", WHOLE.values(), ids=WHOLE.keys())
def test_every_reachable_state_keeps_every_promise(bounds, capsys):
    began = time.perf_counter()
    found = search(bounds)
    with capsys.disabled():
        print(f" [{found.states} states, {found.steps} steps, {time.perf_counter() - began:.1f} s]", end="")
    assert found.problem is None, str(found)
    assert found.states > 5000


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
