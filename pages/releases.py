"""Release jobs: stock that is to be given back, how often it was tried, and what the last error was."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st
from parts import asks, clock, dialogs, empty, live, orders, paging, selection, words
from parts import filters as kept

from services.console import RELEASE_STATES, ReleaseRow, ReleasesPage, console, same_sight_key

NAME = "release"
DEFAULT = ["PENDING", "FAILED"]


def filters() -> None:
    st.segmented_control(
        "State",
        list(RELEASE_STATES),
        selection_mode="multi",
        default=DEFAULT,
        format_func=lambda state: words.word(words.RELEASE, state).text,
        key="job",
        bind="query-params",
        on_change=paging.reset,
        args=("release_page",),
    )


def _clear() -> None:
    st.session_state["job"] = list(DEFAULT)
    paging.reset("release_page")


def jobs() -> None:
    """The jobs of one page, the most recently touched first."""
    asks.flash()
    states = tuple(st.session_state.get("job") or RELEASE_STATES)
    page = paging.number("release_page")
    reading = console().releases(states=states, page=page)
    if reading.value is None:
        empty.no_source(reading)
        return
    place = f"{states}/{page}"
    fresh = {row.release.order_id: row for row in reading.value.rows}
    shown = selection.hold(NAME, place, fresh)
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        live.as_of(reading, _summary(reading.value))
        selection.show_new(NAME, place, fresh, shown)
    if not shown.rows:
        _nothing(states)
        return
    _bar(shown.rows, shown.picked)
    with st.container(border=True, gap="small"):
        for order_id, row in shown.rows.items():
            _row(row, gone=order_id in shown.gone, grey=bool(reading.problem))
    paging.stepped("release_page", has_more=reading.value.has_more)


def _summary(page: ReleasesPage) -> str:
    return f"{page.counts.get('FAILED', 0):,} failed, {page.counts.get('PENDING', 0):,} pending"


def _nothing(states: tuple[str, ...]) -> None:
    if set(states) >= {"PENDING", "FAILED"}:
        empty.nothing_wrong("Nothing waits to be released.")
    else:
        empty.nothing_matches("No job is in this state.", _clear)


def _can_retry(row: ReleaseRow) -> bool:
    return row.release.state != "DONE" and not asks.is_waiting(row.command)


def _key(row: ReleaseRow) -> str:
    return same_sight_key("retry_release", row.release.order_id, row.release.version, row.command)


def _bar(rows: Mapping[str, ReleaseRow], picked: tuple[str, ...]) -> None:
    chosen = [rows[order_id] for order_id in picked]
    able = [row for row in chosen if _can_retry(row)]
    block = live.write_block()
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
        if st.button(
            f"Retry {len(able)}",
            key="bulk_retry",
            type="primary",
            icon=":material/replay:",
            disabled=block is not None or not able,
            help=block or (None if able else "A retry of each of them is under way."),
        ):
            dialogs.retry_releases(able, {row.release.order_id: _key(row) for row in able})
        st.button(
            "Clear selection",
            key="pick_none_releases",
            type="tertiary",
            on_click=selection.pick_none,
            args=(NAME, list(rows)),
        )


def _row(row: ReleaseRow, *, gone: bool, grey: bool) -> None:
    job = row.release
    touched = clock.ago(job.updated_at, console().now())
    with st.container(horizontal=True, gap="small", key=f"job_{job.order_id}"):
        selection.box(NAME, job.order_id, f"Select {job.order_id}", disabled=gone or job.state == "DONE")
        with st.container(width="stretch", gap="xxsmall"):
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                orders.link(job.order_id)
                st.markdown(words.badge(words.RELEASE, job.state, grey=grey or gone), width=110)
                attempts = f"{job.attempts} {'attempt' if job.attempts == 1 else 'attempts'}"
                st.markdown(f":small[{attempts}{_next(row)} · touched {touched}]", width="content")
                if gone:
                    st.caption("no longer in this list", width="content")
                elif job.state != "DONE":
                    _button(row)
            error = f"{words.plain(job.last_error)} · " if job.last_error else ""
            st.caption(f"{error}{words.plain(job.reason)} · {orders.items(row.order)}")
            if row.command:
                st.markdown(f":small[{asks.state(row.command)}]")


def _next(row: ReleaseRow) -> str:
    due = row.release.next_attempt_at
    if row.release.state != "PENDING" or due is None:
        return ""
    left = due - console().now()
    return f", next in {clock.span(left)}" if left.total_seconds() > 0 else ", next is due"


def _button(row: ReleaseRow) -> None:
    block = live.write_block()
    reason = block or (None if _can_retry(row) else "A command on this job is under way.")
    with st.container(horizontal=True, horizontal_alignment="right"):
        st.button(
            "Retry now",
            key=f"retry_{row.release.order_id}",
            icon=":material/replay:",
            disabled=reason is not None,
            help=reason or live.write_note(),
            on_click=_retry,
            args=(row, _key(row)),
        )


def _retry(row: ReleaseRow, key: str) -> None:
    asks.ask(lambda actor: console().retry_release(row, actor=actor, command_id=key))


frame = live.header("Releases")
kept.restore("job")
filters()
kept.remember("job")
live.body(frame, jobs)
