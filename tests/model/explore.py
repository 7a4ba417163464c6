"""A breadth-first search of every reachable state: the first violation found has the shortest trace there is."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

S = TypeVar("S", bound=Hashable)
Step = tuple[str, S]
"""What happens, and the state it leads to."""


class SpaceTooLarge(AssertionError):
    """More states than were allowed for: the bounds of the model let too much happen."""


@dataclass(frozen=True)
class Exploration(Generic[S]):
    """What a search found."""

    states: int
    steps: int
    problem: str | None
    """The first invariant that does not hold; None: they all hold in every reachable state."""
    trace: tuple[str, ...]
    """The shortest way to the problem."""
    state: S | None
    """The state in which it shows."""

    def __str__(self) -> str:
        lines = [f"{self.problem} ({len(self.trace)} steps, {self.states} states searched)"]
        lines += [f"{number:3}. {label}" for number, label in enumerate(self.trace, 1)]
        return "\n".join([*lines, f"     {self.state}"])


@dataclass
class _Search(Generic[S]):
    """States by number, in the order of their discovery, and how each was reached."""

    numbers: dict[S, int]
    parents: list[tuple[int, str]]
    edges: list[tuple[int, int]]

    def trace(self, number: int) -> tuple[str, ...]:
        labels: list[str] = []
        while number >= 0:
            number, label = self.parents[number]
            labels.append(label)
        return tuple(reversed(labels[:-1]))


def explore(
    initial: Sequence[S],
    successors: Callable[[S], Iterable[Step[S]]],
    problem_in: Callable[[S], str | None],
    is_rest: Callable[[S], bool],
    *,
    limit: int = 200_000,
) -> Exploration[S]:
    """Visit every state; stop at the first problem, or at a state from which no state of rest can be reached."""
    search: _Search[S] = _Search({}, [], [])
    queue: list[S] = []
    for label, state, parent in _arrivals(initial, successors, queue):
        number = search.numbers.get(state)
        if number is not None:
            search.edges.append((parent, number))
            continue
        number = len(queue)
        search.numbers[state] = number
        search.parents.append((parent, label))
        search.edges.append((parent, number))
        queue.append(state)
        if problem := problem_in(state):
            return _found(search, problem, number, state)
        if number >= limit:
            raise SpaceTooLarge(f"more than {limit} states")
    return _without_dead_ends(search, queue, is_rest)


def _arrivals(
    initial: Sequence[S], successors: Callable[[S], Iterable[Step[S]]], queue: list[S]
) -> Iterator[tuple[str, S, int]]:
    """Every step of every state in the queue, which grows meanwhile."""
    for state in initial:
        yield "start", state, -1
    for number, state in enumerate(queue):
        for label, after in successors(state):
            yield label, after, number


def _without_dead_ends(search: _Search[S], states: list[S], is_rest: Callable[[S], bool]) -> Exploration[S]:
    """The whole space holds no problem; it remains to see whether rest can be reached from everywhere."""
    before: list[list[int]] = [[] for _ in states]
    for source, target in search.edges:
        if source >= 0:
            before[target].append(source)
    reaching = {number for number, state in enumerate(states) if is_rest(state)}
    waiting = list(reaching)
    while waiting:
        new = [number for number in before[waiting.pop()] if number not in reaching]
        reaching.update(new)
        waiting += new
    for number, state in enumerate(states):
        if number not in reaching:
            return _found(search, "no state of rest can be reached from here", number, state)
    return Exploration(len(states), len(search.edges), None, (), None)


def _found(search: _Search[S], problem: str, number: int, state: S) -> Exploration[S]:
    return Exploration(len(search.numbers), len(search.edges), problem, search.trace(number), state)
