"""One review case: claim, reconciliation, allowed actions, past resolutions and undo, in a work area."""

from __future__ import annotations

import streamlit as st

from pages.parts import (
    access,
    actions,
    address,
    comparison,
    frame,
    labels,
    names,
    past_resolutions,
    release_job,
    retries,
)
from pages.parts.widgets import clock, history, orders
from pages.parts.work_area import WorkArea
from services.console.facade import console, same_sight_key
from services.console.reviews import CaseView, ReviewCase
from services.domain.commands import CommandKind
from services.domain.errors import ValidationFailed
from services.domain.orders.model import ReleaseState
from services.domain.reviews import REASONS, ReviewAction, ReviewState, called_by, needs_reason
from services.metrics.trends import RELEASE
from state.review_queue import CaseFilter

AREA = WorkArea("case", "Case", ":material/rate_review:")

MAX_NOTE = 500
TRIED_AGAIN = (ReviewAction.RETRY_RESERVATION, ReviewAction.RECONFIRM, ReviewAction.RETRY_STEP)
"""Actions with the keyboard shortcut T. They only retry, and a case allows one of them."""


def open_button(case: ReviewCase) -> None:
    review_id = case.review.review_id
    if st.button("Open case", key=f"open_{review_id}", icon=":material/side_navigation:"):
        AREA.open(review_id)


def work_area(review_id: str) -> None:
    """Draw the content of the work area."""
    actions.flash()
    reading = console().reviews.case(review_id)
    view, grey = reading.value, bool(reading.problem)
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        if view is not None:
            frame.as_of(reading, f"version {view.case.review.version}")
        AREA.back(review_id)
    if view is None:
        frame.missing(reading, f"No case {labels.plain(review_id)} exists.", is_alone=True)
        return
    access.refusal()
    _head(view.case, grey=grey)
    comparison.draw(view.case.order, view.lookup, advice=view.advice, review_id=review_id, grey=grey)
    _actions(view)
    with st.expander("The last times this cause came", expanded=True, icon=":material/history:"):
        past_resolutions.draw(view.past_resolutions, view.past_count, view.case.review.cause)
    with st.expander("Timeline", expanded=True, icon=":material/timeline:"):
        history.timeline(view.timeline, reading)


def _head(case: ReviewCase, *, grey: bool) -> None:
    review = case.review
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(labels.badge(labels.REVIEW, review.reason, grey=grey), width="content")
        waits = (
            f"waits {clock.span(console().now() - review.opened_at)}"
            if review.state == ReviewState.OPEN
            else _ended(case)
        )
        st.markdown(f"{waits}{orders.priority(case.order)}", width="content")
        orders.link(review.order_id)
    facts = (labels.plain(case.order.user_id), orders.items(case.order), f"order value {orders.order_value(case)}")
    st.markdown(f"{labels.sentence(review.detail)}  \n:small[:gray[{' · '.join(facts)}]]")
    if review.state == ReviewState.OPEN:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(claimed(case) or ":gray[Nobody has claimed it]", width="content")
            _claim_buttons(case)


def _ended(case: ReviewCase) -> str:
    review = case.review
    why = names.RESOLUTION_REASONS.get(review.resolution_reason or "", "")
    explained = ": ".join(filter(None, (why, labels.plain(review.note or ""))))
    ended = labels.resolution(review.resolution, review.resolved_by)
    return f"{ended}{f' ({explained})' if explained else ''}"


