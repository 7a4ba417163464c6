"""The rows of the Releases page: causes, the selection bar, and one job with its buttons."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import streamlit as st

from pages.parts import access, actions, bulk, labels, past_resolutions, retries, selection
from pages.parts import release_job as work
from pages.parts.widgets import clock, orders
from services.console.facade import console
from services.console.releases import ReleaseRow, ReleasesPage, target
from services.domain.bulk import BulkAction
from services.domain.orders.model import ReleaseState
from services.domain.reconciliation import why_not_mark
from state.releases import CauseGroup

NAME = "release"
GROUPS_SHOWN = 6


def causes(page: ReleasesPage, chosen: str | None, choose: Callable[[str], None], *, grey: bool) -> None:
    """The causes of unfinished jobs with a button each; ``choose`` is called with the cause to keep, or without one."""
    if page.groups or chosen is not None:
        with st.container(border=True, gap="xsmall"):
            st.markdown("**By cause**")
            for number, group in enumerate(page.groups[:GROUPS_SHOWN]):
                _cause(number, group, choose, is_chosen=group.cause == chosen, grey=grey)
            if left := page.groups[GROUPS_SHOWN:]:
                count = sum(group.failed + group.pending for group in left)
                st.caption(f"{count:,} jobs of {len(left)} rarer causes")
            if chosen is not None and chosen not in [group.cause for group in page.groups]:
                st.caption(f"No job has this cause any more: {labels.plain(labels.cause_text(chosen))}")
    past = console().releases.past_actions(chosen).value if chosen is not None else None
    if chosen is not None and past is not None:
        with st.expander("The last times this cause came", expanded=True, icon=":material/history:"):
            past_resolutions.of_releases(past, chosen)


def _cause(number: int, group: CauseGroup, choose: Callable[[str], None], *, is_chosen: bool, grey: bool) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        for state, count in ((ReleaseState.FAILED, group.failed), (ReleaseState.PENDING, group.pending)):
            if count:
                text, icon, color = labels.word(labels.RELEASE, state)
                shade = "gray" if grey else color
                st.markdown(f":{shade}-badge[:material/{icon}: {count:,} {text.lower()}]", width="content")
        st.markdown(labels.plain(labels.cause_text(group.cause)), width="stretch")
        st.caption(f"last {clock.ago(group.last_at, console().now())}", width="content")
        st.button(
            "Show all" if is_chosen else "Only these",
            key=f"cause_{number}",
            icon=":material/filter_alt_off:" if is_chosen else ":material/filter_alt:",
            type="tertiary",
            on_click=choose,
            args=("" if is_chosen else group.cause,),
        )


def selection_bar(rows: Mapping[str, ReleaseRow], picked: tuple[str, ...]) -> None:
    """Draw the actions on the selected jobs."""
    selectable = [order_id for order_id, row in rows.items() if row.release.state != ReleaseState.DONE]
    able = [
        rows[order_id] for order_id in picked if order_id in selectable and not work.why_not(rows[order_id].command)
    ]
    selection.bar(NAME, list(rows), selectable, picked, partial(_act_on, able, picked))


def _act_on(able: list[ReleaseRow], picked: tuple[str, ...]) -> None:
    """Several jobs are previewed first; one job is retried immediately."""
    label = "Queue" if retries.is_shut() else "Retry"
    if len(able) == 1:
        pick_none = partial(selection.pick_none, NAME, picked)
        job, command, stock, key = able[0].release, able[0].command, able[0].stock, "bulk_retry"
        work.retry_button(job, command, stock, key, f"{label} 1", after=pick_none, shortcut="T", is_primary=True)
    else:
        _preview_button("bulk_retry", label, BulkAction.RETRY_RELEASE, able, picked)
    if failed := [row for row in able if row.release.state == ReleaseState.FAILED]:
        _preview_button("bulk_mark", "Mark released", BulkAction.MARK_RELEASED, failed, picked)


def _preview_button(key: str, label: str, bulk_action: str, rows: list[ReleaseRow], picked: tuple[str, ...]) -> None:
    is_retry = bulk_action == BulkAction.RETRY_RELEASE
    if access.button(
        f"{label} {len(rows)}",
        key,
        type="primary" if is_retry else "secondary",
        icon="replay" if is_retry else "verified",
        refused=None if rows else "A command on each of them is under way.",
        shortcut="T" if is_retry else None,
    ):
        bulk.open_preview(bulk.picked(bulk_action, None, [target(row.release) for row in rows]), (NAME, picked))


def draw(row: ReleaseRow, *, gone: bool, grey: bool) -> None:
    """One job with its last error, its stock at the Inventory Service and its buttons."""
    job = row.release
    touched = clock.ago(job.updated_at, console().now())
    with st.container(horizontal=True, gap="small", key=f"job_{job.order_id}"):
        selection.box(NAME, job.order_id, f"Select {job.order_id}", disabled=gone or job.state == ReleaseState.DONE)
        with st.container(width="stretch", gap="xxsmall"):
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                orders.link(job.order_id)
                st.markdown(labels.badge(labels.RELEASE, job.state, grey=grey or gone), width=110)
                st.markdown(f":small[{work.attempts(job)} · touched {touched}]", width="content")
                if gone:
                    st.caption("no longer in this list", width="content")
                elif job.state != ReleaseState.DONE:
                    _buttons(row)
            if job.last_error:
                st.markdown(f":small[**{labels.sentence(job.last_error)}**]")
            st.caption(f"{labels.plain(job.reason)} · {orders.items(row.order)}{_stock(row)}")
            actions.draw(row.command)


def _stock(row: ReleaseRow) -> str:
    """The stock state of the last lookup as text, while the lookup is fresh."""
    if row.stock is None or row.answer is None:
        return ""
    asked = f"asked {clock.ago(row.answer.asked_at, console().now())}"
    return f" · {labels.text(labels.STOCK_STATE, row.stock).lower()} at the Inventory Service, {asked}"


def _buttons(row: ReleaseRow) -> None:
    order_id = row.release.order_id
    with st.container(horizontal=True, horizontal_alignment="right", gap="xsmall"):
        work.open_button(row)
        if row.release.state == ReleaseState.FAILED and access.button(
            "Mark released",
            f"mark_{order_id}",
            icon="verified",
            type="tertiary",
            refused=work.why_not(row.command) or why_not_mark(row.stock),
            hint="With proof that nothing is reserved any more.",
        ):
            work.mark_released(row)
        label = retries.label("Retry now")
        work.retry_button(row.release, row.command, row.stock, f"retry_{order_id}", label)
