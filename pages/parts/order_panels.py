"""Panels of the order page: raw events, facts, review cases, release job, commands."""

from __future__ import annotations

from functools import partial

import streamlit as st

from pages.parts import actions, labels, release_job, review_case
from pages.parts.events import payload_of
from pages.parts.widgets import clock, orders, payloads
from services.console.facade import console
from services.console.orders import OrderView
from services.console.reviews import ReviewCase
from services.domain.reviews import ReviewState
from state.outbox import Outgoing


def events(view: OrderView, *, grey: bool) -> None:
    """The stored outgoing and incoming events."""
    if not (view.sent or view.received):
        return
    with st.container(border=True, gap="xsmall"):
        st.markdown("**Raw events**")
        for row in view.sent:
            label = f"Out: {labels.plain(row.subject)} · {clock.at(row.created_at, console().now())}"
            payloads.expander(label, f"out-{row.id}", partial(_sent, row, grey=grey), is_compact=False)
        for received in view.received:
            again = f" · came again {received.repeats}x" if received.repeats else ""
            outcome = labels.badge(labels.INCOMING, received.outcome, grey=grey) if received.outcome else ""
            at = clock.at(received.received_at, console().now())
            st.markdown(
                f"In: {labels.plain(received.type)} · {at} {outcome} "
                f":small[:gray[event {labels.plain(received.event_id)}{again}; its content is on the timeline]]"
            )


def _sent(row: Outgoing, *, grey: bool) -> None:
    state = labels.badge(labels.OUTGOING, row.outcome, grey=grey)
    st.markdown(f"{state} :small[event {labels.plain(row.event_id)}]")
    payload_of(row)


def facts(view: OrderView) -> None:
    order, now = view.order, console().now()
    end, failure = orders.reservation_end(order), order.failure
    shown = {
        "Customer": f"{labels.plain(order.user_id)}{orders.priority(order)}",
        "Created": clock.both(order.created_at, now),
        "Changed": clock.both(order.updated_at, now),
        "Reservation": labels.plain(order.reservation_id or ""),
        "Reservation ends": clock.at(end, now) if end else "",
        "Confirmed": clock.both(order.confirmed_at, now) if order.confirmed_at else "",
        "Cancelled because": labels.plain(order.cancel_reason or ""),
        "Ended with": labels.plain(f"{failure.get('code')}: {failure.get('message')}") if failure else "",
    }
    with st.container(border=True):
        st.markdown("**Facts**")
        rows = [{"Fact": name, "Value": value} for name, value in shown.items() if value]
        st.table(rows, border="horizontal", hide_index=True, hide_header=True, alt="Facts of the order")
        lines = [
            {
                "Product": labels.plain(line.product_id),
                "Variant": labels.plain(line.variant_id),
                "Quantity": str(line.quantity),
                "Returned": str(line.returned),
            }
            for line in order.lines
        ]
        st.table(lines, border="horizontal", hide_index=True, alt="Lines of the order")
        if trace := console().orders.trace(order):
            st.caption("Trace")
            st.code(trace.trace_id, language=None)
            if trace.url:
                st.link_button("Open the trace", trace.url, icon=":material/timeline:")


def cases(view: OrderView, *, grey: bool) -> None:
    if not view.cases:
        return
    with st.container(border=True):
        st.markdown("**Review cases**")
        for case in view.cases:
            _case(case, grey=grey)


def _case(case: ReviewCase, *, grey: bool) -> None:
    review = case.review
    is_open = review.state == ReviewState.OPEN
    note = f": {labels.plain(review.note)}" if review.note else ""
    st.markdown(
        f"{labels.badge(labels.REVIEW, review.reason, grey=grey or not is_open)} "
        + (
            f"open for {clock.span(console().now() - review.opened_at)}"
            if is_open
            else f"{labels.resolution(review.resolution, review.resolved_by)}{note}"
        )
        + f"  \n:small[:gray[{labels.sentence(review.detail)}]]"
    )
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.page_link(
            "reviews.py", label="Open case", icon=":material/side_navigation:", query_params={"case": review.review_id}
        )
        if claim := review_case.claimed(case):
            st.markdown(f":small[{claim}]", width="content")


def release(view: OrderView, *, grey: bool) -> None:
    job = view.release
    if job is None:
        return
    with st.container(border=True):
        st.markdown(f"**Release job** {labels.badge(labels.RELEASE, job.state, grey=grey)}")
        touched = clock.ago(job.updated_at, console().now())
        st.caption(f"{release_job.attempts(job)} · touched {touched} · {labels.plain(job.reason)}")
        if job.last_error:
            st.caption(f"Latest error: {labels.sentence(job.last_error)}")


def commands(view: OrderView) -> None:
    if not view.commands:
        return
    with st.container(border=True):
        st.markdown("**Commands**")
        for command in view.commands[:8]:
            actions.draw(command)
