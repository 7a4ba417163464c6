"""Where the fault lies when events are not published: what may help depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ProblemKind(StrEnum):
    """Whose fault it is."""

    BROKER = "broker"
    """It refuses what is published, or its streams are missing: starting it again may help."""
    DATABASE = "database"
    """The outbox cannot be read or written: the broker is not even asked."""
    OURS = "ours"
    """Publishing raised something unforeseen: that says nothing of the broker."""


@dataclass(frozen=True, slots=True)
class PublishProblem:
    """What is wrong now, in one sentence for the engineer on call."""

    kind: ProblemKind
    reason: str


def worst_kind(problems: list[PublishProblem]) -> ProblemKind | None:
    """The fault that decides what is done: the broker's, where it has one."""
    kinds = [problem.kind for problem in problems]
    return next((one for one in ProblemKind if one in kinds), None)
