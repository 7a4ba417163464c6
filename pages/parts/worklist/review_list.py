"""The rows of the Manual review page: groups, the selection bar, and one case."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import streamlit as st

from pages.parts import access, actions, bulk, labels, names, retries, selection
from pages.parts import review_case as work
from pages.parts.widgets import clock, orders
from services.console.facade import console
from services.console.reviews import QueuePage, ReviewCase, target
from services.domain.bulk import BulkAction
from services.domain.reviews import ReviewAction, ReviewState, called_by
from state.review_queue import Group

NAME = "review"
GROUPS_SHOWN = 6


def groups(page: QueuePage, keep_cause: Callable[[str, str], None], keep_product: Callable[[str], None]) -> None:
    """Draw the causes and products of the matching cases. A click keeps only the cases of one cause or product."""
    with st.container(gap=None):
        _groups("cause", page.by_cause, _cause, keep_cause)
        _groups("product", page.by_product, orders.short, keep_product)


def _groups(kind: str, groups: Sequence[Group], text: Callable[..., str], keep: Callable[..., None]) -> None:
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.caption(f"By {kind}", width=80)
        for group in groups[:GROUPS_SHOWN]:
            label, key = f"{text(*group.keys)} **{group.count:,}**", "_".join((kind, *group.keys))
            st.button(label, key=key, type="tertiary", help="Keep only these", on_click=keep, args=group.keys)
        if len(groups) > GROUPS_SHOWN:
            st.caption(f"and {len(groups) - GROUPS_SHOWN:,} more", width="content")


def _cause(reason: str, code: str) -> str:
    return f"{labels.text(labels.REVIEW, reason)}{f' · {labels.plain(code)}' if code else ''}"


def selection_bar(rows: Mapping[str, ReviewCase], picked: tuple[str, ...]) -> None:
    """One button for each action that at least one of the selected cases allows."""
    selection.bar(NAME, list(rows), list(rows), picked, partial(_act_on, [rows[one] for one in picked], picked))


def _act_on(cases: list[ReviewCase], picked: tuple[str, ...]) -> None:
    for action in ReviewAction:
        allowing = [case for case in cases if action in case.actions and not actions.is_waiting(case.command)]
        call = called_by(action, {case.review.reason for case in allowing})
        if allowing and access.button(
            retries.counted(names.ACTIONS[action], f"{len(allowing)}", call), f"bulk_{action}"
        ):
            targets = [target(one.review, console().now()) for one in allowing]
            chosen = bulk.picked(BulkAction.RESOLVE_REVIEW, action, targets, of=len(cases))
            bulk.open_preview(chosen, (NAME, picked))


def draw(case: ReviewCase, *, gone: bool, grey: bool) -> None:
    """One case with its order, owner, detail and last command."""
    review = case.review
    with st.container(horizontal=True, gap="small", key=f"case_{review.review_id}"):
        if review.state == ReviewState.OPEN:
            selection.box(NAME, review.review_id, f"Select {review.review_id}", disabled=gone)
        with st.container(width="stretch", gap="xxsmall"):
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                orders.link(review.order_id)
                st.markdown(labels.badge(labels.REVIEW, review.reason, grey=grey or gone), width=190)
                st.markdown(f":small[{_standing(case)}]{orders.priority(case.order)}", width="content")
                if mine := work.claimed(case):
                    st.markdown(f":small[{mine}]", width="content")
                with st.container(horizontal=True, horizontal_alignment="right"):
                    if gone:
                        st.caption("no longer in this list", width="content")
                    else:
                        work.open_button(case)
            st.caption(
                f"{labels.sentence(review.detail)} · {orders.items(case.order)} · {orders.order_value(case)}"
                f"{orders.reservation_left(case.order) if review.state == ReviewState.OPEN else ''}"
            )
            actions.draw(case.command, f"undo_row_{review.review_id}")


def _standing(case: ReviewCase) -> str:
    if case.review.state == ReviewState.OPEN:
        return f"waits {clock.span(console().now() - case.review.opened_at)}"
    return labels.resolution(case.review.resolution, case.review.resolved_by)
