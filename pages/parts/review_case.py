"""The work area of one review case: reconciliation, allowed actions, past resolutions and undo."""

from __future__ import annotations

from functools import partial

import streamlit as st

from pages.parts import (
    access,
    actions,
    address,
    claims,
    comparison,
    dialogs,
    frame,
    labels,
    names,
    overlay,
    past_resolutions,
    retries,
)
from pages.parts.widgets import clock, empty, expander, orders, timeline
from services.console.cache import Reading
from services.console.facade import console, same_sight_key
from services.console.reviews import CaseView, ReviewCase
from services.domain.errors import ValidationFailed
from services.domain.orders.model import ReleaseState
from services.domain.reconciliation import what_a_retry_does, why_not_retry
from services.domain.resolution_reasons import REASONS, needs_reason
from services.domain.reviews import ReviewAction, ReviewState, called_by
from services.metrics.trends import RELEASE
from state.review_queue import CaseFilter

CASE = "case"
"""The parameter of the address that opens a case."""

MAX_NOTE = 500
TRIED_AGAIN = (ReviewAction.RETRY_RESERVATION, ReviewAction.RECONFIRM, ReviewAction.RETRY_STEP)
"""Actions with the keyboard shortcut T. They only retry, and a case allows one of them."""


def asked_for() -> str:
    return address.get(CASE)[:128]


def close(review_id: str) -> None:
    """Close the work area of a case. The work area of another case, opened in the meantime, stays open."""
    if asked_for() == review_id:
        address.drop(CASE)
        expander.reset()
        st.session_state.pop(comparison.ASKED, None)


def open_button(case: ReviewCase) -> None:
    """Draw the button that opens the case. It runs the whole page again: the work area is outside the live part."""
    review_id = case.review.review_id
    if st.button("Open case", key=f"open_{review_id}", icon=":material/side_navigation:"):
        address.put(CASE, review_id)
        st.rerun()


def drawer(review_id: str) -> None:
    """Draw the work area at the side of the page. Its refreshes keep typed text."""
    title = f"Case {labels.plain(review_id)}"
    close_it = partial(close, review_id)
    overlay.drawer(title, _refreshing, review_id, icon=":material/rate_review:", on_dismiss=close_it)


def _refreshing(review_id: str) -> None:
    overlay.refreshing(_work_area, review_id)


def _work_area(review_id: str) -> None:
    actions.flash()
    reading = console().reviews.case(review_id)
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        if reading.value is not None:
            review = reading.value.case.review
            frame.as_of(reading, f"version {review.version}")
        dialogs.back("close_case", partial(close, review_id))
    if reading.value is None:
        _missing(review_id, reading)
        return
    access.refusal()
    view, grey = reading.value, bool(reading.problem)
    _head(reading)
    comparison.draw(view.case.order, view.lookup, advice=view.advice, review_id=review_id, grey=grey)
    _actions(view)
    with st.expander("The last times this cause came", expanded=True, icon=":material/history:"):
        past_resolutions.draw(view.past_resolutions, view.past_count, view.case.review.cause)
    with st.expander("Timeline", expanded=True, icon=":material/timeline:"):
        timeline.draw(view.timeline, reading)


def _missing(review_id: str, reading: Reading[CaseView]) -> None:
    if reading.as_of is None:
        empty.no_source(reading, is_alone=True)
    else:
        frame.as_of(reading)
        empty.nothing_matches(f"No case {labels.plain(review_id)} exists.")


def _head(reading: Reading[CaseView]) -> None:
    view = reading.value
    assert view is not None  # noqa: S101 - the caller has looked
    case, now = view.case, console().now()
    review = case.review
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(labels.badge(labels.REVIEW, review.reason, grey=bool(reading.problem)), width="content")
        waits = f"waits {clock.span(now - review.opened_at)}" if review.state == ReviewState.OPEN else _ended(case)
        st.markdown(f"{waits}{orders.priority(case.order)}", width="content")
        orders.link(review.order_id)
    facts = (labels.plain(case.order.user_id), orders.items(case.order), f"at stake {orders.order_value(case)}")
    st.markdown(f"{labels.sentence(review.detail)}  \n:small[:gray[{' · '.join(facts)}]]")
    if review.state == ReviewState.OPEN:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(claims.said(case) or ":gray[Nobody has claimed it]", width="content")
            claims.buttons(case)


def _ended(case: ReviewCase) -> str:
    review = case.review
    why = names.RESOLUTION_REASONS.get(review.resolution_reason or "", "")
    explained = ": ".join(filter(None, (why, labels.plain(review.note or ""))))
    ended = labels.resolution(review.resolution, review.resolved_by)
    return f"{ended}{f' ({explained})' if explained else ''}"


