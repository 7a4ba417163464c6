"""The search itself, on spaces small enough to know the answer."""

from __future__ import annotations

import pytest

from tests.model.explore import SpaceTooLarge, explore


def count_up(number):
    return [("one", number + 1), ("two", number + 2)] if number < 10 else []


def test_every_state_is_visited_once():
    found = explore([0], count_up, lambda _: None, lambda number: number >= 10)
    assert (found.states, found.steps, found.problem, found.trace) == (12, 21, None, ())


def test_the_first_problem_comes_with_the_shortest_way_to_it():
    found = explore([0], count_up, lambda number: "seven" if number == 7 else None, lambda number: number >= 10)
    assert (found.problem, found.state, len(found.trace)) == ("seven", 7, 4)
    assert sorted(found.trace) == ["one", "two", "two", "two"]
    assert str(found).startswith("seven (4 steps,")


def test_a_problem_of_the_initial_state_needs_no_steps():
    assert explore([0], count_up, lambda _: "wrong", lambda _: True).trace == ()


def test_a_state_that_cannot_come_to_rest_is_a_problem():
    def with_a_trap(number):
        return [("round", number)] if number == 5 else count_up(number)

    found = explore([0], with_a_trap, lambda _: None, lambda number: number >= 10)
    assert (found.problem, found.state) == ("no state of rest can be reached from here", 5)
    assert len(found.trace) == 3


def test_a_loop_that_can_be_left_is_no_problem():
    found = explore([0], lambda n: [("on", (n + 1) % 5), ("out", 9)] if n < 9 else [], lambda _: None, lambda n: n == 9)
    assert found.problem is None


def test_a_space_without_bounds_is_refused():
    with pytest.raises(SpaceTooLarge):
        explore([0], lambda number: [("on", number + 1)], lambda _: None, lambda _: True, limit=100)
