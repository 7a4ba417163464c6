"""Starting a bulk job: buttons for all matching items, a preview of frozen items, and the form that starts the job.

A page builds a BulkRequest from the ids and versions that it shows and calls ``open_preview``; see
``pages/releases.py``. Items that were not shown are never acted on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import streamlit as st

from pages.parts import access, bulk_comparison, labels, names, overlay, retries
from pages.parts.dialogs import PROOF, Form
from pages.parts.widgets import clock
from services.console.bulk import BulkRequest, BulkTarget, StartedJob, narrowed
from services.console.facade import console, new_key
from services.domain.bulk import BulkAction
from services.domain.reviews import called_by
from services.metrics.trends import RELEASE
from state.engine.source import SourceUnavailable

EVERY = "1s"
"""Refresh interval of a preview, which refreshes even while the page behind it is paused."""

Picked = tuple[str, tuple[str, ...]]

RAMP = (
    "Begins with 1, then 2, 5, 20 and the rest; each stage only when the one before is confirmed. It stops itself "
    "when a stage fails. What has changed by its turn is skipped."
)


@dataclass(frozen=True)
class MatchingAction:
    """A button that previews one action on all matching items."""

    key: str
    label: str
    freeze: Callable[[], BulkRequest]
    """Freezes the items that match now. Raises SourceUnavailable."""
    help: str | None = None
    icon: str = ":material/playlist_play:"
    type: Literal["secondary", "tertiary"] = "tertiary"


def matching_bar(choices: Sequence[MatchingAction], *, narrow_first: str | None) -> None:
    """Draw the buttons. ``narrow_first`` disables them and is the hint to set a filter first."""
    block = access.write_block()
    hint = narrow_first if block is None and choices else None
    block = block or hint
    with st.container(horizontal=True, vertical_alignment="center", key="matching_bar"):
        clicked = [
            choice
            for choice in choices
            if st.button(
                choice.label,
                key=choice.key,
                icon=choice.icon,
                type=choice.type,
                disabled=block is not None,
                help=block or choice.help,
            )
        ]
    if hint:
        st.caption(f":material/info: {hint}")
    for choice in clicked:
        freeze_and_preview(choice.freeze)


def freeze_and_preview(freeze: Callable[[], BulkRequest]) -> None:
    """Open the preview of the items that match now; without any, nothing happens."""
    try:
        frozen = freeze()
    except SourceUnavailable as error:
        st.toast(str(error), icon=":material/error:")
        return
    if frozen.targets:
        open_preview(frozen)


def picked(bulk_action: str, action: str | None, targets: Sequence[BulkTarget], *, of: int = 0) -> BulkRequest:
    """Freeze selected items. ``of`` is the number of all selected items, with those that do not allow the action."""
    fit = len(targets)
    said = f"{fit} of {of} selected, the others do not allow it" if of > fit else f"{fit} selected"
    return BulkRequest(bulk_action, action, tuple(targets), console().now(), said)


def open_preview(bulk: BulkRequest, empties: Picked = ("", ())) -> None:
    """Open the preview; ``empties`` names the list and the ids whose check boxes are cleared after the start."""
    key = new_key()
    bulk_comparison.begin(bulk, key)
    overlay.show(name(bulk), _refreshing, bulk, key, empties, width="large", icon=":material/playlist_play:")


def name(bulk: BulkRequest) -> str:
    """The label of the action."""
    return labels.bulk_action(bulk.bulk_action, bulk.action)


def call_of(bulk: BulkRequest) -> str | None:
    """The inventory call that the action makes immediately for an item; None if it makes none."""
    if bulk.bulk_action == BulkAction.RESOLVE_REVIEW:
        return called_by(bulk.action, {target.cause for target in bulk.targets})
    return RELEASE if bulk.bulk_action == BulkAction.RETRY_RELEASE else None


def _refreshing(bulk: BulkRequest, key: str, empties: Picked) -> None:
    st.fragment(_preview, run_every=EVERY)(bulk, key, empties)


def _preview(bulk: BulkRequest, key: str, empties: Picked) -> None:
    seen = clock.at(bulk.seen_at, console().now())
    consequences = names.CONSEQUENCES.get(bulk.action or bulk.bulk_action, "")
    what = f"**{name(bulk)}: {labels.count(len(bulk.targets), 'item')}**{_of_orders(bulk)}"
    st.markdown(f"{what} · {labels.plain(bulk.filter)}. {consequences}")
    frozen = bulk_comparison.draw(bulk, key)
    st.caption(f":material/lock_clock: As of {seen}; what comes later is not included. {RAMP}")
    retries.drains(call_of(bulk))
    fit = narrowed(bulk, frozen) if frozen else None
    if fit is not None and not fit.targets:
        st.error("The inventory status rules out every one of them: nothing is left to act on.")
        return
    number = len(fit.targets) if fit else 0
    Form(
        key,
        f"{name(bulk)}: {labels.count(number, 'item')}" if fit else "Comparing with the Inventory Service",
        lambda note: lambda actor: console().bulk.start(fit or bulk, note, actor=actor, job_id=key),
        note=PROOF if bulk.bulk_action == BulkAction.MARK_RELEASED else "Reason",
        required=bulk.is_irreversible,
        typed_count=number if bulk.is_irreversible and number > 1 else None,
        message=lambda job: _message(fit or bulk, job),
        picked=empties,
        is_ready=fit is not None,
    ).draw()


def _message(fit: BulkRequest, job: StartedJob) -> str:
    drift = f". Since {clock.at(fit.seen_at, console().now())}: {job.sentence}" if job.sentence else ""
    left = f", {len(fit.left_out)} left out" if fit.left_out else ""
    return f"{name(fit)}, {labels.count(len(fit.targets), 'item')}{left}: stored{drift}"


def _of_orders(bulk: BulkRequest) -> str:
    """The number of orders as text; empty if each item has its own order."""
    number = len({target.order_id for target in bulk.targets})
    return f" of {labels.count(number, 'order')}" if number < len(bulk.targets) else ""
