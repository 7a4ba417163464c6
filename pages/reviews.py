"""Cases that only a person can decide: what waits, why, for how long, and what may be done about it."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st
from parts import asks, bulk, clock, dialogs, empty, live, operations, orders, paging, selection, words
from parts import filters as kept

from services.console import PAGE_SIZE, REVIEW_REASONS, ReviewAction, ReviewCase, ReviewsPage, console
from services.console.operations import Verb

NAME = "review"
FILTER_KEYS = ("review_state", "reason")
STATES = {"OPEN": "Open", "RESOLVED": "Resolved"}


def filters() -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.segmented_control(
            "State",
            list(STATES),
            default="OPEN",
            required=True,
            format_func=STATES.__getitem__,
            key="review_state",
            bind="query-params",
            on_change=_first_page,
        )
        st.selectbox(
            "Cause",
            list(REVIEW_REASONS),
            index=None,
            placeholder="Every cause",
            format_func=lambda reason: words.word(words.REVIEW, reason).text,
            key="reason",
            bind="query-params",
            width=280,
            on_change=_first_page,
        )


def _first_page() -> None:
    paging.reset("review_page")


def _clear() -> None:
    st.session_state["reason"] = None
    paging.reset("review_page")


def queue() -> None:
    """The cases of one page, oldest first, with their actions."""
    asks.flash()
    operations.unended((Verb.RESOLVE_REVIEW,))
    state, reason = st.session_state.get("review_state") or "OPEN", st.session_state.get("reason")
    page = paging.number("review_page")
    reading = console().reviews(state=state, reason=reason, page=page)
    if reading.value is None:
        empty.no_source(reading)
        return
    place = f"{state}/{reason}/{page}"
    fresh = {case.review.review_id: case for case in reading.value.cases}
    shown = selection.hold(NAME, place, fresh)
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        live.as_of(reading, _summary(reading.value, state))
        selection.show_new(NAME, place, fresh, shown)
    if not shown.rows:
        _nothing(state, reason)
        return
    if state == "OPEN":
        _bar(shown.rows, shown.picked)
    with st.container(border=True, gap="small"):
        for review_id, case in shown.rows.items():
            _row(case, gone=review_id in shown.gone, grey=bool(reading.problem))
    paging.numbered("review_page", reading.value.count, PAGE_SIZE)
    operations.past((Verb.RESOLVE_REVIEW,))


def _summary(page: ReviewsPage, state: str) -> str:
    return f"{page.count:,} {'waiting' if state == 'OPEN' else 'resolved'}"


def _nothing(state: str, reason: str | None) -> None:
    if reason:
        empty.nothing_matches("No case has this cause.", _clear)
    elif state == "OPEN":
        empty.nothing_wrong("Nothing waits for a person.")
    else:
        empty.no_data_yet("No case has been resolved yet.")


def _bar(rows: Mapping[str, ReviewCase], picked: tuple[str, ...]) -> None:
    """Acts on what is picked, one button per action that at least one of the cases allows."""
    cases = [rows[review_id] for review_id in picked]
    block = live.write_block()
    with st.container(horizontal=True, vertical_alignment="center", key="review_bar"):
        if not cases:
            st.button(
                "Select all shown",
                key="pick_all_reviews",
                icon=":material/select_all:",
                type="tertiary",
                on_click=selection.pick_all,
                args=(NAME, list(rows)),
            )
            return
        st.markdown(f"**{len(cases)} selected**", width="content")
        for action in ReviewAction:
            allowing = [case for case in cases if action in case.actions and not asks.is_waiting(case.command)]
            if allowing and st.button(
                f"{words.ACTIONS[action]} {len(allowing)}",
                key=f"bulk_{action}",
                disabled=block is not None,
                help=block,
            ):
                targets = [bulk.case(one.review) for one in allowing]
                bulk.ask(bulk.picked(Verb.RESOLVE_REVIEW, action, targets, of=len(cases)), (NAME, picked))
        st.button(
            "Clear selection",
            key="pick_none_reviews",
            type="tertiary",
            on_click=selection.pick_none,
            args=(NAME, list(rows)),
        )


def _row(case: ReviewCase, *, gone: bool, grey: bool) -> None:
    review = case.review
    with st.container(horizontal=True, gap="small", key=f"case_{review.review_id}"):
        if review.state == "OPEN":
            selection.box(NAME, review.review_id, f"Select {review.review_id}", disabled=gone)
        with st.container(width="stretch", gap="xxsmall"):
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                orders.link(review.order_id)
                st.markdown(words.badge(words.REVIEW, review.reason, grey=grey or gone), width=190)
                st.markdown(f":small[{_standing(case)}]{orders.priority(case.order)}", width="content")
                if gone:
                    st.caption("no longer in this list", width="content")
                else:
                    _buttons(case)
            st.caption(f"{words.plain(review.detail)} · {orders.items(case.order)}{_hold(case)}")
            if case.command:
                st.markdown(f":small[{asks.state(case.command)}]")


def _standing(case: ReviewCase) -> str:
    if case.review.state == "OPEN":
        return f"waits {clock.span(console().now() - case.review.opened_at)}"
    return _ended(case)


def _ended(case: ReviewCase) -> str:
    return words.resolution(case.review.resolution, case.review.resolved_by)


def _hold(case: ReviewCase) -> str:
    expires = case.order.reservation_expires_at
    if not expires or case.review.state != "OPEN" or case.order.inventory_status not in words.HELD:
        return ""
    left = expires - console().now()
    return f" · hold ends in {clock.span(left)}" if left.total_seconds() > 0 else " · hold has ended"


def _buttons(case: ReviewCase) -> None:
    block = live.write_block()
    waiting = asks.is_waiting(case.command)
    reason = block or ("A command on this case is under way." if waiting else None)
    with st.container(horizontal=True, horizontal_alignment="right", gap="xsmall"):
        if case.review.state == "OPEN" and not case.actions:
            st.caption("The order has moved on; the case will close.", width="content")
        for number, action in enumerate(case.actions):
            if st.button(
                words.ACTIONS[action],
                key=f"{action}_{case.review.review_id}",
                type="secondary" if number == 0 else "tertiary",
                disabled=reason is not None,
                help=reason or words.CONSEQUENCES[action],
            ):
                dialogs.resolve([case], action)


frame = live.header("Manual review")
kept.restore(*FILTER_KEYS)
filters()
kept.remember(*FILTER_KEYS)
live.body(frame, queue)
