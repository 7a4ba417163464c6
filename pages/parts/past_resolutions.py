"""Cause memory: what was done the last times a cause came, by whom, and how often it held."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from pages.parts import clock, labels
from services.console.facade import console
from services.console.releases import NOT_TRIED, Memory
from services.console.reviews import Remembered


def draw(memory: Sequence[Remembered], cases: int, cause: str) -> None:
    """What was done on review cases: one row per move, the most frequent first."""
    named = f" with {labels.plain(cause)}" if cause else ""
    if not memory:
        st.caption(f"No case like this{named} has been resolved before.")
        return
    st.caption(f"The last {'resolved case' if cases == 1 else f'{cases} resolved cases'} like this{named}:")
    _table(memory)


def of_releases(memory: Memory, cause: str | None) -> None:
    """What was done on release jobs with one cause."""
    if cause in (None, NOT_TRIED):
        st.caption("The job has not failed yet, so it has no cause.")
        return
    if not memory.moves:
        st.caption(f"Nothing has been done yet about a release with the cause {labels.plain(cause)}.")
        return
    said = "What was done last" if memory.past == 1 else f"The last {memory.past} things done"
    st.caption(f"{said} about releases with the cause {labels.plain(cause)}:")
    _table(memory.moves)


def _table(memory: Sequence[Remembered]) -> None:
    st.table(
        [_row(one) for one in memory],
        border="horizontal",
        hide_index=True,
        alt="What was done the last times this cause came, and how often it held",
    )


def _row(one: Remembered) -> dict[str, str]:
    return {
        "Move": labels.PAST_MOVES.get(one.move, labels.plain(one.move)),
        "Times": str(one.times),
        "Held": _held(one),
        "Last": f"{labels.plain(one.last.by)}, {clock.ago(one.last.at, console().now())}{_why(one)}",
    }


def _held(one: Remembered) -> str:
    decided = one.held + one.failed
    share = f"{one.held} of {decided}" if decided else "not known yet"
    return f"{share}, {one.undecided} under way" if decided and one.undecided else share


def _why(one: Remembered) -> str:
    why = one.last.why
    return f": {labels.plain(labels.RESOLUTION_REASONS.get(why, why))}" if why else ""
