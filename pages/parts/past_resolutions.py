"""Past resolutions: earlier actions for the same cause, their last actor, and how often each action lasted."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from pages.parts import labels, names
from pages.parts.widgets import clock
from services.console.facade import console
from services.console.releases import PastActions
from services.domain.calls import FailureClass
from services.domain.reviews import ActionSummary


def draw(past: Sequence[ActionSummary], cases: int, cause: str) -> None:
    """Draw past actions on review cases, one row per action, the most frequent first."""
    named = f" with {labels.plain(cause)}" if cause else ""
    if not past:
        st.caption(f"No case like this{named} has been resolved before.")
        return
    st.caption(f"The last {'resolved case' if cases == 1 else f'{cases} resolved cases'} like this{named}:")
    _table(past)


def of_releases(past: PastActions, cause: str) -> None:
    """Draw past actions on release jobs with one cause."""
    if cause == FailureClass.NOT_TRIED:
        st.caption("The job has not failed yet, so it has no cause.")
        return
    named = labels.plain(labels.cause_text(cause))
    if not past.summaries:
        st.caption(f"Nothing has been done yet about a release with the cause: {named}.")
        return
    said = "What was done last" if past.count == 1 else f"The last {past.count} things done"
    st.caption(f"{said} about releases with the cause {named}:")
    _table(past.summaries)


def _table(past: Sequence[ActionSummary]) -> None:
    st.table(
        [_row(one) for one in past],
        border="horizontal",
        hide_index=True,
        alt="What was done the last times this cause came, and how often it lasted",
    )


def _row(one: ActionSummary) -> dict[str, str]:
    decided, why = one.lasted + one.failed, one.last.why
    share = f"{one.lasted} of {decided}" if decided else "not known yet"
    reason = f": {labels.plain(names.RESOLUTION_REASONS.get(why, why))}" if why else ""
    return {
        "Action": names.PAST_ACTIONS.get(one.action, labels.plain(one.action)),
        "Times": str(one.times),
        "Lasted": f"{share}, {one.undecided} under way" if decided and one.undecided else share,
        "Last": f"{labels.plain(one.last.by)}, {clock.ago(one.last.at, console().now())}{reason}",
    }
