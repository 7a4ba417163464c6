"""One order: its state, its timeline, and the actions on it. Deep link: ``/order?order=ID``."""

from __future__ import annotations

import streamlit as st

from pages.parts import access, actions, address, comparison, dialogs, frame, labels, order_panels
from pages.parts.widgets import empty, paging, timeline
from services.console.cache import Reading
from services.console.facade import console, same_sight_key
from services.console.orders import OrderView
from services.domain.commands import CommandKind
from services.domain.orders.model import OrderStatus, ReleaseState
from services.domain.reviews import ReviewState
from state.commands import Command
from state.releases import Release


def the_order() -> None:
    actions.flash()
    order_id = _asked_for()
    if not order_id:
        empty.nothing_matches("The address names no order. Find one in the list of orders.")
        st.page_link("orders.py", label="Find an order", icon=":material/search:")
        return
    reading = console().orders.order(order_id)
    if reading.value is None:
        _missing(order_id, reading)
        return
    frame.as_of(reading, f"version {reading.value.order.version}")
    _actions(reading.value)
    _columns(reading)
    left, right = st.columns([3, 2])
    with left:
        _timeline(reading)
        order_panels.events(reading)
    with right:
        _both_sides(reading)
        order_panels.facts(reading.value)
        order_panels.cases(reading)
        order_panels.release(reading)
        order_panels.commands(reading.value)


def _both_sides(reading: Reading[OrderView]) -> None:
    """The order compared with the Inventory Service, which is called only when the toggle is on."""
    view = reading.value
    assert view is not None  # noqa: S101 - the caller has looked
    if not st.toggle(
        "Compare with the Inventory Service",
        key=f"compare_{view.order.order_id}",
        bind="query-params",
        help="Looks up the stock of this order at the Inventory Service.",
    ):
        return
    say = console().reviews.inventory_lookup(view.order.order_id)
    if say.value is not None:
        comparison.draw(view.order, say.value, grey=bool(reading.problem or say.problem))


def _asked_for() -> str:
    return address.get("order")[:128]


def _missing(order_id: str, reading: Reading[OrderView]) -> None:
    if reading.as_of is None:
        empty.no_source(reading)
    else:
        frame.as_of(reading)
        empty.nothing_matches(f"No order {labels.plain(order_id)} exists.")
        st.page_link("orders.py", label="Find an order", icon=":material/search:")


def _actions(view: OrderView) -> None:
    block = access.write_block()
    last = next((command for command in view.commands if command.kind == CommandKind.CANCEL_ORDER), None)
    reason = block or _why_not_cancel(view) or ("A cancel is under way." if actions.is_waiting(last) else None)
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button(
            "Cancel order",
            key="cancel_order",
            icon=":material/cancel:",
            disabled=reason is not None,
            help=reason or access.write_note(),
        ):
            dialogs.cancel_order(view.order)
        returning = block or (
            None if view.can_return else "Only confirmed items that are not returned yet can be returned."
        )
        if st.button(
            "Return items",
            key="return_items",
            icon=":material/undo:",
            disabled=returning is not None,
            help=returning or access.write_note(),
        ):
            dialogs.return_items(view.order)
        if view.release and view.release.state != ReleaseState.DONE:
            _retry_button(view, view.release, block)
        if reason and not block:
            st.caption(reason, width="content")
    for command in view.commands:
        if actions.can_undo(command):
            _delayed(command)


def _delayed(command: Command) -> None:
    """A command on the order or on one of its cases that can still be undone."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"held_{command.command_id}"):
        st.markdown(f":small[{actions.summary(command)}]", width="content")
        actions.undo_button(command, key=f"undo_{command.command_id}")


def _why_not_cancel(view: OrderView) -> str | None:
    if view.can_cancel:
        return None
    if view.order.cancel_reason and view.order.status == OrderStatus.PAYING:
        return "A cancel waits for the outcome of the payment."
    return f"An order that is {labels.text(labels.ORDER, view.order.status).lower()} cannot be cancelled."


def _retry_button(view: OrderView, job: Release, block: str | None) -> None:
    last = next((command for command in view.commands if command.target_id == job.order_id), None)
    reason = block or ("A command on this order is under way." if actions.is_waiting(last) else None)
    st.button(
        "Retry release",
        key="retry_release",
        icon=":material/replay:",
        disabled=reason is not None,
        help=reason or access.write_note() or "One attempt now. Key: T",
        shortcut="T",
        on_click=_retry,
        args=(job, same_sight_key(CommandKind.RETRY_RELEASE, job.order_id, job.version, last)),
    )


def _retry(job: Release, key: str) -> None:
    actions.store(lambda actor: console().releases.retry(job.order_id, actor=actor, command_id=key))


def _columns(reading: Reading[OrderView]) -> None:
    """The order's four states, side by side."""
    view = reading.value
    assert view is not None  # noqa: S101 - the caller has looked
    grey = bool(reading.problem)
    opened = [case.review.reason for case in view.cases if case.review.state == ReviewState.OPEN]
    review = " ".join(labels.badge(labels.REVIEW, reason, grey=grey) for reason in opened) or ":gray[none open]"
    states = (
        ("Order", labels.badge(labels.ORDER, view.order.status, grey=grey)),
        ("Inventory", labels.badge(labels.INVENTORY, view.order.inventory_status, grey=grey)),
        ("Payment", labels.badge(labels.PAYMENT, view.order.payment_status, grey=grey)),
        ("Review", review),
    )
    with st.grid(4, min_column_width=200):
        for label, badge in states:
            with st.container(
                border=True, height="stretch", gap="xsmall", horizontal=True, vertical_alignment="center",
                horizontal_alignment="distribute",
            ):  # fmt: skip
                st.caption(label, width="content")
                st.markdown(badge, width="content")


def _timeline(reading: Reading[OrderView]) -> None:
    view = reading.value
    with st.container(border=True):
        st.markdown("**Timeline**")
        if view and view.timeline:
            timeline.draw(view.timeline, reading)
        else:
            st.caption("Nothing has been recorded.")


asked = _asked_for()
st.page_link(
    # With the order's id the list restores its filters, as after a step back in the browser.
    "orders.py", label="Orders", icon=":material/arrow_back:", query_params={"order": asked} if asked else None
)  # fmt: skip
frame.page(f"Order {labels.plain(asked)}" if asked else "Order", the_order, fixed=paging.remember_lists)