def _actions(view: CaseView) -> None:
    case = view.case
    actions.draw(case.command, f"undo_{case.review.review_id}")
    if case.review.state != ReviewState.OPEN:
        return
    offered = [*view.actions.allowed, *view.actions.refused]
    if not offered:
        st.caption("The order has moved on; the case will close.")
        return
    _explanation(case, offered)
    reason = why_not_resolve(case) or actions.if_waiting(case.command, "A command on this case is under way.")
    with st.container(horizontal=True, gap="small", key=f"actions_{case.review.review_id}"):
        for number, action in enumerate(offered):
            refused = reason or view.actions.refused.get(action)
            is_first = number == 0 and not refused and access.write_block() is None
            access.button(
                retries.named(names.ACTIONS[action], called_by(action, [case.review.reason])),
                f"{action}_{case.review.review_id}",
                type="primary" if is_first else "secondary",
                refused=refused,
                hint=names.CONSEQUENCES[action],
                on_click=_resolve,
                args=(case, action, _key(case, action)),
                shortcut="T" if action in TRIED_AGAIN else None,
            )
        if view.release and view.release.state != ReleaseState.DONE:
            key, label = f"retry_release_{view.release.order_id}", retries.named("Retry release", RELEASE)
            command, stock = view.release_command, view.lookup.stock
            release_job.retry_button(view.release, command, stock, key, label, refused=why_not_resolve(case))
    for action, why in view.actions.refused.items():
        st.caption(f":material/block: {names.ACTIONS[action]}: {why}")
    if complaint := st.session_state.get(f"complaint_{case.review.review_id}"):
        st.error(complaint, icon=":material/error:")
    elif note := access.write_note():
        st.caption(f":material/info: {note}")


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


def next_unclaimed(wanted: CaseFilter) -> None:
    """Callback: claim the most urgent matching case without a claim, and open it."""
    found = console().reviews.next_unclaimed(wanted, leave=AREA.opened())
    if found.problem:
        st.session_state[actions.FLASH] = (f"Not claimed: {found.problem}", ":material/error:")
    elif found.value is None:
        st.session_state[actions.FLASH] = ("No unclaimed case matches", ":material/check_circle:")
    else:
        AREA.close(AREA.opened())
        _claim(found.value.review.review_id, _claim_key(CommandKind.CLAIM_REVIEW, found.value), False)
        address.put(AREA.parameter, found.value.review.review_id)


# -- claims ---------------------------------------------------------------------------------------


def claimed(case: ReviewCase) -> str:
    """The owner and the end of the claim as text; empty when the case is not claimed."""
    owner = case.review.owner_at(console().now())
    if owner is None or case.review.claimed_until is None:
        return ""
    who = "you" if owner == access.actor() else labels.plain(owner)
    return f":material/person_pin: {who} until {clock.at(case.review.claimed_until, console().now())}"


def why_not_resolve(case: ReviewCase) -> str | None:
    """Why the claim of another actor blocks actions on the case; None if it does not."""
    now = console().now()
    owner = case.review.owner_at(now)
    if owner in (None, access.actor()) or access.is_admin():
        return None
    return f"{owner} works on this case until {clock.at(case.review.claimed_until or now, now)}."


def _claim_buttons(case: ReviewCase) -> None:
    """Draw the button to claim or to hand back the case. Only admins can take over the claim of another actor."""
    waiting = actions.if_waiting(case.claim, "A claim is under way.")
    review_id, owner = case.review.review_id, case.review.owner_at(console().now())
    if owner == access.actor():
        access.button(
            "Hand back",
            f"release_claim_{review_id}",
            icon="person_remove",
            refused=waiting,
            hint="Others may take the case then. A claim also ends by itself.",
            on_click=_hand_back,
            args=(review_id, _claim_key(CommandKind.RELEASE_CLAIM, case)),
        )
        return
    access.button(
        "Claim" if owner is None else "Take over",
        f"claim_{review_id}",
        icon="person_pin",
        refused=waiting or why_not_resolve(case),
        hint="The case is yours for 15 minutes, and for longer while you act on it. Key: M",
        shortcut="M" if owner is None else None,
        on_click=_claim,
        args=(review_id, _claim_key(CommandKind.CLAIM_REVIEW, case), owner is not None),
    )


def _claim(review_id: str, command_id: str, take_over: bool) -> None:
    arguments = {"takeOver": True} if take_over else {}
    actions.store(actions.command(CommandKind.CLAIM_REVIEW, review_id, command_id, arguments))


def _hand_back(review_id: str, command_id: str) -> None:
    actions.store(actions.command(CommandKind.RELEASE_CLAIM, review_id, command_id))


def _claim_key(kind: str, case: ReviewCase) -> str:
    """The idempotency key of a command on a claim, derived from the state of the case that the actor sees."""
    # The key contains the owner, so that the same button can store a new claim after a claim has ended.
    owner = case.review.owner_at(console().now())
    sight = f"{case.review.review_id}/{access.actor()}/{owner}/{case.review.claimed_until}"
    return same_sight_key(kind, sight, case.review.version, case.claim)
