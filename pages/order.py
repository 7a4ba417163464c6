"""One order: its state, its timeline, and the actions on it. Deep link: ``/order?order=ID``."""

from __future__ import annotations

import streamlit as st

from pages.parts import access, actions, address, comparison, dialogs, frame, labels, order_panels, release_job
from pages.parts.widgets import empty, history, orders, paging
from services.console.facade import console
from services.console.orders import OrderView
from services.domain.commands import CommandKind
from services.domain.orders.model import OrderStatus, ReleaseState
from services.domain.reviews import ReviewState


def the_order() -> None:
    order_id = _asked_for()
    if not order_id:
        empty.nothing_matches("The address names no order. Find one in the list of orders.")
        _find_link()
        return
    reading = console().orders.order(order_id)
    view, grey = reading.value, bool(reading.problem)
    if view is None:
        frame.missing(reading, f"No order {labels.plain(order_id)} exists.")
        if reading.as_of is not None:
            _find_link()
        return
    frame.as_of(reading, f"version {view.order.version}")
    _actions(view)
    _columns(view, grey=grey)
    left, right = st.columns([3, 2])
    with left:
        with st.container(border=True):
            st.markdown("**Timeline**")
            if view.timeline:
                history.timeline(view.timeline, reading)
            else:
                st.caption("Nothing has been recorded.")
        order_panels.events(view, grey=grey)
    with right:
        _compare(view, grey=grey)
        order_panels.facts(view)
        order_panels.cases(view, grey=grey)
        order_panels.release(view, grey=grey)
        order_panels.commands(view)


def _asked_for() -> str:
    return address.get("order")[:128]


def _find_link() -> None:
    st.page_link("orders.py", label="Find an order", icon=":material/search:")


def _compare(view: OrderView, *, grey: bool) -> None:
    """The order beside its inventory status. A lookup is stored only when the toggle is on."""
    if not st.toggle(
        "Compare with the Inventory Service",
        key=f"compare_{view.order.order_id}",
        bind="query-params",
        help="Looks up the stock of this order at the Inventory Service.",
    ):
        return
    reading = console().reviews.inventory_lookup(view.order.order_id)
    if reading.value is not None:
        comparison.draw(view.order, reading.value, grey=grey or bool(reading.problem))


def _actions(view: OrderView) -> None:
    cancel = next((command for command in view.commands if command.kind == CommandKind.CANCEL_ORDER), None)
    reason = _why_not_cancel(view) or actions.if_waiting(cancel, "A cancel is under way.")
    with st.container(horizontal=True, vertical_alignment="center"):
        if access.button("Cancel order", "cancel_order", icon="cancel", refused=reason, hint=access.write_note()):
            dialogs.cancel_order(view.order)
        returning = None if view.can_return else "Only confirmed items that are not returned yet can be returned."
        if access.button("Return items", "return_items", icon="undo", refused=returning, hint=access.write_note()):
            dialogs.return_items(view.order)
        if view.release and view.release.state != ReleaseState.DONE:
            job = view.release
            last = next((command for command in view.commands if command.target_id == job.order_id), None)
            release_job.retry_button(job, last, None, "retry_release", "Retry release", shortcut="T")
        if reason and not access.write_block():
            st.caption(reason, width="content")
    for command in view.commands:
        if actions.can_undo(command):
            actions.draw(command, f"undo_{command.command_id}")


def _why_not_cancel(view: OrderView) -> str | None:
    if view.can_cancel:
        return None
    if view.order.cancel_reason and view.order.status == OrderStatus.PAYING:
        return "A cancel waits for the outcome of the payment."
    return f"An order that is {labels.text(labels.ORDER, view.order.status).lower()} cannot be cancelled."


def _columns(view: OrderView, *, grey: bool) -> None:
    """The order's four states, side by side."""
    opened = [case.review.reason for case in view.cases if case.review.state == ReviewState.OPEN]
    review = " ".join(labels.badge(labels.REVIEW, reason, grey=grey) for reason in opened) or ":gray[none open]"
    with st.grid(4, min_column_width=200):
        for label, badge in (*orders.states(view.order, grey=grey), ("Review", review)):
            with st.container(
                border=True, height="stretch", gap="xsmall", horizontal=True, vertical_alignment="center",
                horizontal_alignment="distribute",
            ):  # fmt: skip
                st.caption(label, width="content")
                st.markdown(badge, width="content")


asked = _asked_for()
st.page_link(
    "orders.py",
    label="Orders",
    icon=":material/arrow_back:",
    # With the order's id the list restores its bound filters, as after a step back in the browser.
    query_params={name: value for name in ("order", "inventory") if (value := address.get(name)[:128])} or None,
)
frame.page(f"Order {labels.plain(asked)}" if asked else "Order", the_order, fixed=paging.remember_lists)
