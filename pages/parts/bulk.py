"""The dialog of a bulk job: a preview of frozen items, and the form that starts the job.

A page builds a BulkRequest from the ids and versions that it shows and calls ``open_preview``; see
``pages/releases.py``. Items that were not shown are never acted on.
"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from pages.parts import access, actions, bulk_comparison, labels, names, overlay, retries, selection
from pages.parts.widgets import clock
from services.console.bulk import BulkRequest, BulkTarget, narrowed
from services.console.facade import console, new_key
from services.domain.bulk import BulkAction
from services.domain.reviews import called_by
from services.metrics.trends import RELEASE
from state.engine.source import SourceUnavailable

MAX_TEXT = 500
EVERY = "1s"
"""Refresh interval of a preview, which refreshes even while the page behind it is paused."""

Picked = tuple[str, tuple[str, ...]]

RAMP = (
    "Begins with 1, then 2, 5, 20 and the rest; each stage only when the one before is confirmed. It stops itself "
    "when a stage fails. What has changed by its turn is skipped."
)


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
    return names.ACTIONS.get(bulk.action or "") or labels.kind(bulk.bulk_action)


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
    st.markdown(
        f"**{name(bulk)}: {_count(len(bulk.targets))}**{_of_orders(bulk)} · {labels.plain(bulk.filter)}. {consequences}"
    )
    frozen = bulk_comparison.draw(bulk, key)
    st.caption(f":material/lock_clock: As of {seen}; what comes later is not included. {RAMP}")
    retries.drains(call_of(bulk))
    fit = narrowed(bulk, frozen) if frozen else None
    if fit is not None and not fit.targets:
        st.error("The Inventory Service speaks against every one of them: nothing is left to act on.")
        return
    _form(bulk, fit, key, empties)


def _form(bulk: BulkRequest, fit: BulkRequest | None, key: str, empties: Picked) -> None:
    """Draw the reason, the typed count and the button. ``fit`` is None until the selection is frozen."""
    block = access.write_block()
    number = len(fit.targets) if fit else 0
    with st.form(f"form_{key}", border=False):
        st.text_area(_reason_label(bulk), key=f"note_{key}", max_chars=MAX_TEXT, required=bulk.is_irreversible)
        if bulk.is_irreversible and number > 1:
            st.text_input(f"Type {number} to confirm", key=f"count_{key}", width=200)
        clicked = st.form_submit_button(
            f"{name(bulk)}: {_count(number)}" if fit else "Comparing with the Inventory Service",
            type="primary",
            key=f"do_{key}",
            disabled=block is not None or fit is None,
            on_click=_submit,
            args=(fit, key, empties),
        )
    complained = st.session_state.get(f"complaint_{key}")
    if clicked and not complained:
        overlay.close()
        st.rerun()
    elif complaint := complained or block:
        st.error(complaint, icon=":material/error:")
    elif remark := access.write_note():
        st.caption(f":material/info: {remark}")


def _reason_label(bulk: BulkRequest) -> str:
    if bulk.bulk_action == BulkAction.MARK_RELEASED:
        return "Proof (where you saw it, a ticket, a name)"
    return "Reason" if bulk.is_irreversible else "Reason (optional)"


def _submit(fit: BulkRequest | None, key: str, empties: Picked) -> None:
    if fit is None:
        return
    note = str(st.session_state.get(f"note_{key}") or "").strip()[:MAX_TEXT]
    st.session_state[f"complaint_{key}"] = _complaint(fit, key, note) or _store(fit, key, note, empties)


def _complaint(fit: BulkRequest, key: str, note: str) -> str | None:
    number = len(fit.targets)
    typed = str(st.session_state.get(f"count_{key}") or "").strip()
    if fit.is_irreversible and not note:
        return "A reason is needed; it stays with the orders."
    if fit.is_irreversible and number > 1 and typed != str(number):
        return f"Type {number} to confirm; nothing was stored."
    return None


def _store(fit: BulkRequest, key: str, note: str, empties: Picked) -> str | None:
    try:
        commit = console().bulk.start(fit, note, actor=access.actor(), job_id=key)
    except SourceUnavailable as error:
        return f"{error} Nothing was stored."
    seen = clock.at(fit.seen_at, console().now())
    drift = f". Since {seen}: {commit.sentence}" if commit.sentence else ""
    left = f", {len(fit.left_out)} left out" if fit.left_out else ""
    st.session_state[actions.FLASH] = (
        f"{name(fit)}, {_count(len(fit.targets))}{left}: stored{drift}",
        ":material/schedule:",
    )
    selection.pick_none(*empties)
    return None


def _of_orders(bulk: BulkRequest) -> str:
    """The number of orders as text; empty if each item has its own order."""
    number = len({target.order_id for target in bulk.targets})
    return f" of {number:,} {'order' if number == 1 else 'orders'}" if number < len(bulk.targets) else ""


def _count(number: int) -> str:
    return f"{number:,} {'item' if number == 1 else 'items'}"
