"""One action on many things: what is frozen is previewed, and nothing that was not shown is ever acted on.

A page makes a Bulk of the ids and versions that it shows and calls ``ask``; see ``pages/releases.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st
from parts import asks, clock, live, person, retries, selection, words

from services.console import SourceUnavailable, console, new_key
from services.console.operations import Bulk, Target, Verb

MAX_TEXT = 500
FEW = 8
"""Rows of a preview that are shown without scrolling."""

Picked = tuple[str, tuple[str, ...]]

RAMP = (
    "Begins with 1, then 2, 5, 20 and the rest; each stage only when the one before is confirmed. It stops itself "
    "when a stage fails. What has changed by its turn is skipped."
)


def picked(verb: str, action: str | None, targets: Sequence[Target], *, of: int = 0) -> Bulk:
    """A frozen selection of things that were ticked one by one; ``of``: how many, the unfit ones included."""
    fit = len(targets)
    said = f"{fit} of {of} selected, the others do not allow it" if of > fit else f"{fit} selected"
    return Bulk(verb, action, tuple(targets), console().now(), said)


def ask(bulk: Bulk, empties: Picked = ("", ())) -> None:
    """Preview an operation; ``empties`` names the list and the ids whose boxes are unticked once it is stored."""
    st.dialog(name(bulk), width="large", icon=":material/playlist_play:")(_preview)(bulk, new_key(), empties)


def name(bulk: Bulk) -> str:
    """The action in words."""
    return words.ACTIONS.get(bulk.action or "") or words.KINDS.get(bulk.verb, bulk.verb)


def _preview(bulk: Bulk, key: str, empties: Picked) -> None:
    number = len(bulk.targets)
    seen = clock.at(bulk.seen_at, console().now())
    st.markdown(
        f"**{name(bulk)}: {_count(number)}** · {words.plain(bulk.filter)}. "
        f"{words.CONSEQUENCES.get(bulk.action or bulk.verb, '')}"
    )
    st.dataframe(
        [_row(target) for target in bulk.targets],
        hide_index=True,
        height="content" if number <= FEW else 320,
        alt=f"The {number} things acted on",
    )
    st.caption(f":material/lock_clock: As of {seen}; what comes later is not included. {RAMP}")
    if bulk.verb == Verb.RETRY_RELEASE and retries.is_shut():
        st.info(f"{retries.label('')}: the queue then drains through the half-open budget.", icon=":material/schedule:")
    _form(bulk, key, empties)


def _row(target: Target) -> dict[str, str]:
    cells = {"Id": target.item_id}
    if target.order_id != target.item_id:
        cells["Order"] = target.order_id
    cells |= {"State": target.state.capitalize(), "Version": str(target.version), "Cause": target.cause}
    return cells | ({"Note": target.note} if target.note else {})


def _form(bulk: Bulk, key: str, empties: Picked) -> None:
    block = live.write_block()
    number = len(bulk.targets)
    with st.form(f"form_{key}", border=False):
        label = _reason_label(bulk)
        st.text_area(label, key=f"note_{key}", max_chars=MAX_TEXT, required=bulk.is_irreversible)
        if bulk.is_irreversible and number > 1:
            st.text_input(f"Type {number} to confirm", key=f"count_{key}", width=200)
        clicked = st.form_submit_button(
            f"{name(bulk)}: {_count(number)}",
            type="primary",
            key=f"do_{key}",
            disabled=block is not None,
            on_click=_submit,
            args=(bulk, key, empties),
        )
    if complaint := st.session_state.get(f"complaint_{key}") or block:
        st.error(complaint, icon=":material/error:")
    elif clicked:
        st.rerun()
    elif remark := live.write_note():
        st.caption(f":material/info: {remark}")


def _reason_label(bulk: Bulk) -> str:
    if bulk.verb == Verb.MARK_RELEASED:
        return "Proof (where you saw it, a ticket, a name)"
    return "Reason" if bulk.is_irreversible else "Reason (optional)"


def _submit(bulk: Bulk, key: str, empties: Picked) -> None:
    note = str(st.session_state.get(f"note_{key}") or "").strip()[:MAX_TEXT]
    st.session_state[f"complaint_{key}"] = _complaint(bulk, key, note) or _store(bulk, key, note, empties)


def _complaint(bulk: Bulk, key: str, note: str) -> str | None:
    number = len(bulk.targets)
    typed = str(st.session_state.get(f"count_{key}") or "").strip()
    if bulk.is_irreversible and not note:
        return "A reason is needed; it stays with the orders."
    if bulk.is_irreversible and number > 1 and typed != str(number):
        return f"Type {number} to confirm; nothing was stored."
    return None


def _store(bulk: Bulk, key: str, note: str, empties: Picked) -> str | None:
    try:
        commit = console().operations.start(bulk, note, actor=person.actor(), operation_id=key)
    except SourceUnavailable as error:
        return f"{error} Nothing was stored."
    seen = clock.at(bulk.seen_at, console().now())
    drift = f". Since {seen}: {commit.sentence}" if commit.sentence else ""
    st.session_state[asks.FLASH] = (f"{name(bulk)}, {_count(len(bulk.targets))}: stored{drift}", ":material/schedule:")
    selection.pick_none(*empties)
    return None


def _count(number: int) -> str:
    return f"{number:,} {'item' if number == 1 else 'items'}"
