"""Every state that one order can get into: what the design promises holds in all of them, and needs each guard.

The order service in the model is the product's own code; see runs.py.
"""

from __future__ import annotations

import time

import pytest

from services.domain.order import CustomerPriority
from tests.model.explore import Exploration, explore
from tests.model.guards import BASES, GUARDS, SECOND_LINES, Guard
from tests.model.invariants import problem_in
from tests.model.rows import standing_in_for_the_database
from tests.model.world import Bounds, State, World, canonical

WHOLE: dict[str, Bounds] = {
    "anything once": Bounds(faults=1, cancels=1, operators=1),
    "anything twice, nobody acts": Bounds(faults=2, cancels=0, operators=0),
    "anything once, a favoured customer": Bounds(faults=1, cancels=1, operators=0, priority=CustomerPriority.HIGH),
}


def search(bounds: Bounds, guard: Guard | None = None) -> Exploration[State]:
    with standing_in_for_the_database(), pytest.MonkeyPatch.context() as patch:
        if guard is not None:
            guard.patch(patch)
            bounds = guard.off(bounds)
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


@pytest.mark.parametrize("base", BASES)
def test_a_world_in_which_guards_are_tried_is_sound_as_long_as_they_are_on(base):
    found = search(BASES[base])
    assert found.problem is None, str(found)


@pytest.mark.parametrize("guard", GUARDS)
def test_removing_one_guard_breaks_an_invariant(guard):
    found = search(BASES[GUARDS[guard].base], GUARDS[guard])
    assert found.problem is not None, f"{found.states} states without {guard}, and nothing went wrong"


@pytest.mark.parametrize("guard", SECOND_LINES)
def test_removing_a_second_line_leaves_the_others_in_place(guard):
    found = search(BASES[SECOND_LINES[guard].base], SECOND_LINES[guard])
    assert found.problem is None, str(found)