def _actions(view: CaseView) -> None:
    case = view.case
    if case.command:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f":small[{actions.summary(case.command)}]", width="content")
            if actions.can_undo(case.command):
                actions.undo_button(case.command, key=f"undo_{case.review.review_id}")
    if case.review.state != ReviewState.OPEN:
        return
    offered = [*view.actions.allowed, *view.actions.refused]
    if not offered:
        st.caption("The order has moved on; the case will close.")
        return
    _explanation(case, offered)
    reason = _why_not(case)
    with st.container(horizontal=True, gap="small", key=f"actions_{case.review.review_id}"):
        for number, action in enumerate(offered):
            refused = reason or view.actions.refused.get(action)
            st.button(
                retries.named(names.ACTIONS[action], called_by(action, [case.review.reason])),
                key=f"{action}_{case.review.review_id}",
                type="primary" if number == 0 and not refused else "secondary",
                disabled=refused is not None,
                help=refused or names.CONSEQUENCES[action],
                on_click=_resolve,
                args=(case, action, _key(case, action)),
                shortcut="T" if action in TRIED_AGAIN else None,
            )
        if view.release and view.release.state != ReleaseState.DONE:
            _retry_release(view)
    for action, why in view.actions.refused.items():
        st.caption(f":material/block: {names.ACTIONS[action]}: {why}")
    if complaint := st.session_state.get(f"complaint_{case.review.review_id}"):
        st.error(complaint, icon=":material/error:")
    elif note := access.write_note():
        st.caption(f":material/info: {note}")


def _why_not(case: ReviewCase) -> str | None:
    waiting = "A command on this case is under way." if actions.is_waiting(case.command) else None
    return access.write_block() or claims.why_not_resolve(case) or waiting


def _explanation(case: ReviewCase, offered: list[ReviewAction]) -> None:
    """Draw the inputs for reason and note. The action decides which are required. A click reports a missing one."""
    review_id = case.review.review_id
    fitting = dict.fromkeys(reason for action in offered for reason in REASONS.get(action, ()))
    needed = [names.ACTIONS[action] for action in offered if needs_reason(case.review.reason, action)]
    hint = f"Needed for: {', '.join(needed)}." if needed else "Optional."
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        if fitting:
            st.selectbox(
                "Resolution reason",
                list(fitting),
                index=None,
                key=f"why_{review_id}",
                placeholder="Choose",
                format_func=lambda reason: names.RESOLUTION_REASONS[reason],
                help=hint,
                width=240,
            )
        st.text_area("Note", key=f"note_{review_id}", max_chars=MAX_NOTE, height=68, help=hint)


def _key(case: ReviewCase, action: str) -> str:
    return same_sight_key(f"resolve_review/{action}", case.review.review_id, case.review.version, case.command)


def _resolve(case: ReviewCase, action: str, key: str) -> None:
    review_id = case.review.review_id
    note = str(st.session_state.get(f"note_{review_id}") or "").strip()
    why = st.session_state.get(f"why_{review_id}")
    # The chosen reason is dropped if it fits only another action of the case.
    reason = str(why) if why in REASONS.get(action, ()) else None
    complaint = None
    try:
        actions.store(
            lambda actor: console().reviews.resolve(
                case.review, action, note=note, reason=reason, actor=actor, command_id=key
            )
        )
    except ValidationFailed as error:
        problem = error.details["problems"][0]
        complaint = (
            f"{names.FIELDS[problem['field']]} {problem['value']!r} is not valid; allowed: {problem['allowed']}."
        )
    st.session_state[f"complaint_{review_id}"] = complaint


def _retry_release(view: CaseView) -> None:
    job = view.release
    assert job is not None  # noqa: S101 - the caller has looked
    waiting = "A retry is under way." if actions.is_waiting(view.release_command) else None
    reason = access.write_block() or claims.why_not_resolve(view.case) or waiting or why_not_retry(view.lookup.stock)
    key = same_sight_key("retry_release", job.order_id, job.version, view.release_command)
    st.button(
        retries.named("Retry release", RELEASE),
        key=f"retry_release_{job.order_id}",
        icon=":material/replay:",
        disabled=reason is not None,
        help=reason or what_a_retry_does(view.lookup.stock) or "The Inventory Service is asked to give the hold back.",
        on_click=_store_retry,
        args=(job.order_id, key),
    )


def _store_retry(order_id: str, key: str) -> None:
    actions.store(lambda actor: console().releases.retry(order_id, actor=actor, command_id=key))


def next_unclaimed(wanted: CaseFilter) -> None:
    """Callback: claim the most urgent matching case without a claim, and open it."""
    found = console().reviews.next_unclaimed(wanted, leave=asked_for())
    if found.problem:
        st.session_state[actions.FLASH] = (f"Not claimed: {found.problem}", ":material/error:")
    elif found.value is None:
        st.session_state[actions.FLASH] = ("No unclaimed case matches", ":material/check_circle:")
    else:
        close(asked_for())
        claims.claim(found.value.review.review_id, claims.key("claim_review", found.value))
        address.put(CASE, found.value.review.review_id)
