"""Release jobs: stock that is to be given back, by cause, what the latest error was, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import partial

import streamlit as st

from pages.parts import access, actions, address, bulk, bulk_jobs, labels, live, past_resolutions, retries
from pages.parts import release_job as work
from pages.parts.widgets import clock, empty, list_filters, orders, paging
from pages.parts.worklist import selection
from services.console.cache import SourceUnavailable
from services.console.facade import console
from services.console.releases import (
    MAX_ITEMS,
    SORTS,
    STATES,
    CauseGroup,
    ReleaseFilter,
    ReleaseRow,
    ReleasesPage,
    narrows_nothing,
    target,
    why_not_mark,
)
from services.domain.bulk import BulkAction

NAME = "release"
DEFAULT = ["PENDING", "FAILED"]
FILTER_KEYS = ("job", "release_sort", "find")
CAUSE = "cause"
SORT_NAMES = {"newest": "Latest first", "oldest": "Longest untouched first", "attempts": "Most attempts first"}
BULK_ACTIONS = (BulkAction.RETRY_RELEASE, BulkAction.MARK_RELEASED)
GROUPS_SHOWN = 6


def filters() -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.segmented_control(
            "State",
            list(STATES),
            selection_mode="multi",
            default=DEFAULT,
            format_func=lambda state: labels.word(labels.RELEASE, state).text,
            key="job",
            bind="query-params",
            on_change=_first_page,
        )
        st.text_input(
            "Order",
            key="find",
            bind="query-params",
            placeholder="Order id",
            icon=":material/search:",
            type="search",
            max_chars=128,
            width=280,
            on_change=_first_page,
        )
        st.selectbox(
            "Sort",
            list(SORTS),
            format_func=SORT_NAMES.__getitem__,
            key="release_sort",
            bind="query-params",
            width=220,
            on_change=_first_page,
        )
        list_filters.search_button("find", "Order id", _clear)


def _first_page() -> None:
    paging.reset("release_page")


def _clear() -> None:
    st.session_state["job"] = list(DEFAULT)
    st.session_state["find"] = ""
    address.drop(CAUSE)
    _first_page()


def _wanted() -> ReleaseFilter:
    states = tuple(state for state in STATES if state in (st.session_state.get("job") or STATES))
    return ReleaseFilter(states, address.get(CAUSE) or None, labels.typed(st.session_state.get("find")) or None)


def _in_words(wanted: ReleaseFilter) -> str:
    order = f"order {wanted.order_id}" if wanted.order_id else None
    cause = labels.cause_text(wanted.cause) if wanted.cause else None
    parts = [", ".join(labels.texts(labels.RELEASE, wanted.states)), cause, order]
    return "; ".join(part for part in parts if part)


def everything() -> None:
    """Running operations first: whoever comes to this page must see that somebody is at it."""
    if not work.asked_for():
        actions.flash()
    retries.notice()
    bulk_jobs.unended(BULK_ACTIONS)
    jobs()
    bulk_jobs.past(BULK_ACTIONS)


def jobs() -> None:
    """The causes, and the jobs of one page."""
    wanted, page = _wanted(), paging.number("release_page")
    sort = st.session_state.get("release_sort") or SORTS[0]
    reading = console().releases.page(wanted, sort=sort, page=page)
    if reading.value is None:
        empty.no_source(reading)
        return
    _causes(reading.value, wanted, grey=bool(reading.problem))
    place = f"{wanted}/{sort}/{page}"
    fresh = {row.release.order_id: row for row in reading.value.rows}
    shown = selection.hold(NAME, place, fresh)
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        live.as_of(reading, _summary(reading.value))
        selection.show_new(NAME, place, fresh, shown)
    if not shown.rows:
        _nothing(wanted, reading.value)
        return
    _all_matching(reading.value, wanted)
    _selected(shown.rows, shown.picked)
    with st.container(border=True, gap="small"):
        for order_id, row in shown.rows.items():
            _row(row, gone=order_id in shown.gone, grey=bool(reading.problem))
    paging.stepped("release_page", has_more=reading.value.has_more, keys=True)


def _summary(page: ReleasesPage) -> str:
    return f"{page.counts.get('FAILED', 0):,} failed, {page.counts.get('PENDING', 0):,} pending"


def _nothing(wanted: ReleaseFilter, page: ReleasesPage) -> None:
    by_state = wanted.cause is None and wanted.order_id is None
    if by_state and "DONE" not in wanted.states and not any(page.counts.get(state) for state in wanted.states):
        empty.nothing_wrong("Nothing waits to be released.")
    else:
        empty.nothing_matches("No job matches.", _clear)


# -- causes ------------------------------------------------------------------------------------


def _causes(page: ReleasesPage, wanted: ReleaseFilter, *, grey: bool) -> None:
    if not page.groups and wanted.cause is None:
        return
    with st.container(border=True, gap="xsmall"):
        st.markdown("**By cause**")
        for number, group in enumerate(page.groups[:GROUPS_SHOWN]):
            _cause(number, group, is_chosen=wanted.cause is not None and group.cause == wanted.cause, grey=grey)
        left = page.groups[GROUPS_SHOWN:]
        if left:
            count = sum(group.failed + group.pending for group in left)
            st.caption(f"{count:,} jobs of {len(left)} rarer causes")
        if wanted.cause is not None and wanted.cause not in [group.cause for group in page.groups]:
            named = labels.plain(labels.cause_text(wanted.cause))
            st.caption(f"No job has this cause any more: {named}")
    if wanted.cause is not None:
        _past_actions(wanted.cause)


def _past_actions(cause: str) -> None:
    """What helped before, for the one cause that is looked at."""
    reading = console().releases.past_actions(cause)
    if reading.value is not None:
        with st.expander("The last times this cause came", expanded=True, icon=":material/history:"):
            past_resolutions.of_releases(reading.value, cause)


def _cause(number: int, group: CauseGroup, *, is_chosen: bool, grey: bool) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        for state, count in (("FAILED", group.failed), ("PENDING", group.pending)):
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
            on_click=_choose,
            args=(None if is_chosen else group.cause,),
        )


def _choose(cause: str | None) -> None:
    _first_page()
    if cause is None:
        address.drop(CAUSE)
    else:
        address.put(CAUSE, cause)


# -- all that match ----------------------------------------------------------------------------


def _all_matching(page: ReleasesPage, wanted: ReleaseFilter) -> None:
    """Apart from what is picked; never more than a thousand, and never with a filter that narrows nothing."""
    if not page.matching:
        return
    block = access.write_block()
    is_everything = block is None and narrows_nothing(wanted)
    if is_everything:
        block = "Choose a cause, a state or an order first: everything at once is not offered."
    with st.container(horizontal=True, vertical_alignment="center", key="matching_bar"):
        clicked = {
            BulkAction.RETRY_RELEASE: st.button(
                f"{'Queue' if retries.is_shut() else 'Retry'} {_of(page.matching)}",
                key="retry_matching",
                icon=":material/playlist_play:",
                disabled=block is not None,
                help=block,
            ),
            BulkAction.MARK_RELEASED: page.failed > 0
            and st.button(
                f"Mark released {_of(page.failed)}",
                key="mark_matching",
                icon=":material/verified:",
                type="tertiary",
                disabled=block is not None,
                help=block or "With proof; only failed jobs.",
            ),
        }
    if is_everything:
        st.caption(f":material/info: {block}")
    for bulk_action, is_clicked in clicked.items():
        if is_clicked:
            _freeze(bulk_action, wanted)


def _of(matching: int) -> str:
    if matching > MAX_ITEMS:
        return f"the {MAX_ITEMS:,} longest untouched of more than {MAX_ITEMS:,} matching"
    return f"{matching:,} of {matching:,} matching"


def _freeze(bulk_action: str, wanted: ReleaseFilter) -> None:
    try:
        frozen = console().releases.freeze(bulk_action, wanted, _in_words(wanted))
    except SourceUnavailable as error:
        st.toast(str(error), icon=":material/error:")
        return
    if frozen.targets:
        bulk.open_preview(frozen)


# -- what is picked ----------------------------------------------------------------------------


def _can_act(row: ReleaseRow) -> bool:
    return row.release.state != "DONE" and not actions.is_waiting(row.command)


def _selected(rows: Mapping[str, ReleaseRow], picked: tuple[str, ...]) -> None:
    chosen = [rows[order_id] for order_id in picked]
    with st.container(horizontal=True, vertical_alignment="center", key="release_bar"):
        if not chosen:
            st.button(
                "Select all shown",
                key="pick_all_releases",
                icon=":material/select_all:",
                type="tertiary",
                on_click=selection.pick_all,
                args=(NAME, [order_id for order_id, row in rows.items() if row.release.state != "DONE"]),
            )
            return
        st.markdown(f"**{len(chosen)} selected**", width="content")
        able = [row for row in chosen if _can_act(row)]
        _retry_selected(able, picked)
        failed = [row for row in able if row.release.state == "FAILED"]
        if failed:
            _act_on_selected("bulk_mark", "Mark released", BulkAction.MARK_RELEASED, failed, picked)
        st.button(
            "Clear selection",
            key="pick_none_releases",
            type="tertiary",
            on_click=selection.pick_none,
            args=(NAME, list(rows)),
        )


def _retry_selected(rows: list[ReleaseRow], picked: tuple[str, ...]) -> None:
    """Several are previewed; one is simply retried, so that choosing a row and T are a retry by keyboard."""
    label = "Queue" if retries.is_shut() else "Retry"
    if len(rows) != 1:
        _act_on_selected("bulk_retry", label, BulkAction.RETRY_RELEASE, rows, picked)
        return
    (row,) = rows
    work.retry_button(row, "bulk_retry", label=f"{label} 1", shortcut="T", after=partial(_unpick, picked))


def _unpick(picked: tuple[str, ...]) -> None:
    selection.pick_none(NAME, picked)


def _act_on_selected(key: str, label: str, bulk_action: str, rows: list[ReleaseRow], picked: tuple[str, ...]) -> None:
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


# -- one job -----------------------------------------------------------------------------------


def _row(row: ReleaseRow, *, gone: bool, grey: bool) -> None:
    job = row.release
    touched = clock.ago(job.updated_at, console().now())
    with st.container(horizontal=True, gap="small", key=f"job_{job.order_id}"):
        selection.box(NAME, job.order_id, f"Select {job.order_id}", disabled=gone or job.state == "DONE")
        with st.container(width="stretch", gap="xxsmall"):
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                orders.link(job.order_id)
                st.markdown(labels.badge(labels.RELEASE, job.state, grey=grey or gone), width=110)
                attempts = f"{job.attempts} {'attempt' if job.attempts == 1 else 'attempts'}"
                st.markdown(f":small[{attempts}{_next(row)} · touched {touched}]", width="content")
                if gone:
                    st.caption("no longer in this list", width="content")
                elif job.state != "DONE":
                    _buttons(row)
            if job.last_error:
                st.markdown(f":small[**{labels.told(job.last_error)}**]")
            st.caption(f"{labels.plain(job.reason)} · {orders.items(row.order)}{_stock(row)}")
            if row.command:
                st.markdown(f":small[{actions.summary_with_age(row.command)}]")


def _next(row: ReleaseRow) -> str:
    due = row.release.next_attempt_at
    if row.release.state != "PENDING" or due is None:
        return ""
    left = due - console().now()
    return f", next in {clock.span(left)}" if left.total_seconds() > 0 else ", next is due"


def _stock(row: ReleaseRow) -> str:
    """What they said a moment ago, where somebody has asked."""
    if row.stock is None or row.answer is None:
        return ""
    return f" · {labels.text(labels.STOCK_STATE, row.stock).lower()} over there, {_asked(row.answer.asked_at)}"


def _asked(at: datetime) -> str:
    return f"asked {clock.ago(at, console().now())}"


def _buttons(row: ReleaseRow) -> None:
    order_id = row.release.order_id
    with st.container(horizontal=True, horizontal_alignment="right", gap="xsmall"):
        work.open_button(row)
        reason = work.why_not(row) or why_not_mark(row.stock)
        if row.release.state == "FAILED" and st.button(
            "Mark released",
            key=f"mark_{order_id}",
            icon=":material/verified:",
            type="tertiary",
            disabled=reason is not None,
            help=reason or "With proof that nothing is held any more.",
        ):
            work.mark_released(row)
        work.retry_button(row, f"retry_{order_id}")


frame = live.header("Releases")
list_filters.restore(*FILTER_KEYS)
filters()
list_filters.remember(*FILTER_KEYS)
live.body(frame, everything)
if opened := work.asked_for():
    work.drawer(opened)
