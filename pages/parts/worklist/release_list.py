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


def causes(page: ReleasesPage, chosen: str | None, choose: Callable[[str | None], None], *, grey: bool) -> None:
    """The causes of unfinished jobs with a button each; ``choose`` is called with the cause to keep, or None."""
    if not page.groups and chosen is None:
        return
    with st.container(border=True, gap="xsmall"):
        st.markdown("**By cause**")
        for number, group in enumerate(page.groups[:GROUPS_SHOWN]):
            _cause(number, group, choose, is_chosen=chosen is not None and group.cause == chosen, grey=grey)
        left = page.groups[GROUPS_SHOWN:]
        if left:
            count = sum(group.failed + group.pending for group in left)
            st.caption(f"{count:,} jobs of {len(left)} rarer causes")
        if chosen is not None and chosen not in [group.cause for group in page.groups]:
            named = labels.plain(labels.cause_text(chosen))
            st.caption(f"No job has this cause any more: {named}")
    if chosen is not None:
        _past_actions(chosen)


def _past_actions(cause: str) -> None:
    """Past actions on jobs with the chosen cause."""
    reading = console().releases.past_actions(cause)
    if reading.value is not None:
        with st.expander("The last times this cause came", expanded=True, icon=":material/history:"):
            past_resolutions.of_releases(reading.value, cause)


def _cause(
    number: int, group: CauseGroup, choose: Callable[[str | None], None], *, is_chosen: bool, grey: bool
) -> None:
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
            args=(None if is_chosen else group.cause,),
        )


def _can_act(row: ReleaseRow) -> bool:
    return row.release.state != ReleaseState.DONE and not actions.is_waiting(row.command)


def selection_bar(rows: Mapping[str, ReleaseRow], picked: tuple[str, ...]) -> None:
    """Draw the actions on the selected jobs."""
    selectable = [order_id for order_id, row in rows.items() if row.release.state != ReleaseState.DONE]
    able = [row for order_id in picked if _can_act(row := rows[order_id])]
    selection.bar(NAME, list(rows), selectable, picked, partial(_act_on, able, picked))


def _act_on(able: list[ReleaseRow], picked: tuple[str, ...]) -> None:
    _retry_selected(able, picked)
    failed = [row for row in able if row.release.state == ReleaseState.FAILED]
    if failed:
        _preview_button("bulk_mark", "Mark released", BulkAction.MARK_RELEASED, failed, picked)


def _retry_selected(rows: list[ReleaseRow], picked: tuple[str, ...]) -> None:
    """Draw the retry button. Several jobs are previewed first; one job is retried immediately, with the key T."""
    label = "Queue" if retries.is_shut() else "Retry"
    if len(rows) != 1:
        _preview_button("bulk_retry", label, BulkAction.RETRY_RELEASE, rows, picked)
        return
    (row,) = rows
    work.retry_button(
        row, "bulk_retry", label=f"{label} 1", shortcut="T", after=partial(selection.pick_none, NAME, picked)
    )


def _preview_button(key: str, label: str, bulk_action: str, rows: list[ReleaseRow], picked: tuple[str, ...]) -> None:
    block = access.write_block()
    if st.button(
        f"{label} {len(rows)}",
        key=key,
        type="primary" if bulk_action == BulkAction.RETRY_RELEASE else "secondary",
        icon=":material/replay:" if bulk_action == BulkAction.RETRY_RELEASE else ":material/verified:",
        disabled=block is not None or not rows,
        help=block or (None if rows else "A command on each of them is under way."),
        shortcut="T" if bulk_action == BulkAction.RETRY_RELEASE else None,
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
                attempts = f"{job.attempts} {'attempt' if job.attempts == 1 else 'attempts'}"
                st.markdown(f":small[{attempts}{_next(row)} · touched {touched}]", width="content")
                if gone:
                    st.caption("no longer in this list", width="content")
                elif job.state != ReleaseState.DONE:
                    _buttons(row)
            if job.last_error:
                st.markdown(f":small[**{labels.sentence(job.last_error)}**]")
            st.caption(f"{labels.plain(job.reason)} · {orders.items(row.order)}{_stock(row)}")
            if row.command:
                st.markdown(f":small[{actions.summary(row.command)}]")


def _next(row: ReleaseRow) -> str:
    due = row.release.next_attempt_at
    if row.release.state != ReleaseState.PENDING or due is None:
        return ""
    left = due - console().now()
    return f", next in {clock.span(left)}" if left.total_seconds() > 0 else ", next is due"


def _stock(row: ReleaseRow) -> str:
    """The stock state of the last lookup as text, while the lookup is fresh."""
    if row.stock is None or row.answer is None:
        return ""
    asked = f"asked {clock.ago(row.answer.asked_at, console().now())}"
    return f" · {labels.text(labels.STOCK_STATE, row.stock).lower()} over there, {asked}"


def _buttons(row: ReleaseRow) -> None:
    order_id = row.release.order_id
    with st.container(horizontal=True, horizontal_alignment="right", gap="xsmall"):
        work.open_button(row)
        reason = work.why_not(row) or why_not_mark(row.stock)
        if row.release.state == ReleaseState.FAILED and st.button(
            "Mark released",
            key=f"mark_{order_id}",
            icon=":material/verified:",
            type="tertiary",
            disabled=reason is not None,
            help=reason or "With proof that nothing is held any more.",
        ):
            work.mark_released(row)
        work.retry_button(row, f"retry_{order_id}")
