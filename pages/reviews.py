"""Cases that only a person can decide: what waits, why, for how long, whose it is, and what may be done about it.

Deep link of one case: ``/reviews?case=ID``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from pages.parts import access, actions, address, bulk, bulk_jobs, claims, labels, live, retries
from pages.parts import review_case as work
from pages.parts.widgets import clock, empty, list_filters, orders, paging
from pages.parts.worklist import matching, selection
from services.console.facade import console
from services.console.paging import PAGE_SIZE
from services.console.reviews import POOL, SORTS, CaseFilter, QueuePage, ReviewCase, called_by, narrows_nothing, target
from services.console.status import RESERVE
from services.domain.bulk import BulkAction
from services.domain.orders.model import ReviewReason
from services.domain.reviews import ReviewAction

NAME = "review"
FILTER_KEYS = ("review_state", "q", "reason", "owner", "priority", "product", "sort")
STATES = {"OPEN": "Open", "RESOLVED": "Resolved"}
OWNERS = {"anybody": "Anybody", "mine": "Mine", "unclaimed": "Unclaimed"}
ORDERS = {
    "urgent": "Most urgent",
    "oldest": "Longest waiting",
    "newest": "Newest",
    "units": "Most units at stake",
}
# The parameter of the address that narrows a cause down to one code.
CODE = "code"
GROUPS_SHOWN = 6
WHOLE_PAGE = "reviews_whole_page"


def filters() -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        _text("Search", "q", "Case, order or user id")
        _pick("Cause", "reason", list(ReviewReason), "Every cause")
        _pick("Priority", "priority", list(labels.PRIORITY), "Every priority")
        _text("Product", "product", "Whole product id")
        st.selectbox(
            "Sort",
            list(SORTS),
            format_func=ORDERS.__getitem__,
            key="sort",
            bind="query-params",
            width=list_filters.HALF,
            on_change=_first_page,
        )
        list_filters.search_button("q", "Case, order or user id", _clear)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        _choice("State", "review_state", STATES)
        _choice("Owner", "owner", OWNERS)
    _code_badge()


def _text(label: str, key: str, placeholder: str) -> None:
    st.text_input(
        label,
        key=key,
        type="search",
        placeholder=placeholder,
        bind="query-params",
        width=list_filters.HALF,
        max_chars=128,
        icon=":material/search:",
        on_change=_first_page,
    )


def _pick(label: str, key: str, options: list[str], placeholder: str) -> None:
    st.selectbox(
        label,
        options,
        index=None,
        placeholder=placeholder,
        format_func=_said,
        key=key,
        bind="query-params",
        width=list_filters.HALF,
        on_change=_first_page if key != "reason" else _other_cause,
    )


def _said(option: str) -> str:
    return labels.PRIORITY.get(option) or labels.word(labels.REVIEW, option).text


def _choice(label: str, key: str, options: Mapping[str, str]) -> None:
    st.segmented_control(
        label,
        list(options),
        default=next(iter(options)),
        required=True,
        format_func=options.__getitem__,
        key=key,
        bind="query-params",
        on_change=_first_page,
    )


def _code_badge() -> None:
    if code := _code():
        with st.container(horizontal=True, vertical_alignment="center"):
            st.badge(f"Only {matching.code_text(code)}", icon=":material/filter_alt:", color="blue")
            st.button("Every code", key="drop_code", type="tertiary", icon=":material/close:", on_click=_other_cause)


def _code() -> str:
    return address.get(CODE)[:40]


def _first_page() -> None:
    paging.reset("review_page")


def _other_cause() -> None:
    paging.reset("review_page", CODE)


def _whole_page() -> None:
    """For callbacks inside the live part: the filters stand outside it and have to be drawn again as well."""
    st.session_state[WHOLE_PAGE] = True


def _clear() -> None:
    _whole_page()
    st.session_state.update({"q": "", "reason": None, "owner": "anybody", "priority": None, "product": ""})
    _other_cause()


def _wanted() -> CaseFilter:
    state = st.session_state
    owner = state.get("owner") or "anybody"
    code = _code()
    return CaseFilter(
        state=state.get("review_state") or "OPEN",
        reason=state.get("reason"),
        cause={"": None, matching.ANY_CODE: ""}.get(code, code),
        owner=access.actor() if owner == "mine" else None,
        unclaimed=owner == "unclaimed",
        priority=state.get("priority"),
        product=labels.typed(state.get("product")) or None,
        text=labels.typed(state.get("q")),
        sort=state.get("sort") or SORTS[0],
    )


def _next_button() -> None:
    reason = access.write_block()
    st.button(
        "Next unclaimed",
        key="next_unclaimed",
        icon=":material/skip_next:",
        shortcut="N",
        disabled=reason is not None,
        help=reason
        or "Claims the most urgent case that matches and opens it: the hold that ends first, then priority.",
        on_click=_next,
        args=(_wanted(),),
    )


def _next(wanted: CaseFilter) -> None:
    # The work area stands outside the live part.
    _whole_page()
    work.next_unclaimed(wanted)


def queue() -> None:
    """The cases of one page with their actions, and what they have in common."""
    if st.session_state.pop(WHOLE_PAGE, False):
        st.rerun()
    if not work.asked_for():
        actions.flash()
    wanted, page = _wanted(), paging.number("review_page")
    reading = console().reviews.queue(wanted, page=page)
    place = f"{wanted}/{page}"
    fresh = {case.review.review_id: case for case in reading.value.cases} if reading.value else {}
    shown = selection.hold(NAME, place, fresh)
    # Above everything that comes and goes, so that its key works whatever the page shows.
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        live.as_of(reading, _summary(reading.value, wanted.state) if reading.value else "")
        with st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center"):
            selection.show_new(NAME, place, fresh, shown)
            _next_button()
    bulk_jobs.unended((BulkAction.RESOLVE_REVIEW,))
    if reading.value is None:
        empty.no_source(reading)
        return
    if not shown.rows:
        _nothing(wanted)
        return
    _groups(reading.value)
    if wanted.state == "OPEN":
        if reading.value.calls:
            retries.notice(RESERVE)
        matching.bar(reading.value, wanted)
        _bar(shown.rows, shown.picked)
    with st.container(border=True, gap="small"):
        for review_id, case in shown.rows.items():
            _row(case, gone=review_id in shown.gone, grey=bool(reading.problem))
    paging.numbered("review_page", reading.value.count, PAGE_SIZE, keys=True)
    bulk_jobs.past((BulkAction.RESOLVE_REVIEW,))


def _summary(page: QueuePage, state: str) -> str:
    count = f"{POOL:,} or more" if page.count >= POOL else f"{page.count:,}"
    return f"{count} {'waiting' if state == 'OPEN' else 'resolved'}"


def _nothing(wanted: CaseFilter) -> None:
    if not narrows_nothing(wanted):
        empty.nothing_matches("No case matches. Ids are searched as a whole, not in part.", _clear)
    elif wanted.state == "OPEN":
        empty.nothing_wrong("Nothing waits for a person.")
    else:
        empty.no_data_yet("No case has been resolved yet.")


def _groups(page: QueuePage) -> None:
    """What the matching cases share; a click keeps only those."""
    with st.container(gap=None):
        with _shared("By cause"):
            for group in page.by_cause[:GROUPS_SHOWN]:
                reason, code = group.keys
                named = f" · {labels.plain(code)}" if code else ""
                text = f"{labels.text(labels.REVIEW, reason)}{named} **{group.count:,}**"
                _group_button(text, f"cause_{reason}_{code}", _only_cause, reason, code)
            _more(len(page.by_cause))
        with _shared("By product"):
            for group in page.by_product[:GROUPS_SHOWN]:
                (product,) = group.keys
                _group_button(
                    f"{orders.short(product)} **{group.count:,}**", f"product_{product}", _only_product, product
                )
            _more(len(page.by_product))


def _more(groups: int) -> None:
    if groups > GROUPS_SHOWN:
        st.caption(f"and {groups - GROUPS_SHOWN:,} more", width="content")


def _shared(label: str) -> DeltaGenerator:
    """A line of its own for what is shared, with its label."""
    line = st.container(horizontal=True, gap="small", vertical_alignment="center")
    line.caption(label, width=80)
    return line


def _group_button(text: str, key: str, keep: Callable[..., None], *keys: str) -> None:
    st.button(text, key=key, type="tertiary", help="Keep only these", on_click=keep, args=keys)


def _only_cause(reason: str, code: str) -> None:
    _whole_page()
    st.session_state["reason"] = reason
    _first_page()
    address.put(CODE, code or matching.ANY_CODE)


def _only_product(product: str) -> None:
    _whole_page()
    st.session_state["product"] = product
    _first_page()


def _bar(rows: Mapping[str, ReviewCase], picked: tuple[str, ...]) -> None:
    """Acts on what is picked, one button per action that at least one of the cases allows."""
    cases = [rows[review_id] for review_id in picked]
    block = access.write_block()
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
            allowing = [case for case in cases if action in case.actions and not actions.is_waiting(case.command)]
            call = called_by(action, {case.review.reason for case in allowing})
            if allowing and st.button(
                retries.counted(labels.ACTIONS[action], f"{len(allowing)}", call),
                key=f"bulk_{action}",
                disabled=block is not None,
                help=block,
            ):
                targets = [target(one.review, console().now()) for one in allowing]
                bulk.open_preview(
                    bulk.picked(BulkAction.RESOLVE_REVIEW, action, targets, of=len(cases)), (NAME, picked)
                )
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
                st.markdown(labels.badge(labels.REVIEW, review.reason, grey=grey or gone), width=190)
                st.markdown(f":small[{_standing(case)}]{orders.priority(case.order)}", width="content")
                if mine := claims.said(case):
                    st.markdown(f":small[{mine}]", width="content")
                with st.container(horizontal=True, horizontal_alignment="right"):
                    if gone:
                        st.caption("no longer in this list", width="content")
                    else:
                        work.open_button(case)
            st.caption(
                f"{labels.told(review.detail)} · {orders.items(case.order)} · {orders.order_value(case)}{_hold(case)}"
            )
            if case.command:
                _command(case)


def _command(case: ReviewCase) -> None:
    command = case.command
    assert command is not None  # noqa: S101 - the caller has looked
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f":small[{actions.summary_with_age(command)}]", width="content")
        if actions.can_undo(command):
            actions.undo_button(command, key=f"undo_row_{case.review.review_id}")


def _standing(case: ReviewCase) -> str:
    if case.review.state == "OPEN":
        return f"waits {clock.span(console().now() - case.review.opened_at)}"
    return labels.resolution(case.review.resolution, case.review.resolved_by)


def _hold(case: ReviewCase) -> str:
    expires = case.order.reservation_expires_at
    if not expires or case.review.state != "OPEN" or case.order.inventory_status not in labels.WITH_RESERVATION:
        return ""
    left = expires - console().now()
    return f" · hold ends in {clock.span(left)}" if left.total_seconds() > 0 else " · hold has ended"


frame = live.header("Manual review")
list_filters.restore(*FILTER_KEYS)
filters()
list_filters.remember(*FILTER_KEYS)
live.body(frame, queue)
if opened := work.asked_for():
    work.drawer(opened)
